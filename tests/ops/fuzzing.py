"""Random calls of all ops, most of them wrong: each must give what the reference gives, or an exception that
names op and argument.

    python tests/ops/fuzzing.py --calls 10000 --seed 0

Calls go to the Python function and, unchanged, to the native op behind it, which may raise what it likes but
must not crash. Whether a call is legal is judged by contracts.py. The number of the call is written to stderr
before it is made, so that a death names its cause; `--only NUMBER` makes that call alone.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contracts import CONTRACTS, FLOATING, why_illegal
from torch import Tensor

from fastrl import native
from fastrl.testing import (
    OP_CASES,
    OpCase,
    assert_close_to_reference,
    layouts,
    map_tensors,
    outputs_of,
    tensors_of,
)

MOST_ELEMENTS = 30_000  # of a call that is held against the reference
NAMED = (TypeError, ValueError, IndexError)
Mutation = Callable[[random.Random, Any], Any]


def some_layout(rng: random.Random, tensor: Tensor) -> Tensor:
    return layouts(tensor)[rng.choice(("transposed", "gaps", "shifted"))]


def other_rank(rng: random.Random, tensor: Tensor) -> Tensor:
    return (
        tensor.unsqueeze(rng.randint(0, tensor.dim()))
        if tensor.dim() == 0 or rng.random() < 0.5
        else tensor.sum(0).to(tensor.dtype)
    )


def other_size(rng: random.Random, tensor: Tensor) -> Tensor:
    if tensor.dim() == 0:
        return tensor[None]
    dim = rng.randrange(tensor.dim())
    size = tensor.shape[dim]
    wanted = rng.choice((0, 1, size - 1, size + 1, 2 * size, 2**40, 2**62))
    if 0 <= wanted <= size:
        return tensor.narrow(dim, 0, wanted)
    if wanted > 2 * size + 1:  # no memory behind it: every element is the same
        return tensor.narrow(dim, 0, min(size, 1)).expand(
            *tensor.shape[:dim], wanted if size else 0, *tensor.shape[dim + 1 :]
        )
    return torch.cat([tensor, tensor.narrow(dim, 0, min(size, max(1, wanted - size)))], dim)


def turned(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.movedim(0, -1) if tensor.dim() else tensor


def other_dtype(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.to(
        rng.choice((*FLOATING, torch.uint8, torch.int32, torch.int64, torch.bool, torch.complex64))
    )


def other_device(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.to("meta")


def sparse(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.to_sparse() if tensor.dim() else tensor


def odd_values(rng: random.Random, tensor: Tensor) -> Tensor:
    """A few elements that are not finite, huge, or no index of anything."""
    changed = tensor.clone()
    if changed.numel() == 0 or changed.is_meta or changed.layout != torch.strided:
        return changed
    flat = changed.view(-1) if changed.is_contiguous() else changed.reshape(-1)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(flat.numel())
        if changed.is_floating_point():
            flat[place] = rng.choice((float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45))
        elif changed.dtype == torch.int64:
            flat[place] = rng.choice((-1, 2**31, 2**40, -(2**63), 2**63 - 1, 0, flat.numel()))
        else:
            flat[place] = 1
    return flat.view(changed.shape)


def one_element(rng: random.Random, tensor: Tensor) -> Tensor:
    return tensor.reshape(-1)[:1].reshape(()) if tensor.numel() else tensor


def no_tensor(rng: random.Random, value: Any) -> Any:
    return rng.choice((None, 1, 0.5, "rewards", [], [1.0, 2.0], {}, object(), True))


TENSOR_MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (some_layout, 4),
    (odd_values, 4),
    (other_size, 3),
    (other_rank, 2),
    (turned, 1),
    (other_dtype, 2),
    (other_device, 1),
    (sparse, 1),
    (one_element, 1),
    (no_tensor, 2),
)
ODD_NUMBERS = (
    0,
    1,
    -1,
    0.5,
    1.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    2**40,
    2**70,
    -(2**70),
    1e300,
    10**400,
    True,
    None,
    "0.9",
    [],
    0.0,
)


def mutate(rng: random.Random, case: OpCase, inputs: dict[str, Any]) -> dict[str, Any]:
    """`inputs` with one argument changed."""
    name = rng.choice(sorted(inputs))
    value = inputs[name]
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return {**inputs, name: [*value[:place], mutate_value(rng, value[place]), *value[place + 1 :]]}
    return {**inputs, name: mutate_value(rng, value)}


def mutate_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, Tensor) and huge(value):
        return value  # made of one element, and torch would go through all of them
    if isinstance(value, Tensor):
        mutations, weights = zip(*TENSOR_MUTATIONS, strict=True)
        try:
            return rng.choices(mutations, weights)[0](rng, value)
        except (
            RuntimeError,
            NotImplementedError,
        ):  # torch cannot do this to a tensor that has been changed before
            return value
    return no_tensor(rng, value) if isinstance(value, list) or rng.random() < 0.1 else rng.choice(ODD_NUMBERS)


def make_call(seed: int, number: int) -> tuple[OpCase, dict[str, Any]]:
    """Op and arguments of one call."""
    rng = random.Random(f"{seed}-{number}")
    case = OP_CASES[rng.choice(sorted(OP_CASES))]
    sizes = rng.choice(small_sizes(case.name))
    inputs = case.inputs(sizes, rng.choice(case.dtypes), seed=rng.randrange(2**31))
    for name in case.optional:
        if rng.random() < 0.3:
            inputs[name] = None
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        inputs = mutate(rng, case, inputs)
    return case, inputs


@functools.cache
def small_sizes(op: str) -> list[tuple[int, ...]]:
    """Those sizes of a case that the reference does quickly, its empty ones among them."""
    case = OP_CASES[op]
    elements = {
        sizes: sum(tensor.numel() for _, tensor in tensors_of(case.inputs(sizes))) for sizes in case.sizes
    }
    return [sizes for sizes in case.sizes if elements[sizes] <= MOST_ELEMENTS] + [
        *case.empty_sizes,
        *case.traced_sizes,
    ]


def describe(case: OpCase, inputs: dict[str, Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} on {value.device}"
        return f"[{', '.join(map(one, value))}]" if isinstance(value, list) else repr(value)

    return f"{case.name}({', '.join(f'{name}={one(value)}' for name, value in inputs.items())})"


def too_large(inputs: dict[str, Any]) -> bool:
    return any(huge(tensor) for _, tensor in tensors_of(inputs))


def comparable(inputs: dict[str, Any]) -> bool:
    """Whether the float64 reference says what the call must give: not where finite numbers are so large that
    float32 overflows."""
    tensors = [tensor for _, tensor in tensors_of(inputs)]
    if any(tensor.is_meta for tensor in tensors):
        return False
    return not any(
        (tensor.isfinite() & (tensor.abs() > 1e6)).any() for tensor in tensors if tensor.is_floating_point()
    )


def huge(tensor: Tensor) -> bool:
    return tensor.numel() > 10 * MOST_ELEMENTS or max(tensor.shape, default=0) > 2**30


def judge_python_call(case: OpCase, inputs: dict[str, Any]) -> str:
    """Makes the call and says how it ended; raises AssertionError if that is not how it should have ended."""
    contract = CONTRACTS[case.name]
    reason = why_illegal(contract, inputs)
    if reason is None and contract.takes_its_time and too_large(inputs):
        return "too large"
    try:
        result = case.op(**inputs)
    except NAMED as error:
        message = str(error)
        assert reason is not None, f"a legal call was refused: {type(error).__name__}: {message}"
        assert message.startswith(f"{case.name}: "), f"the message does not begin with the op: {message}"
        assert any(name in message for name in inputs), f"the message names no argument: {message}"
        return "refused"
    except (RuntimeError, MemoryError) as error:
        assert reason is None and too_large(inputs), (
            f"{type(error).__name__} instead of a named refusal ({reason}): {error}"
        )
        return "too large"
    assert reason is None, f"an illegal call was taken: {reason}"
    if not too_large(inputs) and comparable(inputs):
        assert_close_to_reference(case, inputs, result)
    return "answered"


def make_native_call(case: OpCase, inputs: dict[str, Any]) -> str:
    """The same arguments straight to the native op: anything but a crash will do."""
    if CONTRACTS[case.name].takes_its_time and too_large(inputs):
        return "native too large"
    op = getattr(torch.ops.fastrl, case.name).default
    try:
        outputs = outputs_of(op(*(inputs[argument.name] for argument in op._schema.arguments)))
    except Exception:
        return "native refused"
    if not too_large(inputs):
        map_tensors(
            {"outputs": list(outputs)}, lambda output: output if output.is_meta else output.clone()
        )  # every element can be read
    return "native answered"


def run(seed: int, numbers: range | list[int]) -> collections.Counter[str]:
    """Makes the calls and counts how they ended, by op."""
    ends: collections.Counter[str] = collections.Counter()
    for number in numbers:
        case, inputs = make_call(seed, number)
        print(f"call {number}", file=sys.stderr)
        try:
            ends[judge_python_call(case, inputs)] += 1
            ends[make_native_call(case, inputs)] += 1
        except AssertionError as complaint:
            raise AssertionError(
                f"call {number} of seed {seed}: {describe(case, inputs)}\n{complaint}"
            ) from None
        ends[case.name] += 1
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make this call alone")
    parser.add_argument(
        "--write", type=Path, metavar="BENCH", help="store the counts through the record.py of that folder"
    )
    options = parser.parse_args()
    torch.set_num_threads(2)
    numbers = range(options.calls) if options.only is None else [options.only]
    ends = dict(sorted(run(options.seed, numbers).items()))
    print(json.dumps(ends))
    if options.write:
        sys.path.insert(0, str(options.write))
        import record

        # a crash, a sanitizer's report or a wrong end of a call would have ended the run before this
        results = {"build": native.build_info(), "seed": options.seed, "calls": len(numbers), "ends": ends}
        print("written to", record.write_result("fuzz", results))


if __name__ == "__main__":
    main()
