"""What is particular to the fast elu: its error over the whole range, the edges, and the gradient at them."""

import math

import torch

from fastrl import ops


def test_relative_error_over_the_whole_range_is_below_what_the_docstring_says():
    small = -torch.logspace(-37, 2, 400_001)
    x = torch.cat([torch.linspace(-110, 12, 400_001), torch.linspace(-2, 0, 400_001), small, -small])
    y, exact = ops.elu(x), torch.where(x > 0, x.double(), torch.expm1(x.double()))
    error = (y - exact).abs()
    assert (error <= 1.2e-7 * exact.abs()).all()
    assert error.max().item() < 1e-7
    assert torch.equal(y[x > 0], x[x > 0]) and y.min().item() == -1.0


def test_it_never_falls_where_x_rises_on_a_grid():
    x = torch.linspace(-20, 1, 100_001)
    assert (ops.elu(x).diff() >= 0).all()


def test_edges():
    tiny = 1e-40
    edges = ops.elu(torch.tensor([math.inf, -math.inf, 0.0, -0.0, math.nan, 1e30, -1e30, -tiny]))
    assert (
        edges[:2].tolist() == [math.inf, -1.0]
        and edges[5:7].tolist() == [torch.tensor(1e30).item(), -1.0]
        and math.isnan(edges[4])
    )
    assert edges[2:4].signbit().tolist() == [False, True] and edges[7] == torch.tensor(-tiny)


def test_gradient_at_the_edges():
    x = torch.tensor([math.inf, -math.inf, 0.0, -0.0, 3.0, -math.log(2)], requires_grad=True)
    (gradient,) = torch.autograd.grad(ops.elu(x).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 0.5]))
