"""OP_CASES: what tests and benches need to know about every op.

A new op is one more entry, in the file of its kind.

An entry gives the op, its reference, a maker of inputs, the calls that must be refused, and the sizes worth
timing.
"""

from fastrl.testing.attention_cases import ATTENTION_CASES
from fastrl.testing.case import (
    EVERY_KIND,
    FLOATING,
    Inputs,
    OpCase,
    Outputs,
    Refusal,
    assert_close_to_reference,
    layouts,
    map_tensors,
    outputs_of,
    replace_tensor,
    tensors_of,
)
from fastrl.testing.index_cases import INDEX_CASES
from fastrl.testing.layer_cases import LAYER_CASES
from fastrl.testing.pointwise_cases import POINTWISE_CASES
from fastrl.testing.replay_cases import REPLAY_CASES
from fastrl.testing.scan_cases import SCAN_CASES

OP_CASES: dict[str, OpCase] = {
    case.name: case
    for case in (*SCAN_CASES, *INDEX_CASES, *ATTENTION_CASES, *POINTWISE_CASES, *LAYER_CASES, *REPLAY_CASES)
}

__all__ = [
    "EVERY_KIND",
    "FLOATING",
    "OP_CASES",
    "Inputs",
    "OpCase",
    "Outputs",
    "Refusal",
    "assert_close_to_reference",
    "layouts",
    "map_tensors",
    "outputs_of",
    "replace_tensor",
    "tensors_of",
]
