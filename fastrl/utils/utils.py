"""The documented names of `fastrl.toolkit.utils.utils`."""

from fastrl.toolkit.utils.utils import (
    EPSILON,
    HOW_TO_TRUST,
    env_from_config,
    explained_var,
    get_func,
    get_obj,
    join_transitions,
    linear_schedule,
    make_callable,
    normalize,
    one_hot,
    piecewise_linear_schedule,
    to_np,
)

__all__ = [
    "EPSILON",
    "HOW_TO_TRUST",
    "env_from_config",
    "explained_var",
    "get_func",
    "get_obj",
    "join_transitions",
    "linear_schedule",
    "make_callable",
    "normalize",
    "one_hot",
    "piecewise_linear_schedule",
    "to_np",
]
