"""The network of PPO-TrXL: encoder, Transformer-XL over the episode's past, policy, value function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor, nn

from fastrl.envs.observations import ObservationMap
from fastrl.errors import SettingError
from fastrl.nn.action_heads import BranchedPolicy, DiscreteHead, GaussianHead, legal_policy
from fastrl.nn.encoders import in_unit_range, observation_decoder, observation_encoder
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.memory_attention import Bank, Maps, Window
from fastrl.nn.memory_transformer import Transformer
from fastrl.nn.normalizer import RunningNormalizer
from fastrl.nn.precision import require_float32_default, without_autocast


class TrXLAgent(nn.Module):
    """Policy and value of an observation and of what earlier steps of the episode left in memory.

    h = Transformer(encoder(obs), memory), then a linear layer with a ReLU, then the heads.

    Args:
        observation_space: what `fastrl.envs` make of it is what the agent takes: vectors, images, MiniGrid's
            grids; dicts concatenated.
        action_space_shape: choices of each branch of a discrete action, (n,) or nvec; or (A,), dimensions of
            a continuous one.
        trxl_num_layers: L; 0 is a policy without memory.
        trxl_num_heads: H.
        trxl_dim: D.
        trxl_positional_encoding: "absolute", "learned", "relative" or "none": see `Transformer`.
        max_episode_steps: length of the tables of absolute and learned positions.
        reconstruction_coef: above 0 there is a decoder for `reconstruct_observation`.
        continuous: whether actions are continuous.
        gating: "residual" or "gru".
        shared_head_projection: the published attention, in which heads share one small projection.
        mask_size: numbers at the end of an observation that say which choices are allowed.

    Raises:
        SettingError: sizes that do not fit each other, an unknown name, or an observation space without
            numbers.

    Reference: Pleines et al. 2023, "Memory Gym: Towards Endless Tasks to Benchmark Memory Capabilities of
        Agents" (episodic Transformer-XL
    with PPO); Parisotto et al. 2020, "Stabilizing Transformers for Reinforcement Learning" (gating).
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space_shape: Sequence[int],
        *,
        trxl_num_layers: int,
        trxl_num_heads: int,
        trxl_dim: int,
        trxl_positional_encoding: str,
        max_episode_steps: int,
        reconstruction_coef: float,
        continuous: bool = False,
        gating: str = "residual",
        shared_head_projection: bool = False,
        mask_size: int = 0,
    ) -> None:
        super().__init__()
        require_float32_default()
        seen = ObservationMap(observation_space, name="the agent's observation_space")
        self.obs_shape, self.obs_dtype, self.mask_size = seen.shape, seen.torch_dtype, mask_size
        if not action_space_shape:
            raise SettingError(
                "action_space_shape must name the choices of at least one branch, or a number of dimensions"
            )
        numbers = self.obs_dtype == torch.float32
        self.obs_normalizer = (
            RunningNormalizer(self.obs_shape, plain=mask_size) if numbers else None
        )  # changes nothing until somebody updates it
        self.encoder = observation_encoder(self.obs_shape, self.obs_dtype, trxl_dim)
        self.transformer = Transformer(
            trxl_num_layers,
            trxl_dim,
            trxl_num_heads,
            max_episode_steps,
            trxl_positional_encoding,
            gating=gating,
            shared_head_projection=shared_head_projection,
        )
        self.hidden_post_trxl = nn.Sequential(layer_init(Linear(trxl_dim, trxl_dim)), nn.ReLU())
        self.actor: nn.Module = (
            GaussianHead(trxl_dim, action_space_shape[0])
            if continuous
            else DiscreteHead(trxl_dim, action_space_shape)
        )
        self.critic = layer_init(
            Linear(trxl_dim, 1), std=0.01
        )  # the stream is not normalised: a larger one starts far from 0
        self.decoder = (
            observation_decoder(self.obs_shape, self.obs_dtype, trxl_dim) if reconstruction_coef > 0 else None
        )
        self._last_hidden: Tensor | None = None  # with its graph, for `reconstruct_observation`

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the last hidden state stays behind, since a graph can be neither."""
        return self.__dict__ | {"_last_hidden": None}

    # --------------------------------------------------------------------- memory windows as tensors

    @without_autocast
    def get_value(self, x: Tensor, memory: Tensor, memory_mask: Tensor, memory_indices: Tensor) -> Tensor:
        """State values [B]; arguments as for `get_action_and_value`."""
        hidden, _ = self.transformer(self._encode(x), memory, memory_mask, memory_indices)
        return self.critic(self.hidden_post_trxl(hidden)).squeeze(-1)

    @without_autocast
    def get_action_and_value(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        memory_indices: Tensor,
        action: Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Act, or look at actions that were taken.

        Args:
            x: observations [B, *shape].
            memory: [B, W, L, D], each row's window.
            memory_mask: [B, W] bool, True where the slot may be seen.
            memory_indices: [B, W] int64, the episode step of each slot.
            action: [B, branches] (continuous: [B, A]); None draws one.
            deterministic: the mode instead of a draw.

        Returns:
            (action [B, branches] or [B, A], log_prob [B, branches] or [B, 1], entropy [B], value [B], new
            memory [B, L, D] detached).

        Raises:
            ValueError: x has another shape; one observation is a batch of one here, as its memory is.
        """
        hidden, new_memory = self.transformer(self._encode(x), memory, memory_mask, memory_indices)
        policy, value, features = self.heads(hidden, x)
        if self.decoder is not None:
            self._last_hidden = features
        if action is None:
            action = policy.mode() if deterministic else policy.sample()
        return action, policy.log_prob(action), policy.entropy(), value, new_memory

    def reconstruct_observation(self) -> Tensor:
        """The observations [B, *shape] of the last `get_action_and_value` as its hidden state shows them.

        Bytes are numbers in [0, 1].

        The decoder learns normalised observations, as the encoder gets them; here they are as the environment
        gave them.

        Raises:
            RuntimeError: nothing has been evaluated yet, or the agent was built with reconstruction_coef = 0.
        """
        if self.decoder is not None and self._last_hidden is None:
            raise RuntimeError(
                "reconstruct_observation: call get_action_and_value first, there is no hidden state yet"
            )
        decoded = self.decode(cast(Tensor, self._last_hidden))
        if self.obs_dtype == torch.uint8:
            return torch.sigmoid(decoded)
        return decoded if self.obs_normalizer is None else self.obs_normalizer.restore(decoded)

    def _encode(self, x: Tensor) -> Tensor:
        """Observations [B, *shape] as features [B, D].

        Raises:
            ValueError: x has another shape.
        """
        if tuple(x.shape[1:]) != tuple(self.obs_shape):
            raise ValueError(f"TrXLAgent: x must have shape {['B', *self.obs_shape]}, got {list(x.shape)}")
        return self.encode(x)

    # ----------------------------------------------------------------------- memory read from a bank

    def encode(self, x: Tensor) -> Tensor:
        """Observations [B, *shape] as features [B, D]."""
        return self.encoder(self.normalized(x))

    def normalized(self, x: Tensor) -> Tensor:
        """Observations [B, *shape] as the encoder gets them and the decoder learns them."""
        return x if self.obs_normalizer is None else self.obs_normalizer(x)

    def read(
        self, x: Tensor, banks: Sequence[Bank], window: Window, maps: Sequence[Maps]
    ) -> tuple[BranchedPolicy, Tensor, Tensor, Tensor]:
        """(policy, values [B], features [B, D], new memory [L, B, D]) of observations [B, *shape].

        See `Transformer.read`.
        """
        hidden, tokens = self.transformer.read(self.encode(x), banks, window, maps)
        return *self.heads(hidden, x), tokens

    def heads(self, hidden: Tensor, x: Tensor) -> tuple[BranchedPolicy, Tensor, Tensor]:
        """(policy, values [B], features [B, D]) of what the transformer returned, [B, D].

        At observations [B, *shape].
        """
        features = self.hidden_post_trxl(hidden)
        policy = legal_policy(self.actor(features), x, self.mask_size)
        return policy, self.critic(features).squeeze(-1), features

    def decode(self, features: Tensor) -> Tensor:
        """What the decoder makes of features [B, D]: see `fastrl.nn.encoders.observation_decoder`.

        Raises:
            RuntimeError: the agent has no decoder.
        """
        if self.decoder is None:
            raise RuntimeError("TrXLAgent has no decoder: it was built with reconstruction_coef = 0")
        return self.decoder(features)

    def target_of_reconstruction(self, obs: Tensor) -> Tensor:
        """What a perfect `reconstruct_observation` would return for observations [B, *shape]."""
        return in_unit_range(obs) if self.obs_dtype == torch.uint8 else obs
