"""A trained policy to act with, read from a run folder or a checkpoint: no environment is made for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fastrl.envs.description import DescribedEnvs
from fastrl.errors import CheckpointError, SettingError
from fastrl.nn.observations import as_rows
from fastrl.nn.precision import require_float32_default, without_autocast
from fastrl.runs.checkpoint import load_checkpoint
from fastrl.runs.config import ALGORITHM_KEY, RunConfig, parse_toml
from fastrl.runs.run_folder import checkpoints_in
from fastrl.runs.state_check import StateError, require_like
from fastrl.runs.trainer import Trainer
from fastrl.trainers.registry import find_algorithm

State = dict[str, Tensor]  # what a policy with a memory remembers, [B, ...] each


class Policy:
    """A trained policy. `fastrl.load` makes one.

        policy = fastrl.load("runs/…")
        action, state = policy.act(obs)                 # first step of an episode
        action, state = policy.act(obs, state)          # the following ones

    Attributes:
        algorithm: its name.
        config: the settings that it was trained with.
        obs_shape: shape of one observation.
        env_steps: environment steps that it has learned from.
        has_memory: whether it remembers earlier steps of the episode; if not, its state is always None.
    """

    def __init__(self, trainer: Trainer, env: DescribedEnvs, env_steps: int) -> None:
        self._trainer, self._env = trainer, env
        self.algorithm: str = trainer.algorithm
        self.config: RunConfig = trainer.config
        self.obs_shape = env.obs_shape
        self.env_steps = env_steps
        self.has_memory = hasattr(trainer.actor(1), "remembered")

    def __repr__(self) -> str:
        return (
            f"Policy({self.algorithm!r} on {self._env.name!r}, {self.env_steps:,} steps, "
            f"obs={list(self.obs_shape)}, action={self._env.own_action.kind})"
        )

    @without_autocast
    @torch.no_grad()
    def act(
        self,
        obs: Any,
        state: State | None = None,
        deterministic: bool = True,
        *,
        episode_starts: Any = None,
        action_mask: Any = None,
    ) -> tuple[Any, State | None]:
        """Choose actions. What was normalised in training is normalised here.

        Args:
            obs: one observation [*obs_shape] or a batch [B, *obs_shape] as fastrl's environments give them
                (Dict observations as one vector), an array, a tensor or a list.
            state: what the last call returned for these rows; None: episodes begin. It is not changed, so it
                can be kept and used again.
            deterministic: the most probable actions instead of drawn ones, for which torch's global
                generator is used.
            episode_starts: bool, or [B]: rows in which an episode begins, whatever the state says; None:
                none of them.
            action_mask: flags, one for each choice [choices] or [B, choices]: what is allowed, for a policy
                trained with `action_mask_key`; obs is then without it. None: obs ends with it.

        Returns:
            (action, state). Actions are what Gymnasium's `env.step` takes: in the environment's own units,
            numbering, shape and dtype, one or a batch [B, ...]. The state is None for a policy without
            memory, else a dict of tensors with a row for each observation.

        Raises:
            ValueError: obs, state or episode_starts have another shape or type; the message names them. An
                episode is longer than a policy with a table of positions knows.
            NonFiniteError: an observation is not finite.
        """
        if action_mask is not None:
            obs = self._with_mask(obs, action_mask)
        rows, single = as_rows("Policy.act", obs, self.obs_shape, self._trainer.device)
        if self._env.obs_dtype == torch.uint8 and rows.dtype != torch.uint8:
            raise ValueError("Policy.act: obs must be bytes (uint8), as the environments give them")
        rows = rows.to(self._env.obs_dtype)
        starts = _mask(episode_starts, len(rows), self._trainer.device)
        actor = cast(Any, self._trainer.actor(len(rows)))
        if self.has_memory:
            if state is not None:
                actor.remember(self._state(state, actor.empty_memory(), starts))
        elif state is not None:
            raise ValueError("Policy.act: state must be None, since this policy has no memory")
        actions = actor.act(rows, deterministic).cpu().numpy()
        own = self._env.own_actions(actions)
        following = actor.remembered() if self.has_memory else None
        return (own[0] if single else own), following

    def _with_mask(self, obs: Any, mask: Any) -> Tensor:
        """Observations with the mask behind them, as fastrl's environments give them."""
        size, device = self._env.action.mask_size, self._trainer.device
        if not size:
            raise ValueError("Policy.act: action_mask is for a policy that was trained with action_mask_key")
        rows, single = as_rows("Policy.act", obs, (self.obs_shape[0] - size,), device)
        flags, _ = as_rows("Policy.act", mask, (size,), device, what="action_mask")
        if len(flags) != len(rows):
            raise ValueError(f"Policy.act: action_mask has {len(flags)} rows, obs has {len(rows)}")
        both = torch.cat([rows.float(), (flags != 0).float()], dim=1)
        return both[0] if single else both

    def _state(self, state: Any, empty: State, starts: Tensor) -> State:
        """The state as the actor takes it, with position 0 where an episode starts."""
        try:
            require_like(state, empty, "state")
        except StateError as error:
            raise ValueError(f"Policy.act: {error}; give what the last call returned") from None
        position = state["position"].to(starts.device)
        if bool((position < 0).any()):
            raise ValueError("Policy.act: state['position'] must be at least 0")
        return {**state, "position": torch.where(starts, 0, position)}


