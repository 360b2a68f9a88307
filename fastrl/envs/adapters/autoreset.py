"""When a Gymnasium vector environment resets ended environments: as it says, or found out by stepping.

Lost or doubled rows are never risked: where stepping does not settle it, the user is asked. Plays from one
seed are compared that take the
same actions until an episode ends, and different ones from then on: with few choices, every one of them. With
many, a step that only seems to ignore its action has to be out of the question, by how often other actions
change the first step of an episode.

- SAME_STEP: the step on which an episode ends comes with its last observation in `infos`.
- NEXT_STEP: the step after the end ignores its action (all plays return the same), and ends nothing; the one
  after that, the first of the new episode, does not ignore it. Or, where actions never matter: every reset
  gives one and the same observation, and the step after the end gives it, the end itself does not.
- DISABLED: the step after the end is refused by the environment, and a reset of the ended columns alone is
  not.

Anything else (actions and starts that tell nothing, episodes that do not end, plays that do not repeat
themselves, last observations that are lost) is not decided.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from fastrl.envs.actions import ActionMap
from fastrl.envs.adapters.final_info import _extract_final_observations
from fastrl.envs.base import EnvironmentFailure
from fastrl.envs.observations import ObservationMap
from fastrl.errors import SettingError

MODES = ("next_step", "same_step", "disabled")
LONGEST_PLAY = 1000  # steps to wait for an end of an episode
SEEDS = (1, 2, 3, 4, 5)  # of the resets that are compared
MOST_OTHERS = 7  # actions that are tried in place of one
DOUBT = 1e-3  # probability of being wrong that is put up with


def autoreset_mode(
    env: gym.vector.VectorEnv[Any, Any, Any],
    name: str,
    observations: ObservationMap,
    actions: ActionMap,
    told: Any = None,
) -> str:
    """ "next_step", "same_step" or "disabled": as `told`, else as the metadata says, else found out.

    Stepping resets the environment under seeds; the next thing to do with it is another reset.

    Args:
        env: the vector environment.
        name: for messages.
        observations, actions: of one environment.
        told: what the user says; a name in upper or lower case, or Gymnasium's `AutoresetMode`.

    Raises:
        SettingError: what is said is no mode, or nothing is said and stepping does not settle it.
        EnvironmentFailure: the environment raised while it was stepped.
    """
    mode = told_mode(env, name, told)
    if mode is not None:
        return mode
    try:
        found, why = found_mode(env, observations, actions)
    except Exception as error:
        raise EnvironmentFailure(
            f"{name} failed while its autoreset mode was looked for: {type(error).__name__}: {error}"
        ) from error
    if found is None:
        raise SettingError(
            f"autoreset_mode must be given for {name}, which does not tell it in "
            f"metadata['autoreset_mode'], and {why}: "
            "next_step, same_step or disabled, as env_kwargs={'autoreset_mode': ...}"
        )
    return found


def told_mode(env: gym.vector.VectorEnv[Any, Any, Any], name: str, told: Any = None) -> str | None:
    """The mode as the user says (`told`), else as the metadata says, else None; SettingError for no mode."""
    if told is not None:
        return _known(told, "autoreset_mode")
    said = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
    if said is not None:
        return _known(said, f"metadata['autoreset_mode'] of {name}")
    return "next_step" if hasattr(env, "all_env_ids") else None  # EnvPool's own objects


def found_mode(
    env: gym.vector.VectorEnv[Any, Any, Any], observations: ObservationMap, actions: ActionMap
) -> tuple[str | None, str]:
    """(mode, "") as stepping shows it, or (None, what stood in the way).

    Whatever the environment raises comes through.
    """
    return _Probe(env, observations, actions).find()


def _known(mode: Any, what: str) -> str:
    word = str(getattr(mode, "value", mode)).lower().replace("_", "")
    for known in MODES:
        if word == known.replace("_", ""):
            return known
    raise SettingError(f"{what} must be next_step, same_step or disabled, got {mode!r}")


@dataclass
class _Row:
    """What one step returned, in arrays: observations [N, ...], rewards [N], ends [N]; infos as they came."""

    obs: np.ndarray
    reward: np.ndarray
    ended: np.ndarray
    infos: Any

    def same(self, other: _Row, columns: np.ndarray) -> bool:
        """Whether two rows agree in these columns."""
        pairs = ((self.obs, other.obs), (self.reward, other.reward), (self.ended, other.ended))
        return all(np.array_equal(mine[columns], its[columns], equal_nan=True) for mine, its in pairs)


@dataclass
class _Play:
    """The last row of a play, the number of its steps, and a digest of all of them."""

    last: _Row
    length: int
    digest: bytes


class _Probe:
    """Plays with a vector environment to learn when it resets."""

    def __init__(
        self, env: gym.vector.VectorEnv[Any, Any, Any], observations: ObservationMap, actions: ActionMap
    ) -> None:
        self.env, self.observations, self.actions = env, observations, actions
        random = np.random.default_rng(0)
        self.choices = [_sample(actions, env.num_envs, random) for _ in range(LONGEST_PLAY + 2)]

    def find(self) -> tuple[str | None, str]:
        """(mode, "") or (None, what stood in the way)."""
        starts = [self._reset(seed) for seed in SEEDS]
        played = self._play(LONGEST_PLAY)
        if not played.last.ended.any():
            return None, f"no episode ended in {LONGEST_PLAY} steps of random actions"
        columns = played.last.ended
        final = _extract_final_observations(played.last.infos or {}, self.env.num_envs)
        if all(final[index] is not None for index in np.flatnonzero(columns)):
            return "same_step", ""
        try:
            first = self._step(self.choices[played.length])
        except Exception:  # whatever says that a finished episode cannot be stepped
            disabled = self._resets_by_mask(played.length)
            return (
                ("disabled", "") if disabled else (None, "it cannot be stepped after the end of an episode")
            )
        goes_on = not first.ended[columns].any()
        if goes_on and _constant(starts) and _shows_start(played.last, first, starts[0], columns):
            return "next_step", ""
        second = self._step(self.choices[played.length + 1])
        counts = False
        for actions in zip(
            *(_others(self.actions, self.choices[played.length + ahead]) for ahead in range(2)), strict=True
        ):
            if self._play(played.length).digest != played.digest:
                return None, "two plays from one seed differ"
            other = [self._step(each) for each in actions]
            if not (goes_on and first.same(other[0], columns)):
                return None, "stepping it does not show it"
            counts = counts or not second.same(other[1], columns)
        if counts and self._is_out_of_the_question(columns):
            return "next_step", ""
        return None, "stepping it does not show it"

    def _reset(self, seed: int) -> np.ndarray:
        return np.array(self.observations.batch(self.env.reset(seed=seed)[0]))

    def _step(self, actions: np.ndarray) -> _Row:
        obs, reward, terminated, truncated, infos = self.env.step(self.actions.batch(actions))
        ended = np.array(terminated, bool) | np.array(truncated, bool)
        return _Row(np.array(self.observations.batch(obs)), np.array(reward, np.float64), ended, infos)

    def _play(self, longest: int) -> _Play:
        """From the first seed to the first end of an episode, or for so many steps."""
        self._reset(SEEDS[0])
        digest = hashlib.sha256()
        length, ended = 0, False
        while length < longest and not ended:
            last = self._step(self.choices[length])
            for array in (last.obs, last.reward, last.ended):
                digest.update(array.tobytes())
            length, ended = length + 1, bool(last.ended.any())
        return _Play(last, length, digest.digest())

    def _resets_by_mask(self, length: int) -> bool:
        """Whether ended columns, and they alone, can be reset after their end."""
        last = self._play(length).last
        try:
            fresh = np.array(
                self.observations.batch(self.env.reset(options={"reset_mask": last.ended.copy()})[0])
            )
            self._step(self.choices[length])
        except Exception:
            return False
        return bool(np.array_equal(fresh[~last.ended], last.obs[~last.ended]))

    def _is_out_of_the_question(self, columns: np.ndarray) -> bool:
        """Whether the step that ignored its action cannot have been the first step of an episode."""
        changed = []
        for seed in SEEDS:
            rows = []
            for actions in (self.choices[0], *_others(self.actions, self.choices[0])):
                self._reset(seed)
                rows.append(self._step(actions))
            changed.append([not rows[0].same(row, columns) for row in rows[1:]])
        tried, spec = len(changed[0]), self.actions.spec
        every_action = spec.kind == "discrete" and tried == spec.num_actions - 1
        return all(map(any, changed)) and (every_action or bool((1 - np.mean(changed)) ** tried <= DOUBT))


def _shows_start(last: _Row, following: _Row, start: np.ndarray, columns: np.ndarray) -> bool:
    """Whether all ended columns show the start of an episode after the end, and none at the end itself."""
    at_start = [(row.obs == start).reshape(len(start), -1).all(1)[columns] for row in (last, following)]
    return not at_start[0].any() and bool(at_start[1].all())


def _constant(starts: list[np.ndarray]) -> bool:
    return all(np.array_equal(each, starts[0]) for each in starts[1:])


def _sample(actions: ActionMap, num_envs: int, random: np.random.Generator) -> np.ndarray:
    """Random actions as a policy gives them."""
    spec = actions.spec
    if spec.kind == "continuous":
        assert spec.low is not None and spec.high is not None
        low, high = (np.clip(bound.numpy(), -1e3, 1e3) for bound in (spec.low, spec.high))
        return random.uniform(low, high, (num_envs, *spec.shape)).astype(np.float32)
    return random.integers(
        0, np.array(spec.nvec if spec.kind == "multi_discrete" else spec.num_actions), (num_envs, *spec.shape)
    )


def _others(actions: ActionMap, chosen: np.ndarray) -> list[np.ndarray]:
    """Other actions in place of these, each another one: all there are of few choices, some of many."""
    spec = actions.spec
    if spec.kind == "continuous":
        random = np.random.default_rng(1)
        return [_sample(actions, len(chosen), random) for _ in range(MOST_OTHERS)]
    nvec = np.array(spec.nvec if spec.kind == "multi_discrete" else spec.num_actions)
    most = max(int(nvec.max()) - 1, 1)
    shifts = np.unique(np.linspace(1, most, min(most, MOST_OTHERS)).astype(np.int64))
    return [(chosen + shift) % nvec for shift in shifts]
