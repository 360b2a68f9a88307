"""`make_vector_env`: the one way from an id, an object or a factory to a `VectorEnv`.

What an environment is made of, and by whom, stands in the table `fastrl.envs.families.FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from fastrl.envs.base import VectorEnv
from fastrl.envs.families import EnvId, env_source, family_of, list_env_ids, make_environments
from fastrl.envs.vector_settings import VectorSettings, split_options
from fastrl.errors import SettingError

if TYPE_CHECKING:
    import gymnasium as gym

__all__ = ["EnvId", "env_source", "list_env_ids", "make_gymnasium_env", "make_vector_env"]


def make_vector_env(
    env: Any,
    num_envs: int = 1,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    num_threads: int | None = None,
    obs_keys: Sequence[str] | None = None,
    max_episode_steps: int | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    scale_actions: bool = True,
    autoreset_mode: Any = None,
    action_mask_key: str | None = None,
) -> VectorEnv:
    """Environments for a trainer.

    Args:
        env: an id: one of fastrl's own (`Identity-v0`, `IdentityContinuous-v0`, `Counter-v0`,
            `ProofofMemory-v0`, `MaskedCartPole-v1`), EnvPool's where it has the id, else Gymnasium's;
            `dm_control/<domain>-<task>` or `dm_control/<domain>/<task>` is EnvPool's task, and
            `gymnasium:<id>` always Gymnasium's environment. `module:name` imports the module (the present
            folder counts) and takes the id that it registers with Gymnasium, else its class or function of
            that name, as a factory. Or a Gymnasium environment (then N is 1), a Gymnasium vector environment
            (then N is its own), or a factory: called N times for Gymnasium environments, or once for a vector
            environment, with `env_kwargs` as its arguments.
        num_envs: N.
        seed: gives each environment a seed of its own; the same seed gives the same environments.
        device: where observations, rewards and flags go.
        num_threads: threads of EnvPool; None: one per environment, at most one per core. Other environments
            use one.
        obs_keys: entries of dict observations to take, in this order; None: all but images (see
            `ObservationMap`).
        max_episode_steps: another time limit. A vector environment that is already made keeps its own: one
            that tells another is refused, and where it tells none this is taken for what it has, and not
            enforced.
        env_kwargs: options of the environment; `crop` for MiniGrid, and `num_actions`: only the first ones of
            its discrete actions.
        scale_actions: continuous actions go from −1 to 1 and are mapped to the environment's bounds, in each
            dimension whose bounds are finite (see `fastrl.envs.action_scale.ActionScale`); False: they are in
            the environment's own units.
        autoreset_mode: "next_step", "same_step" or "disabled", of a Gymnasium vector environment that does
            not tell its mode; None finds it out (see `fastrl.envs.adapters.autoreset`). `env_kwargs` may hold
            it too.
        action_mask_key: the entry of dict observations that says which discrete actions are allowed, or
            `info.<name>` for an entry of the infos. The mask is the end of what policies get as observation,
            whose `action.masked` is set; None: every action is allowed.

    Returns:
        A `VectorEnv`; call `reset` first. A `VectorEnv` given as `env` is returned as it is.

    Raises:
        SettingError: no such environment (the message names the nearest), a missing package, or a setting
            that does not fit.
    """
    settings = VectorSettings(
        num_envs=num_envs,
        seed=seed,
        device=device,
        num_threads=num_threads,
        obs_keys=obs_keys,
        max_episode_steps=max_episode_steps,
        env_kwargs=env_kwargs,
        scale_actions=scale_actions,
        autoreset_mode=autoreset_mode,
        action_mask_key=action_mask_key,
    )
    return make_environments(env, settings)


def make_gymnasium_env(
    env: str | Callable[..., gym.Env[Any, Any]],
    *,
    max_episode_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> gym.Env[Any, Any]:
    """One environment with Gymnasium's interface: Gymnasium's own if possible, else EnvPool's or fastrl's.

    Args:
        env: an id, `module:name` among them, or a factory of Gymnasium environments.
        max_episode_steps: another time limit.
        options: as `env_kwargs` of `make_vector_env`, and of the environment that it makes: of EnvPool's,
            where EnvPool has the id. With a `render_mode` among them it has to be Gymnasium's.

    Raises:
        SettingError: there is no such environment, a package it needs is missing, or it cannot be made with
            these arguments.
    """
    import gymnasium as gym

    from fastrl.envs.single import SingleEnv

    own, maps = split_options(options)
    family = family_of(env)
    single = partial(SingleEnv, env, max_episode_steps=max_episode_steps, **own, **maps)
    elsewhere = family.source != "gymnasium" and "render_mode" not in own
    if maps or (elsewhere and (own or env not in gym.registry)):
        return single()
    try:
        return family.make_single(env, own, max_episode_steps)
    except SettingError:
        if elsewhere:  # MuJoCo ids without the package mujoco
            return single()
        raise
