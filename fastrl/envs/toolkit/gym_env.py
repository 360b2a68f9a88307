"""`GymEnv`: a single environment by its id or of a user's own, and vector environments of its kind."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from fastrl.envs.action_spec import ActionSpec, _as_array
from fastrl.envs.base import VectorEnv
from fastrl.envs.make import env_source, make_vector_env
from fastrl.envs.own import is_environment, is_factory, label
from fastrl.envs.space_info import SpaceInfo, require_same, space_info
from fastrl.envs.toolkit.base_env import BaseEnv
from fastrl.errors import SettingError

if TYPE_CHECKING:
    import gymnasium as gym

    from fastrl.envs.toolkit.wrapped import Wrapper

# arguments that environments of this kind once had
_MOVED = ("fixed_normalize_states", "running_normalize_states", "scale_reward")


class GymEnv(BaseEnv):
    """One environment by its id (fastrl's, EnvPool's or else Gymnasium's), or one of your own.

    States are those of `make_vector_env`, for one environment: float32, or uint8 images. Actions are in the
    environment's own units, as `get_action_info` describes them, unless `scale_actions` is given; those of
    `vector` are in [−1, 1], for policies.

    Args:
        env_name: the id, or a factory. A Gymnasium environment or `VectorEnv` of one that is already made is
            taken too; there is only that one, so it has no `vector`, and a `VectorEnv` no other seed.
        wrappers: functions env -> env around the environment, the first one innermost. They get Gymnasium's
            object where the id is Gymnasium's, a `fastrl.envs.single.SingleEnv` otherwise.
        seed: seeds the episodes and `sample_random_action`.
        obs_keys, max_episode_steps: see `make_vector_env`.
        scale_actions: actions are in [−1, 1], as policies choose them, and mapped to the environment's bounds
            (see `ActionScale`): for a loop of one's own with a policy that was trained in vector
            environments.
        state_info, action_info: what a configuration says the spaces are; None: anything.
        kwargs: options of the environment, `crop` and `num_actions` of `make_vector_env` among them.

    Raises:
        SettingError: there is no such environment, a setting does not fit it, or its spaces are not those of
            the configuration.
    """

    env: VectorEnv

    def __init__(
        self,
        env_name: Any,
        *,
        wrappers: Sequence[Wrapper] | None = None,
        seed: int = 0,
        obs_keys: Sequence[str] | None = None,
        max_episode_steps: int | None = None,
        scale_actions: bool = False,
        state_info: Mapping[str, Any] | None = None,
        action_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_arguments(env_name, wrappers, kwargs)
        self._source = self._resolve(env_name)  # what environments are made of
        self._is_made = not isinstance(env_name, str) and not is_factory(env_name)
        self._wrappers = tuple(wrappers or ())
        self._seed, self._scale_actions = seed, scale_actions
        self._said_clipped = False
        self._video: str | None = None  # folder of the videos
        self._playing = False  # an episode is going on
        self._settings: dict[str, Any] = {
            "obs_keys": obs_keys,
            "max_episode_steps": max_episode_steps,
            "env_kwargs": kwargs,
        }
        super().__init__(self._source if isinstance(self._source, str) else label(self._source))
        try:
            require_same("state_info", self.get_state_info(), state_info)
            require_same("action_info", self.get_action_info(), action_info)
        except SettingError:
            self.close()
            raise

    @staticmethod
    def _resolve(env_name: Any) -> Any:
        """The id to make for a name; a factory or an environment as it is."""
        return env_name

    def _create_env(self) -> VectorEnv:
        """A vector environment of one."""
        from fastrl.envs.single import spaces_of

        env = self._make(1, self._seed, scale_actions=self._scale_actions)
        if env.num_envs != 1:
            raise SettingError(f"env_name must be a single environment, {env.name} has {env.num_envs}")
        self._observation_space, self._action_space = spaces_of(
            env.obs_shape, env.action, env.obs_dtype, env.obs_bounds
        )
        self._action_space.seed(self._seed)
        self._playing = False
        return env

    def vector(
        self,
        num_envs: int,
        seed: int = 0,
        *,
        device: torch.device | str = "cpu",
        num_threads: int | None = None,
    ) -> VectorEnv:
        """New environments of the same id, options and wrappers, for a batcher; actions are in [−1, 1].

        They belong to the caller.

        Args:
            num_envs: N.
            seed: gives each environment a seed of its own; with N = 1 the episodes are those of `GymEnv(...,
                seed=seed)`.
            device: where observations, rewards and flags go.
            num_threads: threads of EnvPool; with wrappers the environments are stepped one by one in the
                calling thread.

        Raises:
            SettingError: the environment is an object that is already made: there is only that one.
        """
        if self._is_made:
            raise SettingError(
                f"{self.env_name} is already made, so no others of its kind can be: give GymEnv a factory"
            )
        threads = {} if self._wrappers else {"num_threads": num_threads}
        return self._make(num_envs, seed, video=None, device=device, **threads)

    def _make(self, num_envs: int, seed: int, **more: Any) -> VectorEnv:
        settings: dict[str, Any] = {"seed": seed, "video": self._video, **self._settings, **more}
        if self._wrappers or settings["video"] is not None:
            from fastrl.envs.toolkit.wrapped import make_wrapped_envs  # here, since it loads Gymnasium

            return make_wrapped_envs(self._source, num_envs, self._wrappers, **settings)
        del settings["video"]
        return make_vector_env(self._source, num_envs, **settings)

    @property
    def simulator(self) -> str:
        """ "envpool", "gymnasium", or "fastrl" for environments of its own."""
        if isinstance(self._source, VectorEnv):
            return "fastrl"
        return "gymnasium" if self._video is not None else env_source(self.env_name)

    def reset(self) -> np.ndarray:
        """Start an episode; an unfinished one is forgotten.

        Where an episode is less than a game, one life for example, the same game goes on after its end.

        Returns:
            The state, float32 or uint8 [*shape], an array of its own.
        """
        state = self.env.start_episodes()[0].numpy()
        self._playing = True
        return state

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, dict[str, Any]]:
        """Step once.

        Args:
            action: a whole number (discrete), [branches] of them (multi-discrete), or floats [A] within
                `get_action_info`'s bounds, to which they are clipped (continuous; a plain number where A is
                1). Arrays, tensors and lists alike.

        Returns:
            (next_state, reward, done, info). `next_state` is the true last state where the episode ended;
            `done` is True where `info["terminated"]` (by the environment's own rules) or `info["truncated"]`
            (cut, by a time limit for example) is. Where a whole game ended, `info["episode"]` holds its
            return "r", unclipped and before any wrapper, and its length "l".

        Raises:
            ValueError: the action has another shape or type, or is out of range.
            RuntimeError: no episode is going on: `reset` comes first.
        """
        if not self._playing:
            raise RuntimeError(f"{self.env_name}: call reset() before step(); no episode is going on")
        chosen = _one_action(self.env.action, action)
        if not self._said_clipped and self.env.action.kind == "continuous":
            self._look_for_policy_units(chosen)
        state, reward, terminated, truncated, _ = self.env.step(chosen[None])
        info: dict[str, Any] = {"terminated": bool(terminated[0]), "truncated": bool(truncated[0])}
        for episode in self.env.pop_episodes():
            info["episode"] = {"r": episode.episode_return, "l": episode.length}
        done = info["terminated"] or info["truncated"]
        self._playing = not done
        return state[0].numpy(), float(reward[0]), done, info

    def _look_for_policy_units(self, action: np.ndarray) -> None:
        """Say once that an action looks like a policy's: in [−1, 1], and outside the environment's bounds."""
        low, high = self._action_space.low, self._action_space.high  # type: ignore[attr-defined]  # a Box where actions are continuous
        outside = (action < low) | (action > high)
        if np.count_nonzero(outside) and (np.abs(action) <= 1).all():
            self._said_clipped, index = True, int(outside.argmax())
            warnings.warn(
                f"{self.env_name}: an action has {action[index]:g} where bounds are {low[index]:g} and "
                f"{high[index]:g}, and is clipped; "
                f"GymEnv(..., scale_actions=True) takes the actions of policies, in [-1, 1]",
                stacklevel=3,
            )

    def get_state_info(self) -> SpaceInfo:
        """Shape, kind, dtype and bounds of a state. Does not touch the environment."""
        return self.get_space_info(self._observation_space)

    def get_action_info(self) -> SpaceInfo:
        """Shape, kind, dtype and, of continuous actions, bounds. Does not touch the environment."""
        return self.get_space_info(self._action_space)

    @staticmethod
    def get_space_info(space: gym.Space[Any]) -> SpaceInfo:
        """The description of a Gymnasium space: Box, Discrete or MultiDiscrete (see `SpaceInfo`).

        Raises:
            SettingError: the space is of another kind.
        """
        return space_info(space)

    def update_config(self, config: Any) -> None:
        """Give a configuration the section `env`, from which the same environment can be made again.

        The section is plain: `func` (the dotted name of this class), `env_name`, options, `state_info` and
        `action_info` without bounds.
        Wrappers and environments of your own are the exception: they are put there as they are, so such a
        section is for this process, not for a file.

        Args:
            config: a `Config`, or any object with `new_section(name, **entries)`.
        """
        super().update_config(config)

    def _config_section(self) -> dict[str, Any]:
        own = {
            name: self._settings[name]
            for name in ("obs_keys", "max_episode_steps")
            if self._settings[name] is not None
        }
        if self._scale_actions:
            own["scale_actions"] = True
        if self._wrappers:
            own["wrappers"] = list(self._wrappers)
        return {**super()._config_section(), "env_name": self._source, **own, **self._settings["env_kwargs"]}

    def seed(self, value: int) -> None:
        """Start anew under another seed, for episodes and random actions; `reset` comes next."""
        self._seed = value
        self._renew()

    def sample_random_action(self) -> Any:
        """A random action: int, int64 [branches], or float32 [A], uniform between bounds, else normal."""
        action = self._action_space.sample()
        return int(action) if self.env.action.kind == "discrete" else action

    def record(self, path: str | PathLike[str]) -> None:
        """From now on store a video of every episode in the folder `path`; `reset` comes next.

        EnvPool does not draw, so the environment is made anew as Gymnasium's of the same id; vector
        environments are not recorded.

        Raises:
            SettingError: Gymnasium does not have the id or what it needs, or the package moviepy is missing.
        """
        import gymnasium as gym

        own = not isinstance(self._source, str) or env_source(self._source) == "fastrl"
        if own or (self.env_name not in gym.registry and ":" not in self.env_name):
            raise SettingError(
                f"record needs an environment that Gymnasium can draw; {self.env_name!r} is not one of its "
                "ids"
            )
        if importlib.util.find_spec("moviepy") is None:
            raise SettingError("record needs the package moviepy; run `pip install 'fastrl[video]'`")
        before, self._video = self._video, fspath(path)
        try:
            self._renew()
        except SettingError:
            self._video = before
            raise

    def _renew(self) -> None:
        if isinstance(self._source, VectorEnv):
            raise SettingError(f"{self.env_name} is already made, with its own seed; give GymEnv a factory")
        before = self.env
        self.env = self._create_env()
        if not self._is_made:  # the environment inside goes on
            before.close()

    def close(self) -> None:
        """Release the environment; further calls do nothing."""
        self._playing = False
        self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.env_name!r})"


def _check_arguments(env_name: Any, wrappers: Any, kwargs: Mapping[str, Any]) -> None:
    if not isinstance(env_name, str) and not is_environment(env_name):
        raise SettingError(
            "env_name must be the id of an environment, a factory or an environment, got "
            f"{type(env_name).__name__}"
        )
    for name in _MOVED:
        if name in kwargs:
            raise SettingError(
                f"{name} is no option of an environment: states and rewards are normalised by the batcher's "
                "transforms"
            )
    if wrappers is not None and (
        not isinstance(wrappers, Sequence) or not all(callable(wrapper) for wrapper in wrappers)
    ):
        raise SettingError(
            f"wrappers must be a list of functions from an environment to an environment, got {wrappers!r}"
        )


def _one_action(spec: ActionSpec, action: Any) -> np.ndarray:
    """One action as an array of the spec's shape, int64 or float32; choices are checked elsewhere."""
    array = _as_array(action)
    if array.shape == (1,) and spec.shape == () or array.shape == () and spec.shape == (1,):
        array = array.reshape(spec.shape)
    if array.shape != spec.shape:
        raise ValueError(f"action must have shape {list(spec.shape)} ({spec.kind}), got {list(array.shape)}")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"action must be numbers, got {array.dtype}")
    if spec.kind == "continuous":
        return array.astype(np.float32)
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise ValueError(f"action must be whole numbers ({spec.kind}), got {array.tolist()}")
    return array.astype(np.int64)
