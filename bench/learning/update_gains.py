"""What one V-MPO update gains, by the advantages that it is made with: continuous actions, and why `dae`
wants an Â that learns slowly.

    python bench/learning/update_gains.py                      three policies, about two minutes each; the
    result in bench/results python bench/learning/update_gains.py --set advantage_lr=0.001 dae_lambda=1.0
    --label published

A policy is trained with dae for a while and then stands still. From 200 of its rollouts its advantages are
learned as well as can be (A*, by regression of gae's at λ = 0.95, with a value function fitted to these
rollouts). Then the update of the preset is made, each time from the same weights and on another rollout, with
advantages of one kind:

- gae: as `advantage_estimator="gae"` has them;
- gae, regressed: their least-squares fit by a network of the form of Â, as many steps as dae makes: what gae
  knows, without its noise;
- dae: Â as `advantage_estimator="dae"` has it; dae, anew: the same from a network without a past;
- dae, before: Â as training left it, which has not seen the rollout;
- A*.

With b*(s) the slope of A* in each action's z = (a − μ)/σ, and Δ(s) the update's change of μ/σ, over states it
was not made from:

- agreement: correlation of the advantages with A* over the rollout's rows;
- gain: mean_s b*·Δ, to first order what the update adds to the advantage, in units of sqrt(mean_s |b*|²);
- KL: ½ mean_s |Δ|², what it costs;
- worth: gain² / KL over that of gae: how much more a policy gains at the same KL, squared.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import record  # noqa: E402
import runs  # noqa: E402

from fastrl import ops  # noqa: E402
from fastrl.errors import SettingError  # noqa: E402
from fastrl.losses.dae import centred_advantages  # noqa: E402
from fastrl.losses.value import standardize  # noqa: E402
from fastrl.nn.distributions import DiagonalGaussian  # noqa: E402
from fastrl.trainers.vmpo.batch import VMPORows, VMPOSegments  # noqa: E402
from fastrl.trainers.vmpo.learner import VMPOLearner  # noqa: E402
from fastrl.trainers.vmpo.networks import AdvantageNetwork, DiagonalGaussianPolicy  # noqa: E402
from fastrl.trainers.vmpo.trainer import VMPOTrainer  # noqa: E402

FOR_TRUTH, FOR_UPDATES = 200, 20  # rollouts
TRUTH_LAMBDA, TRUTH_EPOCHS, TRUTH_WIDTHS = 0.95, 8, (256, 256)
DAE = ('advantage_estimator="dae"', "epsilon_mu=0.025")  # as in rows.py

Kind = Callable[[VMPOLearner, VMPOSegments, float], Tensor]  # advantages [T, N] of a rollout; λ of gae


class Recorded(NamedTuple):
    """A rollout, and its observations with the one behind the last step, [T+1, N, obs_dim]."""

    segments: VMPOSegments
    observations: Tensor


@dataclass(frozen=True)
class Frozen:
    """A policy that stands still, its rollouts, and A* with the slopes b* [S, A] over states [S, obs_dim]
    that no update sees."""

    learner: VMPOLearner
    state: dict[str, Any]
    gae_lambda: float
    rollouts: list[VMPOSegments]
    truth: AdvantageNetwork
    states: Tensor
    slopes: Tensor


# ----------------------------------------------------------------------- a policy and its advantages


def train(env_id: str, seed: int, steps: int, changes: tuple[str, ...]) -> VMPOTrainer:
    """A trainer after `steps` environment steps with dae, the changes and the preset's other settings."""
    config = runs.settings("vmpo", env_id, seed, None, DAE + changes)
    config.total_steps, config.eval_interval, config.save_interval = steps, 0, 0
    trainer = VMPOTrainer.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        trainer.train(total_steps=steps, out_dir=folder)
    return trainer


def collect(trainer: VMPOTrainer, count: int) -> list[Recorded]:
    """Rollouts of the present policy, with rewards as the learner sees them and V as training left it."""
    policy = trainer.learner.acting_policy
    if not isinstance(policy, DiagonalGaussianPolicy):
        raise SettingError(f"env_id {trainer.env.name!r} has discrete actions; slopes are of continuous ones")
    recorded = []
    for _ in range(count):
        trainer.collect()
        rollout = trainer.rollout
        rewards = rollout.rewards if trainer.reward_scaler is None else trainer.reward_scaler(rollout.rewards)
        obs = rollout.obs.clone()
        segments = VMPOSegments(
            obs=obs[:-1],
            actions=rollout.actions.clone(),
            acted=DiagonalGaussian(rollout.extras["means"].clone(), policy.policy_logstd.detach().clone()),
            rewards=rewards.clone(),
            values=trainer.learner.values_of(obs),
            terminated=rollout.terminated.clone(),
            truncated=rollout.truncated.clone(),
            valid=rollout.valid.clone(),
        )
        recorded.append(Recorded(segments, obs))
    return recorded


