"""memory_attention by hand, against projecting and attending over gathered windows, its gradients and its
edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from fastrl.ops import memory_attention, memory_attention_reference
from fastrl.testing import OP_CASES, layouts

CASE = OP_CASES["memory_attention"]
GARBAGE = -(2**40)
NAMES = ("query", "key", "value")


def gradients(
    inputs: dict[str, Any], weights: Tensor, function: Any = memory_attention
) -> tuple[Tensor, ...]:
    variables = {name: inputs[name].clone().requires_grad_() for name in NAMES}
    return torch.autograd.grad(
        (function(**{**inputs, **variables}) * weights).sum(), list(variables.values())
    )


def weights_for(inputs: dict[str, Any]) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(inputs["query"].shape, generator=generator).to(inputs["query"])


def assert_all_equal(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_numbers_worked_out_by_hand(device: torch.device) -> None:
    """Weights of 1 : 2 : 1 by scores of 0, ln 2 and 0."""
    query = torch.tensor([[[math.log(2.0), 5.0]]], device=device)
    key = torch.tensor([[[[0.0, 0.0]], [[9.0, 9.0]], [[1.0, 0.0]], [[0.0, 0.0]]]], device=device)
    value = torch.tensor([[[[4.0, 8.0]], [[99.0, 99.0]], [[8.0, 0.0]], [[0.0, 16.0]]]], device=device)
    episode, index = torch.tensor([0], device=device), torch.tensor([[0, 2, 3]], device=device)
    out = memory_attention(query, key, value, episode, index, scale=1.0)
    torch.testing.assert_close(out, torch.tensor([[[5.0, 6.0]]], device=device))
    inputs = {"query": query, "key": key, "value": value, "episode": episode, "index": index, "scale": 1.0}
    to_query, to_key, to_value = gradients(inputs, torch.tensor([[[1.0, 0.0]]], device=device))
    torch.testing.assert_close(
        to_value[0, :, 0], torch.tensor([[0.25, 0.0], [0.0, 0.0], [0.5, 0.0], [0.25, 0.0]], device=device)
    )
    # of the scores: 1/4 (4 - 5), 1/2 (8 - 5), 1/4 (0 - 5)
    to_scores = torch.tensor([-0.25, 0.0, 1.5, -1.25], device=device)
    torch.testing.assert_close(to_key[0, :, 0], to_scores[:, None] * query[0])
    torch.testing.assert_close(to_query[0, 0], torch.tensor([1.5, 0.0], device=device))


@pytest.mark.parametrize("masked", [True, False])
def test_it_is_projecting_and_attending_over_gathered_windows(masked: bool, device: torch.device) -> None:
    """Keys and values projected once for each slot, or for each sample and slot: the same numbers and
    gradients, of the projections too."""
    generator = torch.Generator().manual_seed(3)
    episodes, slots, heads, size, batch, window = 3, 30, 4, 6, 25, 12
    normal = lambda *sizes: torch.randn(*sizes, generator=generator, dtype=torch.float64).to(device)  # noqa: E731
    inputs = CASE.inputs((episodes, slots, heads, size, batch, window), torch.float64, device)
    episode, index, mask = (
        inputs["episode"],
        inputs["index"],
        inputs["mask"] if masked else torch.ones_like(inputs["mask"]),
    )
    mask[:, 0] = True
    memory, query = normal(episodes, slots, heads * size), normal(batch, heads, size)
    to_keys, to_values = (
        normal(heads * size, heads * size).requires_grad_(),
        normal(heads * size, heads * size).requires_grad_(),
    )
    query.requires_grad_()

    key, value = ((memory @ matrix.T).view(episodes, slots, heads, size) for matrix in (to_keys, to_values))
    out = memory_attention(query, key, value, episode, index, mask=mask if masked else None)

    windows = memory[episode[:, None], index]  # [B, W, D]
    split = lambda tensor: tensor.view(batch, window, heads, size).transpose(1, 2)  # noqa: E731
    expected = scaled_dot_product_attention(
        query[:, :, None],
        split(windows @ to_keys.T),
        split(windows @ to_values.T),
        attn_mask=mask[:, None, None],
    )[:, :, 0]
    torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)
    weights = normal(batch, heads, size)
    got = torch.autograd.grad((out * weights).sum(), (query, to_keys, to_values))
    for one, other in zip(
        got, torch.autograd.grad((expected * weights).sum(), (query, to_keys, to_values)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", CASE.dtypes, ids=str)
def test_gradients_agree_with_the_reference(dtype: torch.dtype, device: torch.device) -> None:
    relative, absolute = {torch.float64: (1e-11, 1e-11), torch.float32: (1e-4, 1e-5)}.get(dtype, (3e-2, 3e-2))
    for seed, sizes in enumerate(CASE.sizes):
        inputs = CASE.inputs(sizes, dtype, device, seed)
        weights = weights_for(inputs)
        expected = gradients(
            {name: tensor.cpu() if isinstance(tensor, Tensor) else tensor for name, tensor in inputs.items()},
            weights.cpu(),
            memory_attention_reference,
        )
        for got, right in zip(gradients(inputs, weights), expected, strict=True):
            torch.testing.assert_close(got.cpu(), right, rtol=relative, atol=absolute)


def test_gradients_are_the_same_bits_for_any_layout_and_number_of_threads(
    device: torch.device, torch_threads: None
) -> None:
    for sizes in (*CASE.sizes, CASE.large_sizes[0]):
        inputs = CASE.inputs(sizes, device=device)
        weights = weights_for(inputs)
        torch.set_num_threads(1)
        expected = gradients(inputs, weights)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert_all_equal(gradients(inputs, weights), expected)
        for layout in ("transposed", "gaps", "shifted"):
            for name in (*NAMES, "episode", "index", "mask"):
                variables = {key: inputs[key].clone().requires_grad_() for key in NAMES}
                laid = {**inputs, **variables}
                laid[name] = (
                    layouts(laid[name])[layout] if name not in NAMES else AsLayout.apply(laid[name], layout)
                )
                got = torch.autograd.grad(
                    (memory_attention(**laid) * weights).sum(), list(variables.values())
                )
                assert_all_equal(got, expected)
            out = memory_attention(
                **{**inputs, **(variables := {key: inputs[key].clone().requires_grad_() for key in NAMES})}
            )
            assert_all_equal(
                torch.autograd.grad(out, list(variables.values()), layouts(weights)[layout]), expected
            )


class AsLayout(torch.autograd.Function):
    """The same numbers lying differently; gradients pass."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, layout: str) -> Tensor:
        return layouts(tensor)[layout]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def test_parts_of_one_fused_projection(device: torch.device) -> None:
    inputs = CASE.inputs((3, 40, 4, 16, 20, 17), device=device)
    expected = memory_attention(**inputs), *gradients(inputs, weights_for(inputs))
    fused = torch.stack((inputs["value"], inputs["key"]), 2).requires_grad_()  # [E, S, 2, H, K]
    query = inputs["query"].clone().requires_grad_()
    out = memory_attention(**{**inputs, "query": query, "key": fused[:, :, 1], "value": fused[:, :, 0]})
    (out * weights_for(inputs)).sum().backward()
    assert fused.grad is not None and query.grad is not None
    assert_all_equal((out.detach(), query.grad, fused.grad[:, :, 1], fused.grad[:, :, 0]), expected)


