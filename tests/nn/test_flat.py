"""Parameters side by side: the same steps as apart, and still the modules' own whatever is done to these."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from fastrl.errors import SettingError
from fastrl.nn.flat import FlatParameters
from fastrl.nn.kept import KeptParameters


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def step(module, flat, optimizer, scale=1.0):
    flat.follow()
    flat.zero_grad()
    (scale * module(torch.ones(5, 3)).square().sum()).backward()
    flat.clip_grad_norm_(5.0)
    flat.step(optimizer)


def values(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_optimiser_over_the_whole_does_what_one_over_the_parts_does():
    parts, whole = network(), network()
    flat = FlatParameters([whole])
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
        flat.step(joined)
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_modules_state_stays_their_own():
    module = network()
    flat = FlatParameters([module])
    module.load_state_dict({name: torch.ones_like(value) for name, value in module.state_dict().items()})
    assert flat.whole.detach().eq(1).all() and flat.whole.numel() == sum(
        p.numel() for p in module.parameters()
    )
    shared = nn.Linear(2, 2, bias=False)
    assert FlatParameters([shared, nn.Sequential(shared)]).whole.numel() == 4


def converted(module, *, swap):
    """Through float64 and back, with one of torch's two other ways of giving a module its new parameters."""
    name = "set_swap_module_params_on_conversion" if swap else "set_overwrite_module_params_on_conversion"
    getattr(torch.__future__, name)(True)
    try:
        module.double().float()
        module.load_state_dict({key: value.clone() for key, value in module.state_dict().items()})
    finally:
        getattr(torch.__future__, name)(False)


def from_vector(module):
    vector = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    nn.utils.vector_to_parameters(vector, module.parameters())


CHANGES = {
    "load_state_dict(assign=True)": lambda m: m.load_state_dict(
        {k: v.clone() for k, v in m.state_dict().items()}, assign=True
    ),
    "double().float()": lambda m: m.double().float(),
    "data": lambda m: [setattr(p, "data", p.data.clone()) for p in m.parameters()],
    "one layer's data": lambda m: setattr(m[0].weight, "data", m[0].weight.data.clone()),
    "zero_grad": lambda m: m.zero_grad(),
    "a new layer": lambda m: m.__setitem__(2, copy.deepcopy(m[2])),
    "a new parameter": lambda m: setattr(m[0], "bias", nn.Parameter(m[0].bias.detach().clone())),
    "share_memory": lambda m: m.share_memory(),
    "converted, parameters overwritten": lambda m: converted(m, swap=False),
    "converted, parameters swapped": lambda m: converted(m, swap=True),
    "vector_to_parameters": from_vector,
    "gradients of one's own": lambda m: [setattr(p, "grad", torch.ones_like(p)) for p in m.parameters()],
    "frozen and free again": lambda m: m.requires_grad_(False).requires_grad_(True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_steps_after_a_change_that_keeps_the_values_are_the_steps_without_it(change):
    ends = []
    for changes in (False, True):
        module = network()
        flat = FlatParameters([module])
        optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
        step(module, flat, optimizer)
        if changes:
            CHANGES[change](module)
        step(module, flat, optimizer)
        ends.append(values(module))
        assert all(own is there for own, there in zip(flat.parameters, module.parameters(), strict=True))
    assert equal(*ends)


def test_new_values_count():
    module = network()
    flat = FlatParameters([module])
    module.load_state_dict(
        {name: torch.ones_like(value) for name, value in module.state_dict().items()}, assign=True
    )
    flat.follow()
    assert flat.whole.detach().eq(1).all()


def test_shared_parameters_stay_shared():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    flat = FlatParameters([module])
    module.load_state_dict(
        {name: torch.ones_like(value) for name, value in module.state_dict().items()}, assign=True
    )
    flat.follow()
    assert (
        module[1].weight is module[0].weight and flat.whole.numel() == 8 and flat.whole.detach().eq(1).all()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda m: m.double(),
            r"0.weight of Sequential is float64 \[4, 3\] on cpu now and was float32 \[4, 3\] on cpu when "
            r"its optimiser",
        ),
        (lambda m: m.to("meta"), "on meta now and was .* on cpu"),
        (lambda m: m.__setitem__(2, nn.Linear(4, 3)), r"2.weight of Sequential is float32 \[3, 4\]"),
        (lambda m: m.__delitem__(2), "2.weight of Sequential is gone"),
        (lambda m: nn.utils.parametrizations.weight_norm(m[0]), "0.weight of Sequential is gone"),
        (lambda m: m.append(nn.Linear(2, 2)), "3.weight of Sequential requires a gradient.* or is new"),
    ],
)
@pytest.mark.parametrize("kind", [KeptParameters, FlatParameters])
def test_what_cannot_be_followed_is_said_and_changes_nothing(change, words, kind):
    module = network()
    kept = kind([module])
    change(module)
    before = list(module.parameters())
    for _ in range(2):
        with pytest.raises(SettingError, match=words):
            kept.follow()
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))


def test_parameters_that_were_frozen_at_first_cannot_be_freed_later():
    module = network()
    module[0].requires_grad_(False)
    flat = FlatParameters([module], trained_only=True)
    flat.follow()
    module[0].requires_grad_(True)
    with pytest.raises(SettingError, match="0.weight of Sequential requires a gradient, which it did not"):
        flat.follow()


