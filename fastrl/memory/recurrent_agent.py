"""Policy and value function behind a recurrent network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastrl.nn.action_heads import BranchedPolicy, DiscreteHead, GaussianHead, legal_policy
from fastrl.nn.encoders import observation_encoder
from fastrl.nn.layers import layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.normalizer import RunningNormalizer

KINDS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentAgent(nn.Module):
    """Policy and value of an observation and of the state that the episode's earlier steps left.

    h, state' = RNN(encoder(obs), state), then a linear layer with a ReLU, then the heads. A state is
    [N, L, S]: of a GRU its L layers' hidden features, S = H; of an LSTM hidden and cell features side by
    side, S = 2H. Zeros are the state in which an episode begins.

    Args:
        kind: "gru" or "lstm".
        obs_shape, obs_dtype: of one observation.
        action_shape: choices of each branch of a discrete action, or (A,), dimensions of a continuous one.
        continuous: whether actions are continuous.
        hidden_size: H.
        num_layers: L.
        mask_size: numbers at the end of an observation that say which choices are allowed.

    Reference: Cho et al. 2014 (GRU); Hochreiter and Schmidhuber 1997 (LSTM).
    """

    def __init__(
        self,
        kind: str,
        obs_shape: Sequence[int],
        obs_dtype: torch.dtype,
        action_shape: Sequence[int],
        *,
        continuous: bool,
        hidden_size: int,
        num_layers: int,
        mask_size: int = 0,
    ) -> None:
        super().__init__()
        self.obs_shape, self.obs_dtype, self.mask_size = tuple(obs_shape), obs_dtype, mask_size
        numbers = obs_dtype == torch.float32
        # changes nothing until somebody updates it
        self.obs_normalizer = RunningNormalizer(self.obs_shape, plain=mask_size) if numbers else None
        self.encoder = observation_encoder(self.obs_shape, obs_dtype, hidden_size)
        self.rnn = KINDS[kind](hidden_size, hidden_size, num_layers)
        for name, parameter in self.rnn.named_parameters():
            if "weight" in name:
                nn.init.orthogonal_(parameter, 1.0)
            else:
                nn.init.zeros_(parameter)
        self.hidden = nn.Sequential(layer_init(Linear(hidden_size, hidden_size)), nn.ReLU())
        self.actor: nn.Module = (
            GaussianHead(hidden_size, action_shape[0])
            if continuous
            else DiscreteHead(hidden_size, action_shape)
        )
        self.critic = layer_init(Linear(hidden_size, 1), std=1.0)
        self.state_shape = (num_layers, hidden_size * (2 if kind == "lstm" else 1))

    def normalized(self, obs: Tensor) -> Tensor:
        """Observations [B, *shape] as the encoder gets them."""
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def empty_state(self, count: int) -> Tensor:
        """States [count, L, S] in which episodes begin."""
        return torch.zeros(count, *self.state_shape, device=self.critic.weight.device)

    def step(self, obs: Tensor, state: Tensor) -> tuple[BranchedPolicy, Tensor, Tensor]:
        """(policy, values [N], next state [N, L, S]) at observations [N, *shape] in states [N, L, S]."""
        features = self.encoder(self.normalized(obs)).unsqueeze(0)
        hidden, state = self.rnn(features, self._split(state))
        return *self.heads(hidden.squeeze(0), obs), self._joined(state)

    def run(self, obs: Tensor, batch_sizes: Tensor, state: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """(policy, values [K]) of whole sequences in one call, with their gradient through time.

        Args:
            obs: [K, *shape], the first steps of all sequences, then the second ones and so on; of each step
                those of the longest sequences come first.
            batch_sizes: int64 on the CPU, how many sequences have a first step, a second one and so on.
            state: [sequences, L, S] to start from, longest sequence first.
        """
        features = PackedSequence(self.encoder(self.normalized(obs)), batch_sizes)
        hidden, _ = self.rnn(features, self._split(state))
        return self.heads(hidden.data, obs)

    def heads(self, hidden: Tensor, obs: Tensor) -> tuple[BranchedPolicy, Tensor]:
        """(policy, values [B]) of the recurrent network's features [B, H] at observations [B, *shape]."""
        features = self.hidden(hidden)
        policy = legal_policy(self.actor(features), obs, self.mask_size)
        return policy, self.critic(features).squeeze(-1)

    def _split(self, state: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """A state [N, L, S] as torch's networks take it."""
        layers_first = state.transpose(0, 1)
        if isinstance(self.rnn, nn.GRU):
            return layers_first.contiguous()
        hidden, cell = layers_first.chunk(2, dim=-1)
        return hidden.contiguous(), cell.contiguous()

    @staticmethod
    def _joined(state: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Counterpart of `_split`."""
        whole = state if isinstance(state, Tensor) else torch.cat(state, dim=-1)
        return whole.transpose(0, 1)
