"""Networks of V-MPO: Gaussian and categorical policies with a value function, and an advantage function.

The advantage function is that of "dae".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.nn.action_heads import Policy, categorical
from fastrl.nn.containers import AdvantageLinear
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.nn.layers import layer_init, mlp
from fastrl.nn.masks import mask_in, masked_logits
from fastrl.nn.normalizer import RunningNormalizer
from fastrl.nn.popart import PopArt, start_at_zero
from fastrl.nn.sequence import run_layers


class ActorCritic(nn.Module, ABC):
    """tanh encoders for policy and value, separate or shared, behind one running observation normaliser.

    Observations [B, obs_dim] are normalised by `obs_normalizer` on the way in; it changes nothing until
    somebody updates it.

    Args:
        obs_dim: features of an observation.
        policy_layer_sizes: widths of the policy's hidden layers.
        value_layer_sizes: widths of the value function's hidden layers; unused when the encoder is shared.
        shared_encoder: one encoder (`policy_layer_sizes`) for both heads.
        mask_size: numbers at the end of an observation that say which choices are allowed.

    Attributes:
        popart: the scale on which the value head predicts; None: that of the returns. `normalize_values`
            makes it.
    """

    def __init__(
        self,
        obs_dim: int,
        policy_layer_sizes: tuple[int, ...] = (256, 256),
        value_layer_sizes: tuple[int, ...] = (256, 256),
        shared_encoder: bool = False,
        *,
        mask_size: int = 0,
    ) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        self.shared_encoder = shared_encoder
        self.mask_size = mask_size
        self.popart: PopArt | None = None
        self.obs_normalizer = RunningNormalizer((obs_dim,), clip=None, plain=mask_size)
        self.policy_encoder = self._build_mlp(obs_dim, policy_layer_sizes)
        self.value_encoder = (
            self.policy_encoder if shared_encoder else self._build_mlp(obs_dim, value_layer_sizes)
        )
        self.value_head = layer_init(
            nn.Linear(_width(obs_dim, policy_layer_sizes if shared_encoder else value_layer_sizes), 1),
            std=1.0,
        )
        self.policy_width = _width(obs_dim, policy_layer_sizes)

    @staticmethod
    def _build_mlp(input_dim: int, hidden_layer_sizes: tuple[int, ...]) -> nn.Sequential:
        """tanh layers of the given widths, orthogonal with gain √2: [..., input_dim] → [...,
        hidden_layer_sizes[-1]]."""
        return mlp(input_dim, hidden_layer_sizes)

    @abstractmethod
    def _head(self, encoded_obs: Tensor, obs: Tensor) -> Policy:
        """The policy from encoder features [B, H] of obs [B, obs_dim]."""

    def distribution(self, obs: Tensor) -> Policy:
        """The policy at obs [B, obs_dim]."""
        return self._head(self.policy_encoder(self.obs_normalizer(obs)), obs)

    def normalize_values(self, rate: float) -> None:
        """Let the value head predict on the scale of its targets, from 0 on; see `fastrl.nn.popart`."""
        self.popart = PopArt(rate)
        start_at_zero(self.value_head)

    def get_value(self, obs: Tensor) -> Tensor:
        """State values [B, 1] of obs [B, obs_dim]."""
        return self._restored(self.value_output(obs)).unsqueeze(-1)

    def evaluate(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """The policy and the state values [B] at obs [B, obs_dim]; a shared encoder runs once."""
        distribution, output = self.predict(obs)
        return distribution, self._restored(output)

    def value_output(self, obs: Tensor) -> Tensor:
        """What the value head gives at obs [B, obs_dim], [B]: state values, with PopArt normalised."""
        return self.value_head(self.value_encoder(self.obs_normalizer(obs))).squeeze(-1)

    def predict(self, obs: Tensor) -> tuple[Policy, Tensor]:
        """The policy and `value_output` [B] at obs [B, obs_dim]; a shared encoder runs once."""
        normalized = self.obs_normalizer(obs)
        encoded = self.policy_encoder(normalized)
        value_features = encoded if self.shared_encoder else self.value_encoder(normalized)
        return self._head(encoded, obs), self.value_head(value_features).squeeze(-1)

    def _restored(self, output: Tensor) -> Tensor:
        return output if self.popart is None else self.popart.restore(output)

    def value_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the value loss moves."""
        own = [] if self.shared_encoder else list(self.value_encoder.parameters())
        return own + list(self.value_head.parameters())

    def policy_parameters(self) -> list[nn.Parameter]:
        """All other parameters; a shared encoder is among them."""
        value = {id(parameter) for parameter in self.value_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in value]


def _width(input_dim: int, layer_sizes: Sequence[int]) -> int:
    return layer_sizes[-1] if layer_sizes else input_dim