def test_a_slot_that_is_there_twice_counts_twice(device: torch.device) -> None:
    inputs = CASE.inputs((2, 3, 2, 16, 8, 40), torch.float64, device)  # 40 places, 3 slots
    torch.testing.assert_close(
        memory_attention(**inputs), memory_attention_reference(**inputs), rtol=1e-12, atol=1e-12
    )
    weights = weights_for(inputs)
    for got, expected in zip(
        gradients(inputs, weights), gradients(inputs, weights, memory_attention_reference), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_the_order_of_a_window_does_not_matter(device: torch.device) -> None:
    inputs = CASE.inputs((2, 300, 2, 96, 6, 290), torch.float64, device)
    turned = torch.randperm(290, generator=torch.Generator().manual_seed(1)).to(device)
    other = {**inputs, "index": inputs["index"][:, turned], "mask": inputs["mask"][:, turned]}
    torch.testing.assert_close(memory_attention(**inputs), memory_attention(**other), rtol=1e-12, atol=1e-12)


def test_the_order_of_samples_does_not_change_a_bit(device: torch.device) -> None:
    """Samples are met in the order of the slots that they read, which is nobody's business."""
    inputs = CASE.inputs((2, 40, 2, 32, 50, 20), device=device)
    turned = torch.randperm(50, generator=torch.Generator().manual_seed(1)).to(device)
    other = {**inputs, **{name: inputs[name][turned] for name in ("query", "episode", "index", "mask")}}
    assert torch.equal(memory_attention(**inputs)[turned], memory_attention(**other))
    weights = weights_for(inputs)
    assert torch.equal(gradients(inputs, weights)[0][turned], gradients(other, weights[turned])[0])
    for b in (0, 17, 49):
        alone = {
            **inputs,
            **{name: inputs[name][b : b + 1] for name in ("query", "episode", "index", "mask")},
        }
        assert torch.equal(memory_attention(**alone), memory_attention(**inputs)[b : b + 1])


def test_where_masked_nothing_is_read(device: torch.device) -> None:
    for sizes in CASE.sizes[1:]:
        inputs = CASE.inputs(sizes, device=device)
        expected = memory_attention(**inputs), *gradients(inputs, weights_for(inputs))
        garbage = {**inputs, "index": torch.where(inputs["mask"], inputs["index"], GARBAGE)}
        assert_all_equal((memory_attention(**garbage), *gradients(garbage, weights_for(inputs))), expected)


def test_a_sample_that_sees_nothing_gets_zeros_and_gives_none(device: torch.device) -> None:
    inputs = CASE.inputs((3, 5, 2, 7, 6, 4), device=device)
    inputs["mask"][2] = False
    inputs["query"][2] = float("nan")
    out = memory_attention(**inputs)
    assert not out[2].any() and out[:2].any()
    to_query, to_key, to_value = gradients(inputs, weights_for(inputs))
    assert not to_query[2].any() and to_key.isfinite().all() and to_value.isfinite().all()
    inputs["mask"][:] = False
    assert not memory_attention(**inputs).any()
    assert not any(gradient.any() for gradient in gradients(inputs, weights_for(inputs)))


@pytest.mark.parametrize("sizes", [(3, 5, 2, 7, 6, 0), (3, 0, 2, 7, 6, 0), (3, 0, 2, 7, 6, 4)], ids=str)
def test_empty_windows_give_zeros(sizes: tuple[int, ...], device: torch.device) -> None:
    inputs = CASE.inputs(sizes, device=device)
    out = memory_attention(**inputs)
    assert out.shape == inputs["query"].shape and not out.any()
    for gradient, name in zip(gradients(inputs, torch.ones_like(out)), NAMES, strict=True):
        assert gradient.shape == inputs[name].shape and not gradient.any()


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_scores_are_stable(scale: float, device: torch.device) -> None:
    inputs = CASE.inputs((2, 40, 2, 16, 30, 20), torch.float32, device, scale=scale / 4)
    inputs["mask"][:, 0] = True
    out = memory_attention(**inputs)
    assert out.isfinite().all()
    # scores that float32 tells apart: the largest takes all
    exact = {**inputs, "key": inputs["key"].round(), "query": inputs["query"].round(), "scale": scale}
    torch.testing.assert_close(memory_attention(**exact), memory_attention_reference(**exact))
    for got, expected in zip(
        gradients(exact, weights_for(exact)),
        gradients(exact, weights_for(exact), memory_attention_reference),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-2)


def test_weights_of_equal_scores_far_from_zero_keep_their_digits(device: torch.device) -> None:
    """The backward pass finds weights from the largest score and the sum: a logarithm of the sum, 1e4 + ln 7,
    would leave three digits."""
    key = torch.full((1, 7, 1, 4), 50.0, device=device)
    value = torch.zeros(1, 7, 1, 4, device=device)
    index = torch.arange(7, device=device)[None]
    query = torch.full((1, 1, 4), 50.0, device=device)
    inputs = {
        "query": query,
        "key": key,
        "value": value,
        "episode": index[:, 0] * 0,
        "index": index,
        "scale": 1.0,
    }
    _, _, to_value = gradients(inputs, torch.ones_like(query))
    torch.testing.assert_close(to_value, torch.full_like(value, 1 / 7), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_half_precision_keep_their_digits_where_values_share_an_offset(
    dtype: torch.dtype, device: torch.device
) -> None:
    inputs = CASE.inputs((3, 40, 4, 33, 20, 40), dtype, device)
    inputs["value"] = (inputs["value"].float() + 100).to(dtype)
    got = gradients(inputs, weights_for(inputs))
    exact = {name: tensor.double() if name in NAMES else tensor for name, tensor in inputs.items()}
    expected = gradients(exact, weights_for(inputs).double(), memory_attention_reference)
    for one, other in zip(got, expected, strict=True):
        assert (one - other).norm() < 2e-2 * other.norm()


def test_scales_that_float64_holds_are_taken_in_float64(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, torch.float64, device, scale=1e39)
    inputs["key"][:, 4] = 0.0
    inputs["index"] = inputs["index"].clamp(max=3)  # slot 4 is seen by nobody
    out, (_, to_key, to_value) = memory_attention(**inputs), gradients(inputs, weights_for(inputs))
    torch.testing.assert_close(out, memory_attention_reference(**inputs))
    assert not to_key[:, 4].any() and not to_value[:, 4].any()
    inputs = CASE.inputs(CASE.small, torch.float32, device, scale=torch.finfo(torch.float32).max)
    inputs["index"] = inputs["index"].clamp(max=3)
    _, to_key, to_value = gradients(inputs, weights_for(inputs))
    assert not to_key[:, 4].any() and not to_value[:, 4].any()


def test_what_is_not_finite_stays_where_nobody_looks(device: torch.device) -> None:
    inputs = CASE.inputs((3, 5, 2, 7, 6, 4), device=device)
    inputs["index"] = inputs["index"].clamp(max=3)  # slot 4 is seen by nobody
    expected = memory_attention(**inputs), *gradients(inputs, weights_for(inputs))
    inputs["key"][:, 4], inputs["value"][:, 4] = float("nan"), float("inf")
    assert_all_equal((memory_attention(**inputs), *gradients(inputs, weights_for(inputs))), expected)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_what_is_not_finite_shows_where_it_is_seen(name: str, odd: float, device: torch.device) -> None:
    inputs = CASE.inputs((2, 4, 2, 7, 9, 4), device=device, mask=None)
    inputs[name].view(-1)[3] = odd
    torch.testing.assert_close(
        memory_attention(**inputs).cpu(), memory_attention_reference(**inputs).cpu(), equal_nan=True
    )


def test_scores_of_minus_infinity_alone_are_not_a_number_as_in_torch(device: torch.device) -> None:
    inputs = CASE.inputs((1, 20, 1, 1, 2, 20), device=device, mask=None)
    inputs["query"].fill_(1.0)
    inputs["key"].fill_(-float("inf"))
    assert memory_attention(**inputs).isnan().all()
    inputs["key"][0, 7] = 2.0
    inputs["index"] = torch.arange(20, device=device).expand(2, 20)
    torch.testing.assert_close(memory_attention(**inputs), inputs["value"][0, 7].expand(2, 1, 1))


def test_a_gradient_of_its_gradient_is_refused(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, torch.float64, device)
    for name in NAMES:
        variable = inputs[name].clone().requires_grad_()
        (first,) = torch.autograd.grad(
            memory_attention(**{**inputs, name: variable}).square().sum(), variable, create_graph=True
        )
        with pytest.raises(RuntimeError, match="memory_attention: .* differentiable once"):
            first.square().sum().backward()


@pytest.mark.parametrize(
    "wanted", [("query",), ("key",), ("value",), ("key", "value"), ("query", "value")], ids="-".join
)
def test_any_of_the_gradients_can_be_asked_for_alone(wanted: tuple[str, ...], device: torch.device) -> None:
    inputs = CASE.inputs(CASE.sizes[2], device=device)
    expected = dict(zip(NAMES, gradients(inputs, weights_for(inputs)), strict=True))
    variables = {name: inputs[name].clone().requires_grad_() for name in wanted}
    got = torch.autograd.grad(
        (memory_attention(**{**inputs, **variables}) * weights_for(inputs)).sum(), list(variables.values())
    )
    assert_all_equal(got, tuple(expected[name] for name in wanted))


def test_whole_numbers_are_scales_too(device: torch.device) -> None:
    inputs = CASE.inputs(CASE.small, device=device)
    assert torch.equal(
        memory_attention(**{**inputs, "scale": 2}), memory_attention(**{**inputs, "scale": 2.0})
    )
    size = inputs["query"].shape[2]
    assert torch.equal(
        memory_attention(**{**inputs, "scale": None}),
        memory_attention(**{**inputs, "scale": 1 / math.sqrt(size)}),
    )


def test_nothing_is_kept_but_the_result_and_two_numbers_a_head() -> None:
    """Neither windows nor scores: what autograd holds is the inputs, the result and [B, H, 2]."""
    inputs = CASE.inputs((2, 40, 2, 16, 30, 20))
    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: held.append(tensor) or tensor, lambda tensor: tensor
    ):
        memory_attention(**{**inputs, "query": inputs["query"].requires_grad_()})
    given = {tensor.data_ptr() for tensor in inputs.values() if isinstance(tensor, Tensor)}
    new = sum(tensor.numel() for tensor in held if tensor.data_ptr() not in given)
    assert new == 30 * 2 * 16 + 30 * 2 * 2