CLEARED = {
    "by the module": lambda module, optimizer: module.zero_grad(),
    "by the optimiser": lambda module, optimizer: optimizer.zero_grad(),
    "by both": lambda module, optimizer: (module.zero_grad(), optimizer.zero_grad()),
    "one of them": lambda module, optimizer: setattr(module[0].weight, "grad", None),
}


@pytest.mark.parametrize("clear", CLEARED)
def test_gradients_that_are_cleared_before_backward_are_collected(clear):
    ends = []
    for clears in (False, True):
        module = network()
        flat = FlatParameters([module])
        optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
        for scale in (1.0, 100.0):
            flat.follow()
            flat.zero_grad()
            if clears:
                CLEARED[clear](module, optimizer)
            (scale * module(torch.ones(5, 3)).square().sum()).backward()
            norm = flat.clip_grad_norm_(5.0)
            flat.step(optimizer)
        ends.append([norm, *values(module)])
    assert equal(*ends)


def test_a_parameter_without_a_gradient_of_its_own_does_not_keep_an_old_one():
    module = network()
    flat = FlatParameters([module])
    step(module, flat, torch.optim.SGD([flat.whole], lr=0.1))
    module.zero_grad()  # and no backward after it
    assert flat.clip_grad_norm_(5.0) == 0.0


def test_parameters_that_are_moved_in_the_middle_of_an_update_are_an_error():
    module = network()
    flat = FlatParameters([module])
    optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
    flat.follow()
    module(torch.ones(5, 3)).square().sum().backward()
    module[0].weight.data = module[0].weight.data.clone()
    before = values(module)
    with pytest.raises(RuntimeError, match="replaced in the middle of an update"):
        flat.step(optimizer)
    assert equal(values(module), before)
    step(module, flat, optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(values(module), before, strict=True))


def test_parameters_that_went_to_another_device_and_came_back_are_followed(device):
    ends = []
    for moves in (False, True):
        module = network()
        flat = FlatParameters([module])
        optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
        step(module, flat, optimizer)
        if moves:
            module.to(device)
            if device.type != "cpu":
                with pytest.raises(SettingError, match="on cuda:0 now and was .* on cpu"):
                    flat.follow()
            module.to("cpu")
        step(module, flat, optimizer)
        ends.append(values(module))
    assert equal(*ends)


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), saved])
def test_a_copy_goes_on_as_the_original_does_and_by_itself(make):
    module = network()
    flat = FlatParameters([module])
    optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
    step(module, flat, optimizer)
    before = values(module)
    other, other_flat, other_optimizer = make((module, flat, optimizer))
    step(other, other_flat, other_optimizer)
    assert equal(values(module), before) and not equal(values(other), before)
    step(module, flat, optimizer)
    assert equal(values(module), values(other))


OPTIMIZERS = [
    lambda p: torch.optim.AdamW(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, weight_decay=0.1),
]


@pytest.mark.parametrize("optimizer_of", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 2])
def test_frozen_parameters_stand_still_and_go_on_when_they_are_free(optimizer_of, before):
    module = network()
    flat = FlatParameters([module])
    optimizer = optimizer_of([flat.whole])
    for _ in range(before):
        step(module, flat, optimizer)
    state = copy.deepcopy(optimizer.state_dict()["state"])
    module[0].requires_grad_(False)
    start = values(module)
    for _ in range(3):
        step(module, flat, optimizer, scale=100.0)
    frozen, moved = values(module)[:2], values(module)[2:]
    assert equal(frozen, start[:2]) and not any(
        torch.equal(a, b) for a, b in zip(moved, start[2:], strict=True)
    )
    here = slice(0, 16)
    for name, value in optimizer.state_dict()["state"][0].items():
        if value.dim():
            assert torch.equal(value[here], state[0][name][here] if before else torch.zeros(16)), name
    module[0].requires_grad_(True)
    step(module, flat, optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(values(module)[:2], frozen, strict=True))


def test_what_is_put_in_frozen_stays_frozen():
    module = network()
    flat = FlatParameters([module])
    module[0].weight = nn.Parameter(torch.ones_like(module[0].weight), requires_grad=False)
    step(module, flat, torch.optim.AdamW([flat.whole], lr=0.1))
    assert bool((module[0].weight == 1.0).all()) and not module[0].weight.requires_grad


def test_nothing_moves_where_all_is_frozen():
    module = network()
    flat = FlatParameters([module])
    optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
    step(module, flat, optimizer)
    module.requires_grad_(False)
    start = values(module)
    flat.follow()
    flat.zero_grad()
    flat.step(optimizer)
    assert flat.all_frozen and equal(values(module), start)


def test_a_layer_that_is_wrapped_is_followed_and_so_is_what_is_loaded_into_it():
    """As `torch.compile` wraps it: the parameters are the same, their names are others."""
    module = network()
    flat = FlatParameters([module])
    optimizer = torch.optim.AdamW([flat.whole], lr=0.1)
    step(module, flat, optimizer)
    first = module[0]
    module[0] = nn.Sequential(first)
    before = values(module)
    step(module, flat, optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(values(module), before, strict=True))
    module.load_state_dict(
        {name: torch.ones_like(value) for name, value in module.state_dict().items()}, assign=True
    )
    flat.follow()
    assert bool((flat.whole == 1.0).all()) and first.weight is flat.parameters[0]
    module[0] = first
    before = values(module)
    step(module, flat, optimizer)
    assert not any(torch.equal(a, b) for a, b in zip(values(module), before, strict=True))
