"""A thousand random calls on the ordinary build; `make fuzz` makes ten thousand on the sanitized one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from contracts import CONTRACTS, why_illegal

from fastrl.testing import OP_CASES

FUZZING = Path(__file__).with_name("fuzzing.py")


def test_every_op_has_a_contract_that_its_own_inputs_keep() -> None:
    assert CONTRACTS.keys() == OP_CASES.keys()
    for case in OP_CASES.values():
        for sizes in (*case.sizes, *case.empty_sizes, case.small):
            assert why_illegal(CONTRACTS[case.name], case.inputs(sizes)) is None
        for refusal in case.refusals:
            good = case.inputs(case.small)
            reason = why_illegal(CONTRACTS[case.name], {**good, **refusal.change(good)})
            assert reason is not None, f"{case.name}: {refusal.what} is refused, but no part of the contract"


def test_a_thousand_random_calls_are_answered_or_refused_by_name() -> None:
    run = subprocess.run(
        [sys.executable, str(FUZZING), "--calls", "1000", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    ends = json.loads(run.stdout)
    assert ends["answered"] + ends["refused"] + ends.get("too large", 0) == 1000
    assert min(ends["answered"], ends["refused"]) > 200, "the calls are not mixed enough to prove anything"
    assert all(ends[op] > 0 for op in OP_CASES)


def test_the_judge_sees_what_is_wrong() -> None:
    good = OP_CASES["gae"].inputs((12, 8))
    contract = CONTRACTS["gae"]
    assert why_illegal(contract, {**good, "values": good["values"][1:]}) == "values disagrees about T"
    assert why_illegal(contract, {**good, "valid": None}) is None
    assert why_illegal(contract, {**good, "terminated": None}) == "terminated is no dense tensor"
    assert why_illegal(contract, {**good, "gamma": True}) == "gamma is no fraction"
    assert why_illegal(contract, {**good, "values": good["values"].double()}) == "values has another dtype"
    assert why_illegal(contract, {**good, "values": good["values"].to("meta")}) == "devices differ"
    assert (
        why_illegal(
            contract,
            {
                name: value.to("meta") if isinstance(value, torch.Tensor) else value
                for name, value in good.items()
            },
        )
        is None
    )
