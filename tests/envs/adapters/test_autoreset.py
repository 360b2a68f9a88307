"""A vector environment's untold autoreset mode is found out or asked for: no row is lost or doubled."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from fastrl.envs import EnvironmentFailure, make_vector_env
from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.autoreset import found_mode
from fastrl.envs.observations import ObservationMap
from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.errors import SettingError

MODES = {
    "next_step": AutoresetMode.NEXT_STEP,
    "same_step": AutoresetMode.SAME_STEP,
    "disabled": AutoresetMode.DISABLED,
}


def silent(env: Any) -> Any:
    """The environment without a word about its mode."""
    env.metadata = {}
    return env


class Supersuit(gym.vector.VectorEnv):
    """Counters in the manner of SuperSuit: one space, a list of infos, flags as bytes, one seed.

    Args:
        told: last observations stand in the infos.
    """

    def __init__(self, lengths: tuple[int, ...] = (3, 5), told: bool = True) -> None:
        self.num_envs, self.lengths, self.told = len(lengths), np.array(lengths), told
        self.metadata = {"is_parallelizable": True}
        self.observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.count = np.zeros(self.num_envs, np.int64)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, Any]:
        assert seed is None or isinstance(seed, int)
        self.count[:] = 0
        return self._obs(), [{} for _ in self.count]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        reward = self.count.astype(np.float32)
        self.count += 1
        ended = self.count >= self.lengths
        infos = [
            {"terminal_observation": np.float32([n])} if end and self.told else {}
            for n, end in zip(self.count, ended, strict=True)
        ]
        self.count[ended] = 0
        return self._obs(), reward, ended.astype(np.uint8), np.zeros(self.num_envs, np.uint8), infos

    def _obs(self) -> np.ndarray:
        return self.count[:, None].astype(np.float32)


def rows_of(env: Any, steps: int) -> list[list[tuple[float, float, float, bool]]]:
    """Valid transitions of each environment: (obs, reward, next obs, end)."""
    found: list[list[tuple[float, float, float, bool]]] = [[] for _ in range(env.num_envs)]
    obs = env.reset()
    for _ in range(steps):
        step = env.step(torch.zeros(env.num_envs, dtype=torch.int64))
        for i in torch.nonzero(step.valid).flatten().tolist():
            end = bool(step.terminated[i] | step.truncated[i])
            found[i].append((obs[i, 0].item(), step.reward[i].item(), step.obs[i, 0].item(), end))
        obs = step.obs
    return found


def require_whole_episodes(env: Any, lengths: list[int]) -> None:
    """Every episode of the counters is 0 → 1 → ... → its length, with nothing lost and nothing doubled."""
    for rows, length in zip(rows_of(env, 60), lengths, strict=True):
        assert len(rows) > 3 * length
        for index, row in enumerate(rows):
            n = index % length
            assert row == (n, n, n + 1, n + 1 == length)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["Counter-v0", "Identity-v0", "LinearQuadratic-v0"])
def test_the_mode_is_found_by_stepping(mode: str, env_id: str) -> None:
    assert make_vector_env(silent(ToyVectorGym(env_id, 3, MODES[mode]))).autoreset_mode == mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_the_mode_of_environments_of_others_is_found(mode: str, env_id: str) -> None:
    vector = gym.make_vec(env_id, 2, "sync", vector_kwargs={"autoreset_mode": MODES[mode]})
    assert make_vector_env(gym.vector.VectorWrapper(silent(vector))).autoreset_mode == mode


@pytest.mark.parametrize("mode", MODES)
def test_no_transition_is_lost_or_doubled(mode: str) -> None:
    lengths = [3, 5, 4]
    require_whole_episodes(
        make_vector_env(silent(ToyVectorGym("Counter-v0", 3, MODES[mode], length=lengths))), lengths
    )


class Lost(ToyVectorGym):
    """Says nothing of its mode, nor of last observations."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        return *super().step(actions)[:4], {}


