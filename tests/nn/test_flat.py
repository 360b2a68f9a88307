import torch
from torch import nn

from fastrl.nn.flat import FlatParameters


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_an_optimiser_over_the_whole_does_what_one_over_the_parts_does():
    parts, whole = network(), network()
    flat = FlatParameters(whole.parameters())
    ordinary = torch.optim.AdamW(parts.parameters(), lr=0.1)
    joined = torch.optim.AdamW([flat.whole], lr=0.1)
    x = torch.randn(5, 3)
    for scale in (1.0, 100.0):  # the second gradient is clipped
        ordinary.zero_grad()
        flat.zero_grad()
        (scale * parts(x).square().sum()).backward()
        (scale * whole(x).square().sum()).backward()
        norm = nn.utils.clip_grad_norm_(parts.parameters(), 5.0)
        torch.testing.assert_close(flat.clip_grad_norm_(5.0), norm)
        ordinary.step()
        joined.step()
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_modules_state_stays_their_own():
    module = network()
    flat = FlatParameters(module.parameters())
    module.load_state_dict({name: torch.ones_like(value) for name, value in module.state_dict().items()})
    assert flat.whole.detach().eq(1).all() and flat.whole.numel() == sum(p.numel() for p in module.parameters())
    shared = nn.Linear(2, 2, bias=False)
    assert FlatParameters([shared.weight, shared.weight]).whole.numel() == 4
