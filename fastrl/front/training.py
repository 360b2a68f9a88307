"""Training in one call, by the names of algorithms and settings."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from fastrl.errors import SettingError
from fastrl.runs.config import RunConfig
from fastrl.trainers.registry import ALGORITHMS, find_algorithm

if TYPE_CHECKING:
    import gymnasium as gym

    from fastrl.envs import VectorEnv
    from fastrl.runs.trainer import Trainer

    # an id, an environment, or a function or class that makes environments
    Environment = (
        str | gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any] | VectorEnv | Callable[..., Any]
    )


def algorithms() -> dict[str, str]:
    """The algorithms by name, with a line about each."""
    return {name: algorithm.summary for name, algorithm in ALGORITHMS.items()}


def train(
    algorithm: str,
    env: Environment,
    *,
    total_steps: int | None = None,
    out_dir: str | PathLike[str] | None = None,
    preset: bool = True,
    **settings: Any,
) -> Trainer:
    """Train an algorithm on an environment, and write the run folder.

    Args:
        algorithm: its name, one of `fastrl.algorithms()`.
        env: an EnvPool or Gymnasium id, `module:name`, an environment, a vector environment, or a function
            or class that makes environments.
        total_steps: environment steps, over all environments; None: the preset's or the algorithm's default.
        out_dir: the run folder; None: `runs/<algorithm>-<environment>-<seed>-<time>`, see the trainer's
            `run_folder`.
        preset: start from the recommended settings for this id, where there are some; False: from the
            algorithm's defaults.
        **settings: other settings of the algorithm by name, `fastrl train <algorithm> --help` lists them;
            they go before the preset's.

    Returns:
        The trainer, still open: `evaluate`, `act`, `save` and `train` work; `close` it, or use it in a
        `with`.

    Raises:
        SettingError: there is no such algorithm, environment or setting, or a value is out of its range; the
            message names it, and the nearest that there is.
    """
    config = configuration(algorithm, env, preset=preset, settings=settings)
    if total_steps is not None:
        config.total_steps = total_steps
    trainer: Trainer = find_algorithm(algorithm).trainer_class().from_config(config)
    try:
        trainer.train(total_steps=trainer.config.total_steps, out_dir=out_dir)
    except BaseException:
        trainer.close()
        raise
    return trainer


def configuration(algorithm: str, env: Environment, *, preset: bool, settings: dict[str, Any]) -> RunConfig:
    """The configuration of an algorithm: its defaults, then the environment's preset, then the settings."""
    if "env_id" in settings:
        raise SettingError("env_id is the argument env here: give the environment there")
    config_class = find_algorithm(algorithm).config_class()
    values = config_class.preset(env) if preset and isinstance(env, str) else {}
    values |= _number_of(env)
    config: RunConfig = config_class.of({**values, **settings, "env_id": env})
    return config


def _number_of(env: Environment) -> dict[str, int]:
    """The setting `num_envs` of environments that are already made; none for an id or a factory."""
    if isinstance(env, str):
        return {}
    import gymnasium as gym

    from fastrl.envs import VectorEnv

    if isinstance(env, VectorEnv | gym.vector.VectorEnv):
        return {"num_envs": env.num_envs}
    return {"num_envs": 1} if isinstance(env, gym.Env) else {}
