"""memory_window_gather by hand, against the published way, its gradient, and its `out`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrl.ops import memory_window_gather
from fastrl.testing import OP_CASES

CASE = OP_CASES["memory_window_gather"]
GARBAGE = -(2**40)


def test_numbers_worked_out_by_hand(device: torch.device) -> None:
    memory = torch.tensor(
        [[[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]], [[[10.0, 20.0]], [[30.0, 40.0]], [[50.0, 60.0]]]],
        device=device,
    )
    position = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], device=device)
    episode = torch.tensor([1, 0], device=device)
    index = torch.tensor([[0, 2], [1, 1]], device=device)
    mask = torch.tensor([[True, True], [True, False]], device=device)
    windows = memory_window_gather(memory, episode, index, mask=mask, position=position)
    expected = torch.tensor([[[[10.1, 20.2]], [[50.5, 60.6]]], [[[3.3, 4.4]], [[0.0, 0.0]]]], device=device)
    torch.testing.assert_close(windows, expected)


def test_windows_of_consecutive_slots_and_of_any_others(device: torch.device) -> None:
    """Runs of neighbours are copied in one go; they may start, end and turn anywhere."""
    memory = torch.arange(3 * 40 * 2 * 5, device=device).view(3, 40, 2, 5)
    rows = [
        list(range(10)),
        list(range(30, 40)),
        list(range(9, -1, -1)),
        [0, 1, 2, 7, 8, 9, 20, 20, 20, 21],
        [
            39,
            0,
            39,
            0,
            1,
            2,
            3,
            38,
            39,
            0,
        ],  # the last slot of an episode and the first of the next lie side by side
    ]
    index = torch.tensor(rows, device=device)
    for episode in (
        torch.tensor([0, 1, 2, 1, 0], device=device),
        torch.tensor([0, 0, 1, 1, 1], device=device),
    ):
        windows = memory_window_gather(memory, episode, index)
        for b, row in enumerate(rows):
            assert torch.equal(windows[b], memory[episode[b]][row])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.complex128], ids=str)
def test_where_masked_nothing_is_read(dtype: torch.dtype, device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, torch.float32, device)
    if dtype != torch.float32:
        inputs |= {"memory": inputs["memory"].to(dtype), "position": None}
    expected = memory_window_gather(**inputs)
    garbage = torch.where(inputs["mask"], inputs["index"], GARBAGE)
    assert torch.equal(memory_window_gather(**{**inputs, "index": garbage}), expected)
    assert not expected[~inputs["mask"]].any()
    nothing = memory_window_gather(
        **{**inputs, "index": torch.full_like(garbage, GARBAGE), "mask": torch.zeros_like(inputs["mask"])}
    )
    assert not nothing.any()


def test_not_finite_memory_stays_out_of_masked_windows(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, device=device)
    inputs["memory"].fill_(float("nan"))
    windows = memory_window_gather(**inputs)
    assert not windows[~inputs["mask"]].any() and windows[inputs["mask"]].isnan().all()


def loss_gradients(function: Any, inputs: dict[str, Any], weights: Tensor) -> tuple[Tensor, Tensor]:
    memory, position = inputs["memory"].clone().requires_grad_(), inputs["position"].clone().requires_grad_()
    (function(**{**inputs, "memory": memory, "position": position}) * weights).sum().backward()
    assert memory.grad is not None and position.grad is not None
    return memory.grad, position.grad


@pytest.mark.parametrize("masked", [True, False])
def test_the_gradient_is_index_add(masked: bool, device: torch.device) -> None:
    for seed, sizes in enumerate(CASE.sizes):
        inputs = CASE.inputs(sizes, torch.float64, device, seed)
        episodes, slots, layers, dim, batch, window = sizes
        weights = torch.randn(batch, window, layers, dim, dtype=torch.float64).to(device)
        if not masked:
            inputs["mask"] = None
        to_memory, to_position = loss_gradients(memory_window_gather, inputs, weights)
        if masked:
            weights = weights * inputs["mask"][:, :, None, None]
        flat = (inputs["episode"][:, None] * slots + inputs["index"]).flatten()
        expected = (
            torch.zeros_like(inputs["memory"])
            .view(episodes * slots, layers, dim)
            .index_add(0, flat, weights.flatten(0, 1))
        )
        torch.testing.assert_close(to_memory.view_as(expected), expected)
        expected = torch.zeros_like(inputs["position"]).index_add(
            0, inputs["index"].flatten(), weights.sum(2).flatten(0, 1)
        )
        torch.testing.assert_close(to_position, expected)


def test_gradients_for_one_of_the_two_and_with_garbage_behind_the_mask(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, torch.float64, device)
    inputs["index"] = torch.where(inputs["mask"], inputs["index"], GARBAGE)
    weights = torch.randn(6, 4, 2, 7, dtype=torch.float64).to(device)
    both = loss_gradients(memory_window_gather, inputs, weights)
    for name, expected in zip(("memory", "position"), both, strict=True):
        variable = inputs[name].clone().requires_grad_()
        (memory_window_gather(**{**inputs, name: variable}) * weights).sum().backward()
        assert variable.grad is not None and torch.equal(variable.grad, expected)


def test_gradients_of_half_precision_add_up_in_float32(device: torch.device) -> None:
    memory = torch.zeros(1, 1, 1, 3, dtype=torch.bfloat16, device=device, requires_grad=True)
    zeros = torch.zeros(300, 2, dtype=torch.int64, device=device)
    memory_window_gather(memory, zeros[:, 0], zeros).sum().backward()
    assert (
        memory.grad is not None and (memory.grad == 600).all()
    )  # added one by one in bfloat16 it would stop at 256


def test_out_is_written_and_returned(device: torch.device) -> None:
    for sizes in (*CASE.sizes, *CASE.empty_sizes):
        for changes in ({}, {"position": None}, {"position": None, "mask": None}):
            inputs = CASE.inputs(sizes, device=device) | changes
            expected = memory_window_gather(**inputs)
            out = torch.full_like(expected, 7.0)
            assert memory_window_gather(**inputs, out=out) is out
            assert torch.equal(out, expected)


BAD_OUTS: list[tuple[str, type[Exception], str, Callable[[Tensor, Tensor], object]]] = [
    (
        "of another shape",
        ValueError,
        r"out must have shape \[B, W, L, D\] = \[6, 4, 2, 7\], got \[6, 4, 7\]",
        lambda out, _: out[:, :, 0],
    ),
    (
        "of another dtype",
        TypeError,
        "out must have the dtype of memory, torch.float32, got torch.float64",
        lambda out, _: out.double(),
    ),
    (
        "not contiguous",
        ValueError,
        "out must be contiguous",
        lambda out, _: out.transpose(2, 3).contiguous().transpose(2, 3),
    ),
    ("a list", TypeError, "out must be a torch.Tensor, got list", lambda out, _: [out]),
    ("on another device", ValueError, "out must be on the device of memory", lambda out, _: out.to("meta")),
    (
        "over the memory",
        ValueError,
        "out must not share memory with memory",
        lambda _, storage: storage[200:536].view(6, 4, 2, 7),
    ),
    ("negated", ValueError, "out must not be a negated view", lambda out, _: torch._neg_view(out)),
    (
        "with a gradient",
        ValueError,
        "out must not be given where gradients are wanted",
        lambda out, _: out.requires_grad_(),
    ),
]


@pytest.mark.parametrize(
    ("error", "message", "change"), [case[1:] for case in BAD_OUTS], ids=[case[0] for case in BAD_OUTS]
)
def test_bad_out_is_refused(error: type[Exception], message: str, change: Any) -> None:
    storage = torch.randn(1000)  # room behind the memory for an `out` that reaches into it
    inputs = CASE.inputs(CASE.small)
    memory = storage[:210].view(3, 5, 2, 7).copy_(inputs["memory"])
    inputs["memory"] = memory
    with pytest.raises(error, match=f"^memory_window_gather: {message}"):
        memory_window_gather(**inputs, out=change(torch.empty(6, 4, 2, 7), storage))


def test_out_is_refused_where_gradients_are_wanted_and_taken_where_not() -> None:
    inputs = CASE.inputs(CASE.small)
    inputs["memory"].requires_grad_()
    out = torch.empty(6, 4, 2, 7)
    with pytest.raises(ValueError, match="out must not be given where gradients are wanted"):
        memory_window_gather(**inputs, out=out)
    with torch.no_grad():
        assert torch.equal(memory_window_gather(**inputs, out=out), memory_window_gather(**inputs))


def test_a_conjugated_out_is_refused() -> None:
    inputs = CASE.inputs(CASE.small, position=None)
    inputs["memory"] = inputs["memory"].to(torch.complex64)
    with pytest.raises(ValueError, match="^memory_window_gather: out must not be a conjugated view"):
        memory_window_gather(**inputs, out=torch.empty(6, 4, 2, 7, dtype=torch.complex64).conj())


def test_a_gradient_of_what_out_held_before_is_refused(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, device=device)
    weights = torch.ones(6, 4, 2, 7, device=device, requires_grad=True)
    out = torch.empty_like(weights, requires_grad=False)
    loss = (memory_window_gather(**inputs, out=out) * weights).sum()
    assert torch.equal(torch.autograd.grad(loss, weights, retain_graph=True)[0], out)
    memory_window_gather(**inputs, out=out[:3].new_empty(out.shape))  # another one does no harm
    torch.autograd.grad(loss, weights, retain_graph=True)
    memory_window_gather(**inputs, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, weights)
    with torch.inference_mode():  # tensors without a version
        assert torch.equal(memory_window_gather(**inputs, out=torch.empty_like(out)), out)


def test_opcheck_and_compilation_with_out() -> None:
    inputs = CASE.inputs(CASE.small)
    arguments = tuple(inputs[name] for name in ("memory", "episode", "index", "mask", "position"))
    torch.library.opcheck(
        torch.ops.fastrl.memory_window_gather.out, arguments, {"out": torch.empty(6, 4, 2, 7)}
    )
    compiled = torch.compile(
        lambda out: memory_window_gather(**inputs, out=out) + 1, fullgraph=True, backend="aot_eager"
    )
    out = torch.empty(6, 4, 2, 7)
    assert torch.equal(compiled(out), memory_window_gather(**inputs) + 1)
    assert torch.equal(out, memory_window_gather(**inputs))


def test_values_on_other_devices_are_looked_at_on_request(
    monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    monkeypatch.setenv("FASTRL_DEBUG", "1")
    inputs = CASE.inputs(CASE.small, device=device, mask=None)
    expected = memory_window_gather(**inputs)
    assert torch.equal(memory_window_gather(**inputs), expected)
    with pytest.raises(
        IndexError, match=r"memory_window_gather: episode must be in \[0, E\) = \[0, 3\), got 3"
    ):
        memory_window_gather(**{**inputs, "episode": inputs["episode"] * 0 + 3})


@pytest.mark.slow
def test_offsets_beyond_two_to_the_31() -> None:
    """A source and a target of more than 2^31 elements, and rows read and written at both ends of them."""
    dim = 1 << 20
    memory = torch.empty(2, 1100, 1, dim, dtype=torch.uint8)
    memory.view(2, 1100, dim)[:, :, 0] = (torch.arange(2200) % 251).to(torch.uint8).view(2, 1100)
    memory.view(2, 1100, dim)[:, :, -1] = (torch.arange(2200) % 241).to(torch.uint8).view(2, 1100)
    episode, index = torch.tensor([1, 0]), torch.arange(1099, -1, -1).expand(2, 1100)
    windows = memory_window_gather(memory, episode, index).view(2, 1100, dim)
    assert memory.numel() > 2**31 and windows.numel() > 2**31
    slots = torch.stack([1100 + index[0], index[0]])
    assert torch.equal(windows[:, :, 0], (slots % 251).to(torch.uint8)) and torch.equal(
        windows[:, :, -1], (slots % 241).to(torch.uint8)
    )
