"""Networks of the policy-gradient family: policy, value function, and with DAE an advantage function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fastrl.nn.action_heads import Policy, distribution
from fastrl.nn.containers import ActionLinear, AdvantageLinear, FlattenLinear
from fastrl.nn.dense import PreparedChain
from fastrl.nn.layers import layer_init
from fastrl.nn.sequence import MADE_OF_PARTS, Step, prepare_layers, run_layers
from fastrl.nn.torsos import Torso, initialise, make_torso
from fastrl.observation_spec import ObservationSpec
from fastrl.trainers.policy_gradient.config import PolicyGradientConfig


class Network(nn.Module):
    """An encoder and a head: observations [N, ...], normalised, to what the head gives."""

    def __init__(self, encoder: Torso, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, obs: Tensor) -> Tensor:
        """obs [N, ...] through encoder and head."""
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
        action_info: of the actions, see `ActionLinear`.
    """

    def __init__(self, encoder: Torso, action_info: Mapping[str, Any]) -> None:
        super().__init__(encoder, ActionLinear(encoder.width, action_info))
        self.action_info = dict(action_info)

    def distribution(self, parameters: Tensor) -> Policy:
        """The distribution over actions that the network's output describes."""
        return distribution(parameters, self.action_info)

    def sampler(self) -> Callable[[Tensor], Tensor]:
        """A function from observations [N, ...] to drawn actions, for many calls.

        Discrete ones are drawn in the native call.
        """
        forward = self.prepared()
        if self.action_info["space"] == "discrete" and isinstance(forward, PreparedChain):
            return forward.sample
        return lambda obs: self.distribution(forward(obs)).sample()


MADE_OF_PARTS.update((Network, PolicyNetwork))


def make_networks(
    spec: ObservationSpec, action_info: Mapping[str, Any], config: PolicyGradientConfig
) -> tuple[PolicyNetwork, Network, Network | None]:
    """(policy, value function, advantage function where advantages are fitted).

    Orthogonal weights with gain √2 in the encoders' linear layers, 0.01 in the heads of policy and advantage
    function, 1 in that of the value function; biases 0.

    Args:
        spec: what observations are, as the rollout keeps them.
        action_info: of the actions, see `ActionLinear`.
        config: the settings of the run.
    """
    network = config.found_network()

    def torso() -> Torso:
        settings: Any = {"activation": config.activation, "layer_norm": config.layer_norm}
        return make_torso(spec, config.layer_sizes, network=network, **settings)

    policy = PolicyNetwork(torso(), action_info)
    encoder = policy.encoder if config.shared_encoder else torso()
    value = Network(encoder, FlattenLinear(encoder.width, 1))
    advantage = None
    if config.advantage_estimator == "dae":
        encoder = torso()
        advantage = Network(encoder, AdvantageLinear(encoder.width, action_info))
    _orthogonal(policy, 0.01)
    _orthogonal(value, 1.0)
    if advantage is not None:
        _orthogonal(advantage, 0.01)
    if (log_std := policy.head.log_std) is not None:
        nn.init.constant_(log_std, config.log_std_init)  # type: ignore[arg-type]
    return policy, value, advantage


def _orthogonal(network: Network, head_gain: float) -> None:
    initialise(network.encoder)
    *_, last = (module for module in network.head.modules() if isinstance(module, nn.Linear))
    layer_init(last, head_gain)
