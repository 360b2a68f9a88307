"""Advantage actor-critic."""

from __future__ import annotations

from fastrl.toolkit.models.vanilla_pg_model import VanillaPGModel


class A2CModel(VanillaPGModel):
    """`VanillaPGModel` by its name with a value function, many environments and short rollouts.

    Args:
        model, batcher, entropy_coef, kwargs: as for `BasePGModel`.

    Reference: Mnih et al. 2016, Asynchronous Methods for Deep Reinforcement Learning; its synchronous form.
    """
