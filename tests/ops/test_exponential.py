"""The exponential inside the kernels, seen through vtrace: one step that terminates makes its target the
ratio itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastrl.ops import retrace, vtrace

NAN, INF = math.nan, math.inf
LARGEST, TINIEST = 3.4028234663852886e38, 2.0**-149
LN_LARGEST, BEYOND = (
    88.72283172607422,
    88.72283935546875,
)  # neighbours: the exponential of the second is infinite in float32
each_width = pytest.mark.parametrize("width", [1, 3, 16, 70, 5000])  # every way through the scan


def exponential(x: Tensor, width: int) -> Tensor:
    """e to the power of a flat tensor, laid out in rows of `width`."""
    padded = torch.cat([x, x.new_zeros(-len(x) % width)]).view(-1, width)
    ones, no = torch.ones_like(padded), torch.zeros_like(padded, dtype=torch.bool)
    values = padded.new_zeros(len(padded) + 1, width)
    targets, advantages = vtrace(ones, values, padded, ~no, no, gamma=0.0, rho_clip=INF, pg_rho_clip=INF)
    assert torch.equal(targets.isnan(), advantages.isnan()) and torch.equal(
        targets.nan_to_num(), advantages.nan_to_num()
    )
    return targets.flatten()[: len(x)]


def every_nth_float32(n: int) -> Tensor:
    """Every n-th bit pattern between minus 104 and the largest number whose exponential is finite: all
    exponents, both signs."""
    patterns = torch.arange(-(2**31), 2**31, n, dtype=torch.int64).to(torch.int32)
    numbers = patterns.view(torch.float32)
    return numbers[(numbers >= -104.0) & (numbers <= LN_LARGEST)]


@each_width
def test_within_one_unit_in_the_last_place(width: int, device: torch.device) -> None:
    x = every_nth_float32(1009 if width == 5000 else 20011)
    exact = x.double().exp()
    exponent = torch.frexp(exact).exponent
    unit = torch.ldexp(torch.ones_like(exact), (exponent - 24).clamp(min=-149))
    assert len(x) > 50_000
    assert ((exponential(x.to(device), width).cpu().double() - exact).abs() / unit).max() <= 1.0


@each_width
def test_ends_of_the_range(width: int, device: torch.device) -> None:
    expected = {
        1.0: (0.0, -0.0, 1e-45),
        INF: (BEYOND, 89.0, 1e30, LARGEST, INF),
        0.0: (-104.0, -1e30, -LARGEST, -INF),
    }
    expected |= {
        units * TINIEST: (x,) for x, units in ((-103.0, 1), (-100.0, 27), (-95.0, 3940))
    }  # numbers with few digits left
    for result, given in expected.items():
        assert exponential(torch.tensor(given, device=device), width).tolist() == [result] * len(given)
    assert (
        LARGEST * (1 - 1e-5) < exponential(torch.tensor([LN_LARGEST], device=device), width).item() <= LARGEST
    )


@each_width
def test_not_a_number_stays_one_whatever_its_bits(width: int, device: torch.device) -> None:
    patterns = torch.tensor([0x7FC00000, 0x7F800001, 0x7FFFFFFF, -0x400000, -0x7FFFFF, -1], dtype=torch.int32)
    assert exponential(patterns.view(torch.float32).to(device), width).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@each_width
def test_clipping_lets_not_a_number_through(width: int, dtype: torch.dtype, device: torch.device) -> None:
    log_rhos = torch.full((2, width), NAN, dtype=dtype, device=device)
    numbers, no = torch.ones_like(log_rhos), torch.zeros_like(log_rhos, dtype=torch.bool)
    values = numbers.new_ones(3, width)
    for output in vtrace(numbers, values, log_rhos, no, no, gamma=0.5):
        assert output.isnan().all()
    targets = retrace(numbers, numbers, numbers, log_rhos, no, no, gamma=0.5, retrace_lambda=0.5)
    assert targets[0].isnan().all() and not targets[1].isnan().any()  # nobody is cut with the first ratio


def test_float64_is_as_exact_as_the_library_of_the_system(device: torch.device) -> None:
    x = torch.linspace(-750.0, 709.7, 40_001, dtype=torch.float64)
    torch.testing.assert_close(exponential(x.to(device), 13).cpu(), x.exp(), rtol=4.5e-16, atol=5e-324)


def test_half_precision_is_rounded_once(device: torch.device) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
        x = x[x.isfinite()]
        torch.testing.assert_close(
            exponential(x.to(device), 64).cpu(),
            x.double().exp().to(dtype),
            rtol=torch.finfo(dtype).eps,
            atol=0.0,
        )
