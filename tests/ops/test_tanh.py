"""What is particular to the fast tanh: its error over the whole range, and the edges."""

import math

import torch

from fastrl import ops


def test_error_over_the_whole_range_is_below_what_the_docstring_says():
    x = torch.cat(
        [torch.linspace(-12, 12, 400_001), torch.logspace(-30, 1, 50_001), -torch.logspace(-30, 1, 50_001)]
    )
    y, exact = ops.tanh(x), torch.tanh(x.double())
    assert (y - exact).abs().max().item() < 3.2e-7
    assert ((y - exact).abs() / exact.abs().clamp(min=1e-38))[x.abs() > 1e-30].max().item() < 6e-7
    assert y.abs().max().item() <= 1.0


def test_edges():
    edges = ops.tanh(torch.tensor([math.inf, -math.inf, 0.0, -0.0, math.nan, 1e30, -1e30]))
    assert edges[:2].tolist() == [1.0, -1.0] and edges[5:].tolist() == [1.0, -1.0] and math.isnan(edges[4])
    assert edges[2:4].signbit().tolist() == [False, True]
