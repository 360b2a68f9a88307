"""What is promised of every algorithm is tested over the whole registry at once: `algorithm` runs through it,
`config_of` makes it small.

An algorithm that joins the registry joins these tests; what makes it small is in
`fastrl.testing.small_settings`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastrl.errors import SettingError
from fastrl.testing.small_settings import small_settings
from fastrl.trainers.registry import ALGORITHMS, find_algorithm


def small_config(name: str, **changes: Any) -> Any:
    """The configuration of an algorithm at its smallest: 64 steps of two environments, two evaluation
    episodes, one thread."""
    config_class = find_algorithm(name).config_class()
    return config_class(**small_settings(config_class, **changes))


@pytest.fixture(params=list(ALGORITHMS))
def algorithm(request: pytest.FixtureRequest) -> str:
    """Every algorithm of the registry by its name."""
    return str(request.param)


@pytest.fixture
def config_of() -> Callable[..., Any]:
    """`config_of(name, **changes)`: see `small_config`."""
    return small_config


@pytest.fixture
def trainer_of() -> Callable[..., Any]:
    """`trainer_of(name, **changes)`: a trainer of `small_config`. Its `train` takes `total_steps` and
    `out_dir` by name."""

    def make(name: str, **changes: Any) -> Any:
        try:
            return find_algorithm(name).trainer_class().from_config(small_config(name, **changes))
        except SettingError as error:
            if "actions; " in str(error) and "takes continuous ones" in str(error):
                pytest.skip(str(error))  # the promise is kept for the algorithms that take these actions
            raise

    return make
