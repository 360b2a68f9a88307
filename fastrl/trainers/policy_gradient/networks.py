"""Networks of the policy-gradient family: policy, value function, and with DAE an advantage function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fastrl.nn.action_heads import Policy, distribution
from fastrl.nn.activations import Tanh
from fastrl.nn.containers import ActionLinear, AdvantageLinear, FlattenLinear
from fastrl.nn.dense import PreparedChain
from fastrl.nn.gsde import ExplorationNoise, StateDependentLinear
from fastrl.nn.layers import MLP, layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.masks import mask_in, masked_logits
from fastrl.nn.popart import start_at_zero
from fastrl.nn.sequence import MADE_OF_PARTS, Step, prepare_layers, run_layers
from fastrl.trainers.policy_gradient.config import PolicyGradientConfig


class Network(nn.Module):
    """An encoder and a head: observations [N, F], normalised, to what the head gives."""

    def __init__(self, encoder: MLP, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, obs: Tensor) -> Tensor:
        """obs [N, F] through encoder and head."""
        return run_layers(self.parts(), obs)

    def parts(self) -> tuple[nn.Module, ...]:
        """The layers as one sequence, for `run_layers`."""
        return (self.encoder, self.head)

    def prepared(self) -> Step:
        """The network as a function for many calls, see `fastrl.nn.sequence.prepare_layers`."""
        return prepare_layers((self,))


class PolicyNetwork(Network):
    """π(a|s): logits, side by side where there are branches, or mean and log standard deviation.

    Args:
        encoder: as for `Network`.
        width: features that it gives.
        action_info: of the actions, see `ActionLinear`.
        gsde: the deviation follows from the state, see `StateDependentLinear`.

    Raises:
        SettingError: gsde of actions that are not continuous.
    """

    def __init__(
        self, encoder: MLP, width: int, action_info: Mapping[str, Any], *, gsde: bool = False
    ) -> None:
        super().__init__(encoder, (StateDependentLinear if gsde else ActionLinear)(width, action_info))
        self.action_info = dict(action_info)

    def distribution(self, parameters: Tensor) -> Policy:
        """The distribution over actions that the network's output describes."""
        return distribution(parameters, self.action_info)

    def sampler(self, noise: ExplorationNoise | None = None) -> Callable[[Tensor], Tensor]:
        """A function from observations [N, F] to drawn actions, for many calls.

        Discrete ones are drawn in the native call.

        Args:
            noise: what to add to the mean, from step to step of the N environments; None: each call draws
                anew.
        """
        if noise is not None:
            return self._with_noise(noise)
        forward = self.prepared()
        if self.action_info["space"] == "discrete" and isinstance(forward, PreparedChain):
            return forward.sample
        return lambda obs: self.distribution(forward(obs)).sample()

    def _with_noise(self, noise: ExplorationNoise) -> Callable[[Tensor], Tensor]:
        encoder, head = prepare_layers((self.encoder,)), self.head
        assert isinstance(head, StateDependentLinear)

        def draw(obs: Tensor) -> Tensor:
            features = encoder(obs)
            return head.mean(features) + noise(features, head.log_std)

        return draw


class MaskedPolicyNetwork(PolicyNetwork):
    """A policy that gives probability 0 to what the mask at the end of an observation forbids.

    Args:
        encoder, width, action_info: as for `PolicyNetwork`; `action_info["mask_size"]` numbers are the mask.
    """

    def forward(self, obs: Tensor) -> Tensor:
        """Logits at obs [N, F], masked."""
        return self._masked(super().forward(obs), obs)

    def prepared(self) -> Step:
        """As `forward`, for many calls."""
        layers = prepare_layers(self.parts())
        return lambda obs: self._masked(layers(obs), obs)

    def _masked(self, logits: Tensor, obs: Tensor) -> Tensor:
        return masked_logits(logits, mask_in(obs, self.action_info["mask_size"]))


MADE_OF_PARTS.update((Network, PolicyNetwork))


def make_networks(
    obs_size: int, action_info: Mapping[str, Any], config: PolicyGradientConfig
) -> tuple[PolicyNetwork, Network, Network | None]:
    """(policy, value function, advantage function where advantages are fitted).

    Orthogonal weights with gain √2 in the encoders, 0.01 in the heads of policy and advantage function, 1 in
    that of the value function, whose head is 0 with PopArt; biases 0.

    Args:
        obs_size: F, features of an observation.
        action_info: of the actions, see `ActionLinear`; with `mask_size` numbers at the end of an observation
            that say what is allowed.
        config: the settings of the run.
    """
    sizes = (obs_size, *config.layer_sizes)
    policy_class = MaskedPolicyNetwork if action_info.get("mask_size") else PolicyNetwork
    policy = policy_class(_encoder(sizes), sizes[-1], action_info, gsde=config.gsde)
    encoder = policy.encoder if config.shared_encoder else _encoder(sizes)
    value = Network(encoder, FlattenLinear(sizes[-1], 1))
    advantage = None
    if config.advantage_estimator == "dae":
        advantage = Network(_encoder(sizes), AdvantageLinear(sizes[-1], action_info))
    _orthogonal(policy, 0.01)
    _orthogonal(value, 1.0)
    if config.value_normalization == "popart":
        start_at_zero(value.head)  # type: ignore[arg-type]  # made above
    if advantage is not None:
        _orthogonal(advantage, 0.01)
    if (log_std := policy.head.log_std) is not None:
        nn.init.constant_(log_std, config.log_std_init)  # type: ignore[arg-type]
    return policy, value, advantage


def _encoder(sizes: tuple[int, ...]) -> MLP:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [Linear(inputs, outputs), Tanh()]
    return MLP(*layers)


def _orthogonal(network: Network, head_gain: float) -> None:
    *hidden, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    for layer in hidden:
        layer_init(layer)
    layer_init(last, head_gain)