def freeze(trainer: VMPOTrainer, settings: Any) -> Frozen:
    """The policy as it is, with its true advantages."""
    learner = trainer.learner
    truth = true_advantages(learner, collect(trainer, FOR_TRUTH))
    rest = [recorded.segments for recorded in collect(trainer, FOR_UPDATES + 1)]
    states = rest[-1].obs.flatten(0, 1)
    with torch.no_grad():
        slopes = truth(learner.policy.obs_normalizer(states))[..., 0]
    return Frozen(
        learner, copy.deepcopy(learner.state_dict()), settings.gae_lambda, rest[:-1], truth, states, slopes
    )


def true_advantages(learner: VMPOLearner, rollouts: list[Recorded]) -> AdvantageNetwork:
    """A* of a policy: gae's advantages of many rollouts, with a value function fitted to them, regressed on
    states and actions."""
    values = fitted_values(learner, rollouts)
    targets = [gae(learner, rollout.segments, TRUTH_LAMBDA, values(rollout)) for rollout in rollouts]
    scale = torch.cat(
        [target[rollout.segments.valid] for target, rollout in zip(targets, rollouts, strict=True)]
    ).std()
    network = AdvantageNetwork(learner.obs_dim, learner.act_dim, TRUTH_WIDTHS, discrete=False)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, TRUTH_EPOCHS * len(rollouts))
    for _ in range(TRUTH_EPOCHS):
        for index in torch.randperm(len(rollouts)).tolist():
            regress(learner, network, optimizer, rollouts[index].segments, targets[index] / scale)
            schedule.step()
    return network


def fitted_values(learner: VMPOLearner, rollouts: list[Recorded]) -> Callable[[Recorded], Tensor]:
    """V [T+1, N] of a rollout by a value function that was fitted to all rollouts."""
    critic = copy.deepcopy(learner.policy)
    optimizer = torch.optim.Adam(critic.value_parameters())

    @torch.no_grad()
    def values(rollout: Recorded) -> Tensor:
        return critic.get_value(rollout.observations).squeeze(-1)

    for rollout in rollouts * 3:
        known = values(rollout)
        returns = gae(learner, rollout.segments, TRUTH_LAMBDA, known) + known[:-1]
        for _ in range(4):
            optimizer.zero_grad()
            (critic.get_value(rollout.segments.obs).squeeze(-1) - returns)[
                rollout.segments.valid
            ].square().mean().backward()
            optimizer.step()
    return values


def gae(
    learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float, values: Tensor | None = None
) -> Tensor:
    """GAE's advantages [T, N] of a rollout, with V as training left it if no other is given."""
    given = (
        rollout.rewards,
        rollout.values if values is None else values,
        rollout.terminated,
        rollout.truncated,
    )
    return ops.gae(*given, gamma=learner.config.gamma, gae_lambda=gae_lambda, valid=rollout.valid)[0]


def advantages_by(learner: VMPOLearner, network: AdvantageNetwork, rollout: VMPOSegments) -> Tensor:
    """Â [T, N] of a network."""
    outputs = network(learner.policy.obs_normalizer(rollout.obs.flatten(0, 1))).unflatten(
        0, rollout.rewards.shape
    )
    return centred_advantages(outputs, rollout.acted, rollout.actions)


def regress(
    learner: VMPOLearner,
    network: AdvantageNetwork,
    optimizer: torch.optim.Optimizer,
    rollout: VMPOSegments,
    targets: Tensor,
) -> None:
    """A gradient step of Â towards targets [T, N]."""
    optimizer.zero_grad()
    (advantages_by(learner, network, rollout) - targets)[rollout.valid].square().mean().backward()
    optimizer.step()


# ------------------------------------------------------------------------------- kinds of advantages


def forget(learner: VMPOLearner) -> AdvantageNetwork:
    """A new advantage network in place of the learner's, and nothing of the old one in the optimiser."""
    network = learner.advantage_network
    assert network is not None
    widths = tuple(layer.out_features for layer in network.encoder if isinstance(layer, torch.nn.Linear))
    network.load_state_dict(
        AdvantageNetwork(learner.obs_dim, learner.act_dim, widths, discrete=False).state_dict()
    )
    for parameter in network.parameters():
        learner.optimizer.state.pop(parameter, None)
    return network


def before(learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float) -> Tensor:
    assert learner.advantage_network is not None
    with torch.no_grad():
        return advantages_by(learner, learner.advantage_network, rollout)