def load(path: str | PathLike[str], *, device: str | torch.device = "cpu") -> Policy:
    """The policy of a run, to act with. No environment is made and no module of one is imported.

    Args:
        path: a run folder, a directory of checkpoints (both: the newest good one), or one checkpoint.
        device: where it computes: cpu, cuda or cuda:<index>.

    Raises:
        CheckpointError: there is none, or it cannot be read; the message says why.
        SettingError: device cannot be used.
    """
    require_float32_default()
    state = load_checkpoint(checkpoints_in(Path(path)))
    trainer, env = _trainer_of(state, str(path), device)
    learner = trainer.learner
    try:
        require_like(state.get("learner"), learner.state_dict(), "learner")
        learner.load_state_dict(state["learner"])
    except Exception as error:  # a state made up by someone can lead to any
        raise CheckpointError(f"{path}: the checkpoint's policy cannot be read: {error}") from error
    return Policy(trainer, env, int(state.get("env_steps", 0)))


def _trainer_of(
    state: Mapping[str, Any], path: str, device: str | torch.device
) -> tuple[Trainer, DescribedEnvs]:
    text, spaces = state.get("config"), state.get("spaces")
    if not isinstance(text, str) or not isinstance(spaces, Mapping):
        raise CheckpointError(
            f"{path}: the checkpoint holds no trainer of fastrl, or one of an older version"
        )
    try:
        algorithm = find_algorithm(str(parse_toml(text, path).get(ALGORITHM_KEY)))
        config = algorithm.config_class().from_toml(text, path)
    except SettingError as error:
        raise CheckpointError(f"{path}: the checkpoint's settings cannot be read: {error}") from error
    # threads that this machine may lack are not needed to act
    config = dataclasses.replace(config, device=str(device), threads=None, env_threads=None)
    config.check()
    try:
        env = DescribedEnvs(spaces, config.device)
        trainer: Trainer = algorithm.trainer_class().for_acting(config, env)
    except Exception as error:  # a state made up by someone can lead to any
        raise CheckpointError(f"{path}: the checkpoint's spaces cannot be read: {error}") from error
    return trainer, env


def _mask(starts: Any, count: int, device: torch.device) -> Tensor:
    if starts is None:
        return torch.zeros(count, dtype=torch.bool, device=device)
    array = starts.cpu().numpy() if isinstance(starts, Tensor) else np.asarray(starts)
    if array.dtype != np.bool_ or array.shape not in ((), (count,)):
        raise ValueError(
            f"Policy.act: episode_starts must be True or False, or bool [{count}], got {array.dtype} "
            f"{list(array.shape)}"
        )
    return torch.from_numpy(np.broadcast_to(array, (count,)).copy()).to(device)
