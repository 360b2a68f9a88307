"""The network, the actor and the memory that the settings ask for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.single import spaces_of
from fastrl.memory.base import MemoryActor, RolloutMemory
from fastrl.memory.config import MemoryConfig
from fastrl.memory.recurrent_actor import RecurrentActor
from fastrl.memory.recurrent_agent import RecurrentAgent
from fastrl.memory.recurrent_memory import RecurrentMemory
from fastrl.memory.transformer_memory import TransformerMemory
from fastrl.memory.trxl_actor import TrXLActor
from fastrl.memory.trxl_agent import TrXLAgent

Agent = TrXLAgent | RecurrentAgent


def make_agent(
    config: MemoryConfig,
    obs_shape: tuple[int, ...],
    obs_dtype: torch.dtype,
    action: ActionSpec,
    longest_episode: int | None,
) -> Agent:
    """The policy and value function with the memory of `config`.

    Args:
        config: sizes; `log_std_init` and `clip_observation`, which every algorithm with memory has, too.
        obs_shape, obs_dtype: of one observation.
        action: what the environments take.
        longest_episode: in steps, for tables of positions; None where they need no limit.
    """
    settings: Any = config
    continuous = action.kind == "continuous"
    shape = (action.dim,) if continuous else action.nvec
    agent: Agent
    if config.recurrent:
        agent = RecurrentAgent(
            config.memory,
            obs_shape,
            obs_dtype,
            shape,
            continuous=continuous,
            hidden_size=config.rnn_hidden_size,
            num_layers=config.rnn_num_layers,
            mask_size=action.mask_size,
        )
    else:
        agent = TrXLAgent(
            spaces_of(obs_shape, action, obs_dtype)[0],
            shape,
            trxl_num_layers=config.trxl_num_layers,
            trxl_num_heads=config.trxl_num_heads,
            trxl_dim=config.trxl_dim,
            trxl_positional_encoding=config.trxl_positional_encoding,
            max_episode_steps=longest_episode or 0,
            reconstruction_coef=0.0,
            continuous=continuous,
            gating=config.trxl_gating,
            shared_head_projection=config.shared_head_projection,
            mask_size=action.mask_size,
        )
    if continuous:
        nn.init.constant_(agent.actor.log_std, settings.log_std_init)  # type: ignore[arg-type]
    if agent.obs_normalizer is not None:
        agent.obs_normalizer.clip = settings.clip_observation
    return agent


def make_actor(
    config: MemoryConfig, agent: Agent, num_envs: int, action: ActionSpec, device: torch.device
) -> MemoryActor:
    """The policy in `num_envs` environments, with nothing remembered."""
    if isinstance(agent, RecurrentAgent):
        return RecurrentActor(agent, num_envs, device, action=action)
    return TrXLActor(agent, num_envs, config.trxl_memory_length, device, action=action)


def make_memory(
    config: MemoryConfig, agent: Agent, num_envs: int, action: ActionSpec, device: torch.device
) -> RolloutMemory:
    """What acts in training and keeps what its rollouts remember."""
    if isinstance(agent, RecurrentAgent):
        return RecurrentMemory(config, agent, num_envs, action, device)
    return TransformerMemory(config, agent, num_envs, action, device)