def direct(learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float) -> Tensor:
    learner.fit_advantages(rollout)
    return before(learner, rollout, gae_lambda)


def direct_anew(learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float) -> Tensor:
    forget(learner)
    return direct(learner, rollout, gae_lambda)


def regressed(learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float) -> Tensor:
    network = forget(learner)
    targets = gae(learner, rollout, gae_lambda)
    optimizer = torch.optim.Adam(network.parameters(), learner.optimizer.param_groups[-1]["lr"], eps=1e-5)
    for _ in range(learner.config.dae_epochs):
        regress(learner, network, optimizer, rollout, targets / targets[rollout.valid].std())
    return before(learner, rollout, gae_lambda)


def kinds(frozen: Frozen) -> dict[str, Kind]:
    """What is compared; gae first."""

    @torch.no_grad()
    def truth(learner: VMPOLearner, rollout: VMPOSegments, gae_lambda: float) -> Tensor:
        return advantages_by(learner, frozen.truth, rollout)

    own = {"dae": direct, "dae, anew": direct_anew, "dae, before": before}
    return {"gae": gae, "gae, regressed": regressed, **own, "A*": truth}


# ---------------------------------------------------------------------------------------- one update


def update(frozen: Frozen, kind: Kind, rollout: VMPOSegments) -> tuple[float, float, float]:
    """(agreement, gain, KL) of one update from the frozen weights."""
    learner, take = frozen.learner, rollout.valid
    learner.load_state_dict(frozen.state)
    with torch.no_grad():
        old = learner.policy.distribution(frozen.states)
        deviation = old.log_std.exp().clone()
    advantages = kind(learner, rollout, frozen.gae_lambda)
    with torch.no_grad():
        agreement = torch.corrcoef(
            torch.stack([advantages[take], advantages_by(learner, frozen.truth, rollout)[take]])
        )[0, 1].item()
    learner.learn(rows_of(learner, rollout, advantages, frozen.gae_lambda))
    with torch.no_grad():
        change = (learner.policy.distribution(frozen.states).mean - old.mean) / deviation
    unit = frozen.slopes.square().sum(-1).mean().sqrt()
    gain = (frozen.slopes * change).sum(-1).mean() / unit
    return agreement, gain.item(), 0.5 * change.square().sum(-1).mean().item()


def rows_of(learner: VMPOLearner, rollout: VMPOSegments, advantages: Tensor, gae_lambda: float) -> VMPORows:
    """A batch for the learner, with gae's targets for V whatever the advantages [T, N] are."""
    returns = gae(learner, rollout, gae_lambda) + rollout.values[:-1]
    rows = rollout.rows(advantages, returns, unmoved=True)
    return replace(rows, advantages=standardize(rows.advantages))


def measure(env_id: str, seed: int, steps: int, changes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Means over updates, by kind of advantages."""
    torch.set_num_threads(1)
    settings = runs.settings("vmpo", env_id, seed, None)
    with train(env_id, seed, steps, changes) as trainer:
        frozen = freeze(trainer, settings)
    found: dict[str, dict[str, float]] = {}
    for name, kind in kinds(frozen).items():
        agreement, gain, kl = np.mean(
            [update(frozen, kind, rollout) for rollout in frozen.rollouts], axis=0
        ).tolist()
        found[name] = {"agreement": agreement, "gain": gain, "kl": kl, "gain2_per_kl": gain**2 / kl}
        found[name]["worth"] = found[name]["gain2_per_kl"] / found["gae"]["gain2_per_kl"]
        print(
            f"seed {seed}  {name:16}"
            + "".join(f"  {what} {value:.3f}" for what, value in found[name].items()),
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-id", default="HalfCheetah-v5")
    parser.add_argument(
        "--steps", type=int, default=60_000, help="environment steps before the policy is frozen"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other settings, in TOML")
    parser.add_argument("--label", default="", help="part of the result's name")
    arguments = parser.parse_args()
    try:
        found = {
            seed: measure(arguments.env_id, seed, arguments.steps, tuple(arguments.set))
            for seed in arguments.seeds
        }
    except SettingError as error:
        sys.exit(str(error))
    what = {
        "env_id": arguments.env_id,
        "steps": arguments.steps,
        "updates": FOR_UPDATES,
        "rollouts_for_truth": FOR_TRUTH,
        "changes": arguments.set,
    }
    print(
        record.write_result(
            "-".join(filter(None, ["update-gains", runs.plain(arguments.env_id), arguments.label])),
            what | {"seeds": found},
        )
    )


if __name__ == "__main__":
    main()
