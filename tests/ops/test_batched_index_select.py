"""batched_index_select by hand, against torch's own selections, and its gradient."""

from __future__ import annotations

import pytest
import torch

from fastrl.ops import batched_index_select

SHAPES = [
    ((3, 5), 1),
    ((3, 4, 5), 1),
    ((3, 4, 5), 2),
    ((3, 4, 5), -1),
    ((2, 3, 4, 5), 2),
    ((2, 3, 4, 5), -3),
    ((2, 3, 2, 4, 5), 3),
]


def test_numbers_worked_out_by_hand(device: torch.device) -> None:
    given = torch.tensor([[[1, 2], [3, 4], [5, 6]], [[10, 20], [30, 40], [50, 60]]], device=device)
    index = torch.tensor([[2, 0], [1, 1]], device=device)
    assert batched_index_select(given, 1, index).tolist() == [[[5, 6], [1, 2]], [[30, 40], [30, 40]]]
    assert batched_index_select(given, 2, index % 2).tolist() == [
        [[1, 1], [3, 3], [5, 5]],
        [[20, 20], [40, 40], [60, 60]],
    ]


@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_is_gather_with_the_index_spread_out(shape: tuple[int, ...], dim: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(shape, generator=generator, dtype=torch.float64).to(device)
    index = torch.randint(0, shape[dim], (shape[0], 6), generator=generator).to(device)
    axis = dim % len(shape)
    spread = index.view(shape[0], *[1] * (axis - 1), 6, *[1] * (len(shape) - axis - 1))
    spread = spread.expand(*shape[:axis], 6, *shape[axis + 1 :])
    weights = torch.randn(spread.shape, generator=generator, dtype=torch.float64).to(device)
    gradients = []
    for function in (lambda x: batched_index_select(x, dim, index), lambda x: x.gather(axis, spread)):
        variable = given.clone().requires_grad_()
        selected = function(variable)
        (selected * weights).sum().backward()
        gradients.append((selected.detach(), variable.grad))
    (ours, our_gradient), (theirs, their_gradient) = gradients
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_axes_that_cannot_be_flattened(device: torch.device) -> None:
    given = (
        torch.arange(2 * 3 * 4 * 5, device=device).view(2, 4, 5, 3).permute(0, 3, 1, 2)[:, :, :, ::2]
    )  # [2, 3, 4, 3]
    index = torch.tensor([[1, 0], [2, 2]], device=device)
    for dim in (1, 2, 3):
        assert torch.equal(
            batched_index_select(given, dim, index), batched_index_select(given.contiguous(), dim, index)
        )


def test_gradients_of_half_precision_add_up_in_float32(device: torch.device) -> None:
    given = torch.zeros(1, 2, 3, dtype=torch.bfloat16, device=device, requires_grad=True)
    batched_index_select(given, 1, torch.zeros(1, 600, dtype=torch.int64, device=device)).sum().backward()
    assert given.grad is not None and given.grad.tolist() == [[[600.0] * 3, [0.0] * 3]]


def test_an_expanded_gradient_is_taken(device: torch.device) -> None:
    given = torch.zeros(2, 3, device=device, requires_grad=True)
    batched_index_select(given, 1, torch.tensor([[0, 0], [2, 1]], device=device)).sum().backward()
    assert given.grad is not None and given.grad.tolist() == [[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
