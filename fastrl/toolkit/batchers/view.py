"""States of a stream of environments as models see them, row by row.

Transforms that look back into the episode work too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrl.data.rollout import Rollout
from fastrl.envs import Timestep
from fastrl.nn.observations import as_rows
from fastrl.runs.state_check import Maybe
from fastrl.toolkit.batchers.transforms import Transform

Flags = tuple[Tensor | None, Tensor | None, Tensor | None]
AT_THE_START: Flags = (None, None, None)


class StateView:
    """Follows the rows of some environments and tells transforms where episodes begin.

    A row begins an episode where the step before the last one ended the one before, for the last one then was
    the reset. A row that is no
    transition without that is one of an environment that was held: nothing was seen there.

    Args:
        transforms: applied in order; those that remember belong to this view alone.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)
        self._remembers = any(transform.remembers for transform in self.transforms)
        self.restart()

    def restart(self) -> None:
        """All environments begin an episode: the next row is what their reset returned."""
        # of the row that is looked at next, each [E], None before the first step: whether it ends an episode,
        # begins one, is a held one
        self._flags: Flags = AT_THE_START
        self._first: Flags = AT_THE_START  # the same of a rollout's first row

    def look(self, obs: Tensor) -> Tensor:
        """States of the present row's observations [E, ...]; once for each row."""
        _, begins, held = self._flags
        for transform in self.transforms:
            obs = (
                transform.next_state(obs, begins, held)
                if transform.remembers
                else transform.transform_state(obs)
            )
        return obs

    def observe(self, timestep: Timestep) -> None:
        """The step that led to the next row."""
        if self._remembers:
            ended = self._flags[0]
            begins = torch.zeros_like(timestep.valid) if ended is None else ended
            self._flags = (timestep.terminated | timestep.truncated, begins, ~(timestep.valid | begins))

    def mark(self) -> None:
        """The row that is looked at next is the first one of a rollout."""
        self._first = self._flags
        for transform in self.transforms:
            transform.mark()

    def stages(self, rollout: Rollout) -> list[Tensor]:
        """All T+1 rows of the rollout behind none of the transforms, the first, ..., all.

        Nothing moves.
        """
        begins, held = self._rollout_flags(rollout) if self._remembers else (None, None)
        stages = [rollout.obs]
        for transform in self.transforms:
            if transform.remembers:
                assert begins is not None and held is not None
                stages.append(transform.rollout_states(stages[-1], begins, held))
            else:
                stages.append(transform.transform_state(stages[-1]))
        return stages

    def _rollout_flags(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """For each of the T+1 rows [T+1, E] whether it begins an episode, and whether it is a held one."""
        none = torch.zeros_like(rollout.valid[0])
        ended, begins, held = self._first
        if begins is None:
            begins = ~none
        before = torch.cat(
            ((none if ended is None else ended)[None], (rollout.terminated | rollout.truncated)[:-1])
        )
        return torch.cat((begins[None], before)), torch.cat(
            ((none if held is None else held)[None], ~(rollout.valid | before))
        )

    def state_dict(self) -> dict[str, Any]:
        """Where episodes begin; transforms keep what they remember themselves."""
        return {"flags": list(self._flags), "first": list(self._first)}

    def state_outline(self, num_envs: int) -> dict[str, Any]:
        """What a saved state must look like (see `fastrl.runs.state_check`)."""
        flags = [Maybe(torch.zeros(num_envs, dtype=torch.bool)) for _ in AT_THE_START]
        return {"flags": flags, "first": flags}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str) -> None:
        """Counterpart of `state_dict`; the flags go to where the environments' tensors are."""
        self._flags, self._first = (_flags_on(device, *state[name]) for name in ("flags", "first"))


def _flags_on(device: torch.device | str, *flags: Tensor | None) -> Flags:
    ended, begins, held = (None if flag is None else flag.to(device) for flag in flags)
    return ended, begins, held


class ViewActor:
    """A policy in other environments than those of training, which sees what the transforms make of them.

    Args:
        transforms: of the training; what they remember of its episodes stays there, and their statistics do
            not move.
        policy: (states [N, ...], deterministic) to actions.
        obs_shape: of one observation.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        policy: Callable[[Tensor, bool], Tensor],
        obs_shape: tuple[int, ...],
    ) -> None:
        self._obs_shape = obs_shape
        self._view = StateView([transform.for_other_envs() for transform in transforms])
        self._policy = policy

    def act(self, obs: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for observations [N, ...] or for one, once for each row; ValueError for other shapes."""
        rows, single = as_rows("ViewActor.act", obs, self._obs_shape)
        actions = self._policy(self._view.look(rows), deterministic)
        return actions[0] if single else actions

    def observe(self, timestep: Timestep) -> None:
        """What came of the actions."""
        self._view.observe(timestep)
