"""The chain of linear layers in one call against a plain float64 reference."""

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from fastrl.nn import dense
from fastrl.nn.dense import ELU, NONE, RELU, TANH, Dense, PreparedChain, dense_chain
from fastrl.nn.distributions import Categorical

FUNCTIONS = {NONE: lambda x: x, TANH: torch.tanh, ELU: functional.elu, RELU: torch.relu}
SIZES = [(4, 64, 64, 2), (17, 64, 6), (1, 1), (3, 5, 7, 33), (100, 256, 16, 1), (16, 16), (256, 256, 256)]
ROWS = [1, 2, 7, 8, 63, 64, 65, 300, 1000]


def make_chain(widths, activations, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=1.0):
        return (
            (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
        )

    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    return [
        Dense(draw(out, n, scale=n**-0.5), draw(out), kind)
        for (n, out), kind in zip(pairs, activations, strict=True)
    ]


def cycle(count):
    """All activations in turn, none last."""
    return [*[(TANH, ELU, RELU)[i % 3] for i in range(count - 1)], NONE]


def reference(x, layers):
    """The formula, one layer after the other, in float64."""
    x = x.double()
    for weight, bias, activation, _ in layers:
        x = FUNCTIONS[activation](x @ weight.double().t() + bias.double())
    return x


def gradients(result, x, layers, upstream):
    return torch.autograd.grad(
        result, [x, *[p for layer in layers for p in layer[:2]]], upstream.to(result.dtype)
    )


@pytest.mark.parametrize("widths", SIZES)
@pytest.mark.parametrize("rows", ROWS)
def test_values_and_gradients_are_those_of_the_formula(widths, rows):
    layers = make_chain(widths, cycle(len(widths) - 1))
    x = torch.randn(rows, widths[0], generator=torch.Generator().manual_seed(1)).requires_grad_()
    upstream = torch.randn(rows, widths[-1], generator=torch.Generator().manual_seed(2))
    result, expected = dense_chain(x, layers), reference(x, layers)
    torch.testing.assert_close(result, expected.float(), rtol=2e-5, atol=2e-5)
    for found, wanted in zip(
        gradients(result, x, layers, upstream), gradients(expected, x, layers, upstream), strict=True
    ):
        torch.testing.assert_close(
            found, wanted.float(), rtol=1e-4, atol=1e-4 * float(wanted.abs().max()) + 1e-6
        )


@pytest.mark.parametrize("activation", [NONE, TANH, ELU, RELU])
def test_gradients_in_double_precision_pass_gradcheck(activation):
    layers = make_chain((5, 17, 3), [activation, activation], torch.float64)
    x = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    parameters = [p for layer in layers for p in layer[:2]]

    def call(x, *values):
        return dense_chain(x, [Dense(values[2 * i], values[2 * i + 1], activation) for i in range(2)])

    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_two_layers_by_hand():
    """x = 2: tanh(0.5 · 2 + 0) = tanh 1, then 3 · tanh 1 − 1."""
    layers = [
        Dense(torch.tensor([[0.5]]), torch.tensor([0.0]), TANH),
        Dense(torch.tensor([[3.0]]), torch.tensor([-1.0]), NONE),
    ]
    assert dense_chain(torch.tensor([[2.0]]), layers).item() == pytest.approx(
        3 * 0.7615941559557649 - 1, rel=1e-6
    )


def test_inputs_that_need_no_gradient_get_none_and_the_others_the_same():
    layers = make_chain((6, 20, 4), [TANH, NONE])
    x = torch.randn(30, 6)
    upstream = torch.randn(30, 4)
    alone = torch.autograd.grad(dense_chain(x, layers), [layers[0].weight], upstream)[0]
    together = gradients(dense_chain(x.requires_grad_(), layers), x, layers, upstream)[1]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("widths", SIZES[:4])
def test_results_without_a_gradient_are_the_same_bits(widths):
    layers = make_chain(widths, cycle(len(widths) - 1))
    x = torch.randn(100, widths[0])
    with torch.no_grad():
        assert torch.equal(dense_chain(x, layers), dense_chain(x.clone().requires_grad_(), layers))
        assert torch.equal(PreparedChain(layers)(x), dense_chain(x, layers))


def test_any_number_of_threads_gives_the_same_bits():
    layers = make_chain((17, 64, 64, 6), [TANH, TANH, NONE])
    x = torch.randn(5000, 17, generator=torch.Generator().manual_seed(4)).requires_grad_()

    def everything():
        result = dense_chain(x, layers)
        return result, *gradients(result, x, layers, torch.ones_like(result))

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything()
        for count in (2, 3):
            torch.set_num_threads(count)
            assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))
    finally:
        torch.set_num_threads(threads)