class DiagonalGaussianPolicy(ActorCritic):
    """π(a|s) = N(μ(s), diag(σ²)) with a standard deviation that does not depend on the state, and V(s).

    Orthogonal initialisation: √2 in the encoders, 0.01 for the mean head, 1 for the value head; log σ starts
    at 0.

    Args:
        obs_dim: features of an observation.
        act_dim: A, action dimensions.
        policy_layer_sizes, value_layer_sizes, shared_encoder: as for `ActorCritic`.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        policy_layer_sizes: tuple[int, ...] = (256, 256),
        value_layer_sizes: tuple[int, ...] = (256, 256),
        shared_encoder: bool = False,
    ) -> None:
        super().__init__(obs_dim, policy_layer_sizes, value_layer_sizes, shared_encoder)
        self.policy_mean = layer_init(nn.Linear(self.policy_width, act_dim), std=0.01)
        self.policy_logstd = nn.Parameter(torch.zeros(1, act_dim))

    def policy_logstd_parameters(self) -> list[nn.Parameter]:
        """The log standard deviation, [[1, A]]: for an optimiser group of its own."""
        return [self.policy_logstd]

    def _mean_and_log_std(self, encoded_obs: Tensor) -> tuple[Tensor, Tensor]:
        """(mean [B, A], log_std [B, A]) from encoder features [B, H]; log_std is an expanded view."""
        mean = self.policy_mean(encoded_obs)
        return mean, self.policy_logstd.expand_as(mean)

    def _head(self, encoded_obs: Tensor, obs: Tensor) -> DiagonalGaussian:
        return DiagonalGaussian(self.policy_mean(encoded_obs), self.policy_logstd)

    def get_policy_dist_params(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(mean [B, A], log_std [B, A]) at obs [B, obs_dim]."""
        return self._mean_and_log_std(self.policy_encoder(self.obs_normalizer(obs)))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """(mean [B, A], log_std [B, A]) at obs [B, obs_dim]."""
        return self.get_policy_dist_params(obs)

    def forward_all(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(mean [B, A], log_std [B, A], value [B, 1]) at obs [B, obs_dim]; a shared encoder runs once."""
        distribution, value = self.evaluate(obs)
        assert isinstance(distribution, DiagonalGaussian)
        return distribution.mean, distribution.log_std.expand_as(distribution.mean), value.unsqueeze(-1)

    def log_prob(self, mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
        """Joint log-density [B, 1] in nats of actions [B, A], summed over action dimensions."""
        return DiagonalGaussian(mean, log_std).log_prob(actions).unsqueeze(-1)

    def sample_action(
        self, mean: Tensor, log_std: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(action [B, A], log_prob [B, 1]): a sample, or the mean if `deterministic`; not clipped."""
        distribution = DiagonalGaussian(mean, log_std)
        action = distribution.mode() if deterministic else distribution.sample()
        return action, distribution.log_prob(action).unsqueeze(-1)


class CategoricalPolicy(ActorCritic):
    """π(a|s) = softmax(logits(s)) over A discrete actions, and V(s); otherwise as `DiagonalGaussianPolicy`.

    Args:
        obs_dim: features of an observation.
        num_actions: A; with `nvec` the sum of it.
        policy_layer_sizes, value_layer_sizes, shared_encoder: as for `ActorCritic`.
        nvec: choices of each of several independent branches, whose logits lie side by side; none: one
            choice of A.
        mask_size: A where the last A numbers of an observation are a mask, 0 where there is none.
    """

    def __init__(
        self,
        obs_dim: int,
        num_actions: int,
        policy_layer_sizes: tuple[int, ...] = (256, 256),
        value_layer_sizes: tuple[int, ...] = (256, 256),
        shared_encoder: bool = False,
        *,
        nvec: Sequence[int] = (),
        mask_size: int = 0,
    ) -> None:
        super().__init__(obs_dim, policy_layer_sizes, value_layer_sizes, shared_encoder, mask_size=mask_size)
        self.nvec = tuple(nvec)
        self.policy_logits = layer_init(nn.Linear(self.policy_width, num_actions), std=0.01)

    def _head(self, encoded_obs: Tensor, obs: Tensor) -> Policy:
        return categorical(self._logits(encoded_obs, obs), self.nvec)

    def _logits(self, encoded_obs: Tensor, obs: Tensor) -> Tensor:
        logits = self.policy_logits(encoded_obs)
        return masked_logits(logits, mask_in(obs, self.mask_size)) if self.mask_size else logits

    def forward(self, obs: Tensor) -> Tensor:
        """Logits [B, A] at obs [B, obs_dim]."""
        return self._logits(self.policy_encoder(self.obs_normalizer(obs)), obs)


class AdvantageNetwork(nn.Module):
    """f(s, ·) behind tanh layers; `fastrl.losses.dae` makes Â of it.

    Args:
        obs_dim: features of an observation, which comes in normalised.
        act_dim: A, action dimensions, or the number of actions when they are discrete.
        layer_sizes: widths of the hidden layers.
        discrete: whether actions are.
        nvec: choices of each branch, where there are several.
    """

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        layer_sizes: tuple[int, ...],
        *,
        discrete: bool,
        nvec: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.encoder = mlp(obs_dim, layer_sizes)
        info: dict[str, Any] = {"space": "discrete" if discrete else "continuous", "shape": act_dim}
        if nvec:
            info = {"space": "multi_discrete", "shape": tuple(nvec)}
        self.head = AdvantageLinear(_width(obs_dim, layer_sizes), info)

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, obs_dim] to [B, A], or to Hermite coefficients [B, A, 2]."""
        return run_layers((self.encoder, self.head), obs)
