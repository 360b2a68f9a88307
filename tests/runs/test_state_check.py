"""What does not look like the example is refused by its key."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from fastrl.runs.optimizers import load_keeping_settings
from fastrl.runs.state_check import Checked, ListOf, Maybe, StateError, Within, require_like

EXAMPLE: dict[str, Any] = {
    "w": torch.ones(2, 3),
    "a": np.zeros(3, np.int64),
    "n": 3,
    "x": 0.5,
    "flag": True,
    "name": "text",
    "pair": (1, 2.0),
    "half": Maybe({"position": Within(0, 0, 7)}),
    "recent": ListOf([0.0, 0], 2),
    "choice": Within(torch.zeros(2, 2, dtype=torch.int64), 0, torch.tensor([1, 4])),
    "var": torch.ones(2),
    "own": None,
}
GOOD: dict[str, Any] = {
    **{name: EXAMPLE[name] for name in ("w", "a", "n", "x", "flag", "name", "pair", "var")},
    **{"half": None, "recent": [[1.5, 3]], "choice": torch.tensor([[1, 4], [0, 0]]), "own": {"anything": []}},
}


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (
            "w",
            torch.ones(2, 3).double(),
            r"state\['w'\] must be a float32 tensor of shape \[2, 3\], it is a float64 tensor of shape \[2, "
            r"3\]",
        ),
        ("w", np.ones((2, 3), np.float32), r"it is a float32 array of shape \[2, 3\]"),
        ("w", torch.full((2, 3), math.nan), r"state\['w'\] has numbers that are not finite"),
        ("a", np.zeros(4, np.int64), r"state\['a'\] must be a int64 array of shape \[3\]"),
        ("n", True, r"state\['n'\] must be a whole number in \[0, 2\^64\), it is True"),
        ("n", -1, "it is the whole number -1"),
        ("n", 10**40, "it is a huge whole number"),
        ("x", math.inf, r"state\['x'\] must be a finite number, it is the number inf"),
        ("x", 10**400, "it is a huge whole number"),
        ("flag", 1, r"state\['flag'\] must be True, it is the whole number 1"),
        ("name", None, r"state\['name'\] must be the text 'text', it is None"),
        ("pair", [1, 2.0], r"state\['pair'\] must be a tuple of 2 items, it is a list of 2 items"),
        (
            "half",
            {"position": 8},
            r"state\['half'\]\['position'\] must be in \[0, 7\], it has the whole number 8",
        ),
        ("half", {}, r"state\['half'\]\['position'\] is missing"),
        ("half", {"position": 1, "more": 1}, r"state\['half'\]\['more'\] has no place in it"),
        (
            "recent",
            [[1.0, 2]] * 3,
            r"state\['recent'\] must be a list of at most 2 items, it is a list of 3 items",
        ),
        ("recent", [[1.0, "2"]], r"state\['recent'\]\[0\]\[1\] must be a whole number"),
        (
            "choice",
            torch.tensor([[2, 0], [0, 0]]),
            r"state\['choice'\] must be in \[0, \[1, 4\]\], it has the whole number 2",
        ),
        ("var", torch.tensor([1.0, -1.0]), r"state\['var'\] must be in \[0, inf\], it has the number -1.0"),
    ],
)
def test_the_first_key_that_differs_is_named(key: str, value: Any, sentence: str) -> None:
    require_like(GOOD, EXAMPLE, "state")
    with pytest.raises(StateError, match=sentence):
        require_like({**GOOD, key: value}, EXAMPLE, "state")


def test_a_part_can_be_looked_at_by_its_owner() -> None:
    seen: list[tuple[Any, str]] = []
    require_like({"a": 1}, {"a": Checked(lambda found, where: seen.append((found, where)))}, "state")
    assert seen == [(1, "state['a']")]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD])
def test_states_of_optimisers_are_looked_at_before_they_are_taken(kind: Any) -> None:
    model = torch.nn.Linear(3, 2)
    trained, fresh = kind(model.parameters(), lr=0.5), kind(model.parameters(), lr=0.1)
    model(torch.ones(3)).sum().backward()
    trained.step()
    load_keeping_settings(fresh, trained.state_dict())
    assert fresh.param_groups[0]["lr"] == 0.1 and set(fresh.state_dict()["state"]) == set(
        trained.state_dict()["state"]
    )
    before = copy.deepcopy(fresh.state_dict())
    bad: list[dict[str, Any]] = [
        {"state": {7: {}}, "param_groups": before["param_groups"]},
        {"state": {}, "param_groups": []},
        {"state": {}},
    ]
    for name in before["state"].get(0, {}):
        moments = before["state"][0]
        wrong = (
            {**before["state"], 0: {**moments, name: torch.ones(7)}},
            {**before["state"], 0: {key: moments[key] for key in moments if key != name}},
        )
        bad += [{**before, "state": state} for state in wrong if moments[name] is not None]
    for state in bad:
        with pytest.raises(StateError, match="optimizer"):
            load_keeping_settings(fresh, state)
        assert repr(fresh.state_dict()) == repr(before)