DIGEST = """
import hashlib, torch
from fastrl.nn.dense import Dense, dense_chain
g = torch.Generator().manual_seed(0)
digest = hashlib.sha256()
for widths in ((4, 64, 64, 2), (17, 33, 6)):
    layers = []
    for k, (i, o) in enumerate(zip(widths[:-1], widths[1:])):
        weight, bias = torch.randn(o, i, generator=g).requires_grad_(), torch.randn(o, generator=g)
        layers.append(Dense(weight, bias, k + 1))
    x = torch.randn(333, widths[0], generator=g).requires_grad_()
    y = dense_chain(x, layers)
    for tensor in (y, *torch.autograd.grad(y.sum(), [x, *[layer.weight for layer in layers]])):
        digest.update(tensor.detach().numpy().tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_level_gives_the_same_bits():
    def digest(level):
        environment = {**os.environ, "FASTRL_CPU_LEVEL": level}
        return subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert len({digest(level) for level in ("v4", "v3", "baseline")}) == 1


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 3, 5),
        torch.randn(5),
        torch.randn(4, 5, dtype=torch.bfloat16),
        torch.randn(6, 5).t()[:5].t(),
        torch.randn(0, 5),
    ],
    ids=["three dimensions", "one dimension", "bfloat16", "strides", "no rows"],
)
def test_other_inputs_give_what_the_layers_one_by_one_give(x):
    layers = [
        layer._replace(weight=layer.weight.to(x.dtype), bias=layer.bias.to(x.dtype))
        for layer in make_chain((5, 8, 3), [TANH, NONE])
    ]
    expected = functional.linear(torch.tanh(functional.linear(x, *layers[0][:2])), *layers[1][:2])
    tolerance = 3e-2 if x.dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(dense_chain(x, layers), expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(PreparedChain(layers)(x), expected, rtol=tolerance, atol=tolerance)


def test_no_rows_give_gradients_of_zero():
    layers = make_chain((5, 8, 3), [TANH, NONE])
    x = torch.randn(0, 5).requires_grad_()
    assert all(bool((g == 0).all()) for g in gradients(dense_chain(x, layers), x, layers, torch.zeros(0, 3)))


def test_wide_layers_are_left_to_the_libraries(monkeypatch):
    monkeypatch.setattr(dense, "_forward", None)  # would fail
    layers = make_chain((5, 300, 3), [TANH, NONE])
    x = torch.randn(10, 5)
    torch.testing.assert_close(dense_chain(x, layers), reference(x, layers).float(), rtol=1e-4, atol=1e-5)


def test_what_is_not_finite_shows_in_the_result():
    layers = make_chain((3, 4, 2), [RELU, NONE])
    x = torch.tensor([[1.0, float("nan"), 0.0], [1.0, 2.0, 3.0]])
    result = dense_chain(x, layers)
    assert bool(torch.isnan(result[0]).all()) and bool(torch.isfinite(result[1]).all())


def test_no_gradient_passes_a_relu_that_is_off_not_even_an_infinite_one():
    (layer,) = make_chain((2, 2), [RELU])
    layer = layer._replace(weight=torch.eye(2), bias=torch.zeros(2))
    x = torch.tensor([[-1.0, 1.0]], requires_grad=True)
    dense_chain(x, [layer]).sqrt().sum().backward()
    assert x.grad.tolist() == [[0.0, 0.5]]


def test_a_gradient_of_a_gradient_is_refused():
    layers = make_chain((3, 4, 1), [TANH, NONE])
    x = torch.randn(5, 3, requires_grad=True)
    (first,) = torch.autograd.grad(dense_chain(x, layers).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_gradient_of_the_gradient_of_a_sum_is_refused_too():
    layers = make_chain((3, 4, 1), [TANH, NONE])
    x = torch.randn(5, 3, requires_grad=True)
    (first,) = torch.autograd.grad(dense_chain(x, layers).sum(), [x], create_graph=True)
    with pytest.raises(
        RuntimeError, match="once_differentiable"
    ):  # a penalty on the gradient would have none of its own
        first.square().sum().backward()


def test_a_bias_with_gaps_is_left_to_torch():
    (layer,), x = make_chain((5, 3), [TANH]), torch.randn(4, 5)
    bias = torch.randn(3, 2)[:, 0]
    torch.testing.assert_close(
        dense_chain(x, [layer._replace(bias=bias)]), torch.tanh(functional.linear(x, layer.weight, bias))
    )


def test_shapes_are_known_without_numbers():
    with FakeTensorMode():
        layers = make_chain((5, 8, 3), [TANH, NONE])
        x = torch.randn(4, 5, requires_grad=True)
        result = dense_chain(x, layers)
        result.sum().backward()
    assert result.shape == (4, 3) and x.grad.shape == (4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, b: (x[0], w, b), "x must be contiguous and have shape"),
        (lambda x, w, b: (x, [w[0], w[0]], b), "as many inputs as come to it"),
        (lambda x, w, b: (x, w, [b[0], b[0]]), "a bias must be contiguous"),
        (lambda x, w, b: (x, w[:1], b), "must be as many"),
        (lambda x, w, b: (x.double(), w, b), "a weight has the wrong dtype"),
        (
            lambda x, w, b: (x.half(), [v.half() for v in w], [v.half() for v in b]),
            "x must be float32 or float64",
        ),
    ],
)
def test_the_native_call_refuses_what_does_not_fit_together(change, message):
    layers = make_chain((5, 8, 3), [TANH, NONE])
    x, weights, biases = change(
        torch.randn(4, 5),
        [layer.weight.detach() for layer in layers],
        [layer.bias.detach() for layer in layers],
    )
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fastrl.dense_layers(x, weights, biases, [TANH, NONE], True)


def test_the_native_call_refuses_unknown_activations():
    layer = make_chain((5, 3), [NONE])[0]
    with pytest.raises(RuntimeError, match="activations must be"):
        torch.ops.fastrl.dense_layers(
            torch.randn(4, 5), [layer.weight.detach()], [layer.bias.detach()], [4], True
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_are_those_of_the_categorical(dtype):
    layers = make_chain((4, 16, 5), [TANH, NONE], dtype)
    x = torch.randn(2000, 4, dtype=dtype)
    with torch.no_grad():
        policy = Categorical(dense_chain(x, layers))
        torch.manual_seed(7)
        expected = policy.sample()
        torch.manual_seed(7)
        drawn = PreparedChain(layers).sample(x)
    assert (
        drawn.dtype == torch.int64 and int((drawn != expected).sum()) <= 1
    )  # a tie up to rounding may fall either way
    assert drawn.unique().tolist() == [0, 1, 2, 3, 4]


def test_draws_from_wide_layers_come_from_their_logits():
    layers = [Dense(torch.zeros(2, 300), torch.tensor([0.0, 50.0]), NONE)]
    assert PreparedChain(layers).sample(torch.randn(20, 300)).tolist() == [1] * 20


def test_a_prepared_chain_has_the_same_gradient():
    layers = make_chain((6, 20, 4), [TANH, NONE])
    x, upstream = torch.randn(30, 6).requires_grad_(), torch.randn(30, 4)
    prepared = gradients(PreparedChain(layers)(x), x, layers, upstream)
    assert all(
        torch.equal(a, b)
        for a, b in zip(prepared, gradients(dense_chain(x, layers), x, layers, upstream), strict=True)
    )