@pytest.mark.parametrize("num_symbols", [2, 4, 8, 20, 300])
def test_actions_that_seldom_matter_do_not_look_like_ignored_ones(
    num_symbols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, set[str | None]] = {name: set() for name in MODES}
    for mode, starts in ((mode, starts) for mode in MODES for starts in range(4)):
        monkeypatch.setattr(
            "fastrl.envs.adapters.autoreset.SEEDS", tuple(range(10 * starts, 10 * starts + 5))
        )
        env: Any = silent(Lost("Identity-v0", 2, MODES[mode], num_symbols=num_symbols))
        maps = ObservationMap(env.single_observation_space), ActionMap(env.single_action_space, name="Lost")
        found[mode].add(found_mode(env, *maps)[0])
    next_step = (
        "next_step" if num_symbols <= 8 else None
    )  # with more choices it is not certain, and asked for
    assert found == {"next_step": {next_step}, "same_step": {None}, "disabled": {"disabled"}}


def test_environments_in_the_manner_of_supersuit() -> None:
    env = make_vector_env(Supersuit, 2)
    assert env.autoreset_mode == "same_step" and env.obs_shape == (1,) and env.action.num_actions == 2
    require_whole_episodes(env, [3, 5])


@pytest.mark.parametrize(
    ("env", "why"),
    [
        (lambda: Supersuit(told=False), "stepping it does not show it"),
        (
            lambda: silent(ToyVectorGym("ProofofMemory-v0", 2)),
            "stepping it does not show it",
        ),  # its first steps move nothing
        (lambda: Supersuit(lengths=(2000,)), "no episode ended in 1000 steps of random actions"),
        (lambda: silent(Dreamer()), "two plays from one seed differ"),
    ],
)
def test_what_stepping_cannot_tell_is_asked_for(env: Any, why: str) -> None:
    with pytest.raises(
        SettingError,
        match=rf"autoreset_mode must be given for \w+, which does not tell it .*, and {why}: next_step, ",
    ):
        make_vector_env(env())


def test_the_mode_can_be_told() -> None:
    memory = lambda: silent(ToyVectorGym("ProofofMemory-v0", 2))  # noqa: E731
    assert make_vector_env(memory(), autoreset_mode="next_step").autoreset_mode == "next_step"
    assert (
        make_vector_env(memory, 2, env_kwargs={"autoreset_mode": "NEXT_STEP"}).autoreset_mode == "next_step"
    )
    assert make_vector_env(memory(), autoreset_mode=AutoresetMode.NEXT_STEP).autoreset_mode == "next_step"
    lossy = make_vector_env(Supersuit(told=False), autoreset_mode="same_step")
    lossy.reset()
    with pytest.raises(EnvironmentFailure, match="no final_obs in infos"):
        for _ in range(3):
            lossy.step(torch.zeros(2, dtype=torch.int64))


def test_a_mode_that_is_none_or_has_no_place() -> None:
    for env in (Supersuit(), Supersuit):
        with pytest.raises(
            SettingError, match="autoreset_mode must be next_step, same_step or disabled, got 'sometimes'"
        ):
            make_vector_env(env, 2, autoreset_mode="sometimes")
    for env in (gym.make("CartPole-v1"), lambda: gym.make("CartPole-v1"), "CartPole-v1"):
        with pytest.raises(SettingError, match="autoreset_mode is for"):
            make_vector_env(env, autoreset_mode="next_step")


def test_spaces_of_one_environment_must_be_told() -> None:
    class Batched(Supersuit):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = batch_space(self.observation_space, 2)

    with pytest.raises(SettingError, match="Batched has no single_observation_space and single_action_space"):
        make_vector_env(Batched())


class Dreamer(ToyVectorGym):
    """Next-step resets, actions that count, and observations with noise that no seed decides."""

    def __init__(self) -> None:
        super().__init__("LinearQuadratic-v0", 2)
        self.noise = np.random.default_rng()

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        obs, *others = super().step(actions)
        return (obs + self.noise.normal(size=obs.shape), *others)  # type: ignore[return-value]


def test_an_environment_that_breaks_is_named() -> None:
    class Broken(Supersuit):
        def step(self, actions: np.ndarray) -> Any:
            raise FloatingPointError("joint limit")

    with pytest.raises(
        EnvironmentFailure,
        match="Broken failed while its autoreset mode was looked for: FloatingPointError: joint limit",
    ):
        make_vector_env(Broken())
