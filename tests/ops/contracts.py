"""What is a legal call of each op, said a second time and in another way than the ops' own checks: the judge
of the fuzzing.

A contract gives each argument's kind and shape in words. Kinds:
    floating      float32, float64, bfloat16 or float16, one dtype for all floating arguments of a call
    any           whatever dtype, one for all such arguments of a call
    flag, int64   bool, int64
    index<S>      int64 in [0, S); only where `mask` is set, if the op has a mask of that shape
    fraction, nonnegative, number, size    a number in [0, 1], one >= 0, a finite one, a whole one >= 1
    list          a list of tensors of any dtypes
Shapes are names that must agree within a call; `T+1` is one more than T, `...` any number of further sizes.
An argument ending in `?` may be None. `unless` looks at a call that agrees with all that and says what else
is wrong with it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
NUMBERS: Mapping[str, Callable[[float], bool]] = {
    "fraction": lambda number: 0 <= number <= 1,
    "nonnegative": lambda number: number >= 0,
    "number": math.isfinite,
}


@dataclass(frozen=True)
class Contract:
    """The arguments of an op in words, and what words cannot say."""

    arguments: Mapping[str, str]
    unless: Callable[[dict[str, Any]], str | None] = lambda inputs: None
    takes_its_time: bool = (
        False  # a small result from inputs of any size: nothing refuses a call that takes years
    )


class IllegalError(Exception):
    """Why a call is none."""


def why_illegal(contract: Contract, inputs: dict[str, Any]) -> str | None:
    """The reason why an op must refuse `inputs`, or None if it must take them."""
    try:
        _Judge(contract, inputs).judge()
    except IllegalError as reason:
        return str(reason)
    return contract.unless(inputs)


def outside(values: Tensor, below: int) -> bool:
    """Whether any value lies outside [0, below); expanded axes are looked at once."""
    values = values[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in values.stride())]
    return values.numel() > 0 and not (0 <= int(values.min()) and int(values.max()) < below)


class _Judge:
    def __init__(self, contract: Contract, inputs: dict[str, Any]) -> None:
        self.words = contract.arguments
        self.inputs = inputs
        self.sizes: dict[str, int] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.devices: set[torch.device] = set()

    def judge(self) -> None:
        present = {
            name: words
            for name, words in self.words.items()
            if not (name.endswith("?") and self.inputs[name[:-1]] is None)
        }
        for name, words in present.items():
            name = name.removesuffix("?")
            kind, *shape = words.split()
            self.look_at(name, kind, shape, self.inputs[name])
        if len(self.devices) > 1:
            raise IllegalError("devices differ")
        for name, words in present.items():
            if words.startswith("index<"):
                self.look_at_indices(name.removesuffix("?"), words[len("index<") : words.index(">")])

    def look_at(self, name: str, kind: str, shape: list[str], value: Any) -> None:
        if kind in NUMBERS:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise IllegalError(f"{name} is no {kind}")
            if (isinstance(value, int) and abs(value) > sys.float_info.max) or not NUMBERS[kind](value):
                raise IllegalError(f"{name} is no {kind}")
        elif kind == "size":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise IllegalError(f"{name} is no size")
        elif kind == "list":
            if not isinstance(value, (list, tuple)) or not value:
                raise IllegalError(f"{name} is no list of tensors")
            for item in value:
                self.look_at_tensor(name, "each", shape, item)
        else:
            self.look_at_tensor(name, kind, shape, value)

    def look_at_tensor(self, name: str, kind: str, shape: list[str], value: Any) -> None:
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            raise IllegalError(f"{name} is no dense tensor")
        self.devices.add(value.device)
        self.look_at_dtype(name, kind, value.dtype)
        self.look_at_shape(name, shape, list(value.shape))

    def look_at_dtype(self, name: str, kind: str, dtype: torch.dtype) -> None:
        if kind == "floating" and dtype not in FLOATING:
            raise IllegalError(f"{name} is not floating")
        if kind == "flag" and dtype != torch.bool:
            raise IllegalError(f"{name} is no flag")
        if kind.startswith(("index", "int64")) and dtype != torch.int64:
            raise IllegalError(f"{name} is no index")
        if kind in ("floating", "any") and self.dtypes.setdefault(kind, dtype) != dtype:
            raise IllegalError(f"{name} has another dtype")

    def look_at_shape(self, name: str, words: list[str], shape: list[int]) -> None:
        if words and words[-1] == "...":
            words = words[:-1]
            shape = shape[: len(words)]
        if len(shape) != len(words):
            raise IllegalError(f"{name} has another rank")
        for word, size in zip(words, shape, strict=True):
            symbol, _, more = word.partition("+")
            if self.sizes.setdefault(symbol, size - int(more or 0)) != size - int(more or 0):
                raise IllegalError(f"{name} disagrees about {symbol}")

    def look_at_indices(self, name: str, symbol: str) -> None:
        values, mask = self.inputs[name], self.inputs.get("mask")
        if values.device.type != "cpu" or 0 in self.devices_without_elements():
            return
        if isinstance(mask, Tensor) and mask.shape == values.shape:
            values = values[mask] if values.numel() < 10**6 else values
        if outside(values, self.sizes[symbol]):
            raise IllegalError(f"{name} is out of range")

    def devices_without_elements(self) -> set[int]:
        return {0 for device in self.devices if device.type == "meta"}


_RECURRENT = {"terminated": "flag T N", "truncated": "flag T N", "valid?": "flag T N", "gamma": "fraction"}


def _no_axis_to_select(inputs: dict[str, Any]) -> str | None:
    """batched_index_select: `dim` is an axis other than the first, whose size bounds the index."""
    given, dim, index = inputs["input"], inputs["dim"], inputs["index"]
    if isinstance(dim, bool) or not isinstance(dim, int):
        return "dim is no whole number"
    if not -given.dim() <= dim < given.dim() or dim % given.dim() == 0:
        return "dim is no axis after the first"
    if index.is_cpu and outside(index, given.shape[dim]):
        return "index is out of range"
    return None


def _position_needs_floating_memory(inputs: dict[str, Any]) -> str | None:
    if inputs["position"] is not None and inputs["memory"].dtype not in FLOATING:
        return "position cannot be added to such a memory"
    return None


def _scale_beyond_what_accumulates(inputs: dict[str, Any]) -> str | None:
    dtype = torch.float64 if inputs["query"].dtype == torch.float64 else torch.float32
    if inputs["scale"] is not None and abs(inputs["scale"]) > torch.finfo(dtype).max:
        return "scale is not finite in the dtype that accumulates"
    return None


def _window_longer_than_the_ring(inputs: dict[str, Any]) -> str | None:
    return "seq_len is more than C" if inputs["seq_len"] > inputs["fields"][0].shape[0] else None


def _groups_do_not_come_out_even(inputs: dict[str, Any]) -> str | None:
    """layer_norm_tanh: every row of shift belongs to as many rows of x, and every row of x to one."""
    rows, shift = inputs["x"].shape[0], inputs["shift"]
    if shift is not None and not (rows % shift.shape[0] == 0 if shift.shape[0] else rows == 0):
        return "shift has a number of rows that does not divide R"
    return None


CONTRACTS: dict[str, Contract] = {
    "gae": Contract(
        {"rewards": "floating T N", "values": "floating T+1 N", **_RECURRENT, "gae_lambda": "fraction"}
    ),
    "retrace": Contract(
        {
            **dict.fromkeys(("rewards", "q_values", "next_values", "log_rhos"), "floating T N"),
            **_RECURRENT,
            "retrace_lambda": "fraction",
        }
    ),
    "vtrace": Contract(
        {
            "rewards": "floating T N",
            "values": "floating T+1 N",
            "log_rhos": "floating T N",
            **_RECURRENT,
            "vtrace_lambda": "fraction",
            **dict.fromkeys(("rho_clip", "c_clip", "pg_rho_clip"), "nonnegative"),
        }
    ),
    "dae_targets": Contract(
        {"rewards": "floating T N", "advantages": "floating T N", "values": "floating T+1 N", **_RECURRENT}
    ),
    "tanh": Contract({"x": "floating ..."}),
    "elu": Contract({"x": "floating ..."}),
    "layer_norm_tanh": Contract(
        {
            "x": "floating R D",
            "weight": "floating D",
            "bias": "floating D",
            "shift?": "floating G D",
            "eps": "nonnegative",
        },
        _groups_do_not_come_out_even,
    ),
    "batched_index_select": Contract({"input": "any B ...", "index": "int64 B W"}, _no_axis_to_select),
    "memory_window_gather": Contract(
        {
            "memory": "any E S L D",
            "episode": "index<E> B",
            "index": "index<S> B W",
            "mask?": "flag B W",
            "position?": "any S D",
        },
        _position_needs_floating_memory,
    ),
    "memory_attention": Contract(
        {
            "query": "floating B H K",
            "key": "floating E S H K",
            "value": "floating E S H K",
            "episode": "index<E> B",
            "index": "index<S> B W",
            "mask?": "flag B W",
            "scale?": "number",
        },
        _scale_beyond_what_accumulates,
        takes_its_time=True,
    ),
    "gather_sequences": Contract(
        {"fields": "list C N ...", "start": "index<C> B", "env": "index<N> B", "seq_len": "size"},
        _window_longer_than_the_ring,
    ),
}
