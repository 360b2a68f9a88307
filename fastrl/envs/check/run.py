"""Which checks an environment goes through, by what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.gymnasium_vector import single_spaces
from fastrl.envs.base import VectorEnv
from fastrl.envs.check.actions import random_actions
from fastrl.envs.check.autoreset import check_autoreset, check_infos
from fastrl.envs.check.report import Report, said
from fastrl.envs.check.single import SingleCheck
from fastrl.envs.check.spaces import actions_of, observations_of, require_space
from fastrl.envs.check.stream import check_runs, check_same_seed, check_stream, describe
from fastrl.envs.make import env_source, make_gymnasium_env, make_vector_env
from fastrl.envs.observations import ObservationMap
from fastrl.envs.own import env_name
from fastrl.errors import SettingError

FEW = 64  # steps of the environments side by side, after one alone has been looked at


class Check:
    """One check, from the environment as it is given to the report.

    Args:
        env: what `make_vector_env` takes.
        num_envs, seed, obs_keys, max_episode_steps, env_kwargs: as in `make_vector_env`.
        steps: random steps.
    """

    def __init__(
        self,
        env: Any,
        *,
        num_envs: int,
        steps: int,
        seed: int,
        obs_keys: Sequence[str] | None,
        max_episode_steps: int | None,
        env_kwargs: Mapping[str, Any] | None,
    ) -> None:
        self._env, self._steps, self._seed = env, steps, seed
        self._num_envs = num_envs
        self._settings: dict[str, Any] = {
            "obs_keys": obs_keys,
            "max_episode_steps": max_episode_steps,
            "env_kwargs": env_kwargs,
        }
        own = ("crop", "num_actions", "autoreset_mode")  # options that fastrl takes, not the environment
        self._options = {name: value for name, value in (env_kwargs or {}).items() if name not in own}
        self._maps = {name: (env_kwargs or {}).get(name) for name in own}
        self.report = Report(_name(env))

    def run(self) -> Report:
        """Make the environment, look at it, and close it if it was made here."""
        given = isinstance(self._env, VectorEnv | gym.Env | gym.vector.VectorEnv)
        env: Any = self._env if given else self._make()
        if env is None:
            return self.report
        try:
            self._look(env, given)
        finally:
            if not given:
                with self.report.guard("environment", "close"):
                    env.close()
        return self.report

    def _make(self) -> Any:
        """The environment of an id or a factory, as little wrapped as it can be had; None with an error."""
        env = self._env
        if not isinstance(env, str):
            if not callable(env):
                raise SettingError(
                    "env must be an id, an environment or a factory of environments, got "
                    f"{type(env).__name__}"
                )
            made = None
            with self.report.guard("environment", "making it"):
                made = env(**self._options)
            return made
        try:
            if env_source(env) != "gymnasium":
                return self._vector()
            return make_gymnasium_env(
                env, max_episode_steps=self._settings["max_episode_steps"], options=self._options
            )
        except SettingError as error:
            if "cannot be made" not in str(error):  # the id, or a setting, is a mistake of whoever asked
                raise
            self.report.error("environment", str(error))
        except (Exception, SystemExit) as error:
            self.report.error("environment", f"making it raised {said(error)}")
        return None

    def _vector(self, env: Any = None) -> VectorEnv:
        return make_vector_env(
            self._env if env is None else env, self._num_envs, seed=self._seed, **self._settings
        )

    def _look(self, env: Any, given: bool) -> None:
        report = self.report
        if isinstance(env, VectorEnv):
            report.name = env.name
            if env.own_spaces is None or self._maps_of(*env.own_spaces) is None:
                describe(env, report)
            check_stream(env, report, steps=self._steps, seed=self._seed)
            if not given and not report.broken:
                check_same_seed(self._vector, report, seed=self._seed)
        elif isinstance(env, gym.vector.VectorEnv):
            report.name = env_name(env)
            self._look_at_vector(env)
        elif isinstance(env, gym.Env):
            report.name = env_name(env) if not isinstance(self._env, str) else self._env
            self._look_at_single(env, given)
        else:
            kind = type(env)
            old = (
                "; it is of the old package gym: wrap it with shimmy's GymV21CompatibilityV0"
                if kind.__module__.startswith("gym.")
                else ""
            )
            report.error("environment", f"it is a {kind.__name__}, not a gymnasium.Env{old}")

    # --------------------------------------------------------------------------------------- by kind

    def _look_at_single(self, env: gym.Env[Any, Any], given: bool) -> None:
        report = self.report
        mode = getattr(env, "render_mode", None)
        if mode == "human":
            report.warn(
                "rendering", "render_mode is 'human': a window is drawn at every step of every environment"
            )
        elif mode is not None:
            report.note("rendering", f"render_mode is {mode!r}")
        maps = self._maps_of(env.observation_space, env.action_space)
        if maps is None:
            return
        with report.guard("environment", "checking it"):
            SingleCheck(env, maps[1], report, seed=self._seed).run(self._steps)
        if report.broken:
            return
        with report.guard("environment", "making several"):
            if given:
                check_runs(
                    make_vector_env(env, 1, seed=self._seed, **self._settings),
                    report,
                    steps=FEW,
                    seed=self._seed,
                )
                return
            with self._vector() as several:
                check_runs(several, report, steps=FEW, seed=self._seed)

    def _look_at_vector(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        report = self.report
        maps: Any = None
        with report.guard("environment", "telling the spaces of one environment"):
            maps = self._maps_of(*single_spaces(env, env_name(env)))
        if maps is None:
            return
        if type(env) is gym.vector.SyncVectorEnv:
            SingleCheck(env.envs[0], maps[1], report, seed=self._seed).run(self._steps)
            report.note(
                "autoreset", "the environments of a SyncVectorEnv are stepped one by one, whatever its mode"
            )
        else:
            observations, actions = maps
            with report.guard("step", "stepping"):
                drawn = random_actions(actions.spec, np.random.default_rng(self._seed), env.num_envs)
                check_infos(env, actions.batch(drawn), self._seed, report)
            if not report.broken:
                with report.guard("autoreset", "stepping"):
                    check_autoreset(
                        env, report.name, observations, actions, self._maps["autoreset_mode"], report
                    )
        if report.broken:
            return
        with report.guard("environment", "stepping"):
            stream = make_vector_env(
                env,
                env.num_envs,
                seed=self._seed,
                **{**self._settings, "env_kwargs": None, **self._map_settings()},
            )
            run: Callable[..., None] = check_runs if type(env) is gym.vector.SyncVectorEnv else check_stream
            run(stream, report, steps=self._steps, seed=self._seed)

    def _map_settings(self) -> dict[str, Any]:
        given = {name: value for name, value in self._maps.items() if value is not None}
        return {"env_kwargs": given} if given else {}

    def _maps_of(self, observation_space: Any, action_space: Any) -> tuple[ObservationMap, ActionMap] | None:
        """How observations and actions become the environment's, with notes on both; None: an error."""
        sound = [
            require_space(observation_space, "observations", self.report),
            require_space(action_space, "actions", self.report),
        ]
        if not all(sound):
            return None
        seen: ObservationMap | None = observations_of(
            observation_space, self.report, obs_keys=self._settings["obs_keys"], crop=self._maps["crop"]
        )
        actions = actions_of(action_space, self.report, num_actions=self._maps["num_actions"])
        return None if seen is None or actions is None else (seen, actions)


def _name(env: Any) -> str:
    if isinstance(env, str):
        return env
    return str(getattr(env, "name", None) or getattr(env, "__name__", None) or type(env).__name__)
