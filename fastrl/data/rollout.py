"""On-policy storage: T steps of N environments, time-major."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastrl.data.frames import RolloutFrames

Field = tuple[tuple[int, ...], torch.dtype]  # shape of one row of one environment, and dtype


class Rollout:
    """T rows of N environments, written row by row and then read whole.

    Row t holds what was known before the step (`obs[t]`, `actions[t]`, extras) and what the step returned
    (`rewards[t]`, the three flags). `obs` has T+1 rows: row t+1 is the observation that followed step t
    before any reset, so that `values = V(obs)` is what the estimators of `fastrl.ops` take. Nothing is
    edited: a row that is no transition is kept and has `valid = False`.

    Args:
        num_steps: T, rows per environment.
        num_envs: N.
        obs: shape and dtype of one observation.
        action: shape and dtype of one action.
        extras: further fields per row by name (parameters of the acting policy, ...), as shape and dtype.
        device: where the tensors live.
        frames: K, equal parts of an observation's first axis of which each row brings a new one, the last;
            with more than 1 each frame is stored once, and `obs` is a `StackedFrames`, which reads like the
            tensor.
    """

    obs: Any

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        *,
        obs: Field,
        action: Field,
        extras: Mapping[str, Field] | None = None,
        device: torch.device | str = "cpu",
        frames: int = 1,
    ) -> None:
        def rows(count: int, field: Field) -> Tensor:
            shape, dtype = field
            return torch.zeros((count, num_envs, *shape), dtype=dtype, device=device)

        self.num_steps = num_steps
        self.num_envs = num_envs
        sizes = (num_steps, num_envs)
        self._frames = None if frames == 1 else RolloutFrames(*sizes, *obs, frames, device)
        self.obs = rows(num_steps + 1, obs) if self._frames is None else self._frames.obs
        self.actions = rows(num_steps, action)
        self.rewards = rows(num_steps, ((), torch.float32))
        self.terminated = rows(num_steps, ((), torch.bool))
        self.truncated = rows(num_steps, ((), torch.bool))
        self.valid = rows(num_steps, ((), torch.bool))
        self.extras = {name: rows(num_steps, field) for name, field in (extras or {}).items()}
        self.position = 0
        self._rows: dict[
            str, tuple[Tensor, ...]
        ] = {}  # views of every row, made once: indexing costs more than copying a few numbers

    @property
    def full(self) -> bool:
        """Whether all T rows are stored."""
        return self.position == self.num_steps

    @property
    def nbytes(self) -> int:
        """Memory of all fields in bytes."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def reset(self) -> None:
        """Start an empty rollout; the memory is reused."""
        self.position = 0

    def append(
        self,
        *,
        obs: Tensor,
        actions: Tensor,
        next_obs: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        valid: Tensor,
        **extras: Tensor,
    ) -> None:
        """Store one step of all environments; every argument is [N, ...].

        Raises:
            IndexError: the rollout is full.
            ValueError: with `frames`, observations are no stacks of them.
        """
        if self.full:
            raise IndexError(f"Rollout.append: all {self.num_steps} rows are stored; call reset() first")
        t = self.position
        if not self._rows:
            self._rows = {name: tensor.unbind(0) for name, tensor in self._tensors().items()}
        rows = self._rows
        if self._frames is None:
            rows["obs"][t].copy_(obs)
            rows["obs"][t + 1].copy_(next_obs)
        else:
            self._frames.append(t, obs, next_obs, first=t == 0)
        rows["actions"][t].copy_(actions)
        rows["rewards"][t].copy_(rewards)
        rows["terminated"][t].copy_(terminated)
        rows["truncated"][t].copy_(truncated)
        rows["valid"][t].copy_(valid)
        for name, value in extras.items():
            rows[f"extras.{name}"][t].copy_(value)
        self.position = t + 1

    def valid_rows(self, field: Tensor) -> Tensor:
        """The transitions of a [T or T+1, N, ...] field as flat rows [M, ...], by `valid` [T, N]."""
        flat = field[: self.num_steps].flatten(0, 1)
        valid = self.valid.flatten()
        return flat if bool(valid.all()) else flat[valid]

    def _tensors(self) -> dict[str, Tensor]:
        own = ("actions", "rewards", "terminated", "truncated", "valid")
        frames = self._frames
        obs = {"obs": self.obs} if frames is None else {"frames": frames.frames, "places": frames.places}
        extras = {f"extras.{name}": value for name, value in self.extras.items()}
        return obs | {name: getattr(self, name) for name in own} | extras

    def state_dict(self) -> dict[str, Any]:
        """Stored rows and the write position, for a checkpoint."""
        return {
            "position": self.position,
            "tensors": {name: value.clone() for name, value in self._tensors().items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a rollout of the same sizes."""
        for name, target in self._tensors().items():
            saved = state["tensors"][name]
            if saved.shape != target.shape:
                raise ValueError(
                    f"Rollout.load_state_dict: {name} must have shape {list(target.shape)}, got "
                    f"{list(saved.shape)}"
                )
            target.copy_(saved)
        self.position = int(state["position"])
        if self._frames is not None:
            self._frames.follow(self.position)
