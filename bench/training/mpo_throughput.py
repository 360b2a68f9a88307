"""Updates per second of MPO beside the same update written plainly, where the time goes, and what bounds it.

    python bench/training/mpo_throughput.py [--updates 15] [--write]

One thread, HalfCheetah-v5's sizes (17 features, 6 action dimensions), policy and critic (512, 256), 256
transitions per update: one-step targets with 20 and with 64 actions per state, and windows of 8.

The plain way is what one writes from the paper: observation and action side by side for every sampled action,
one pass for the E-step and another for the bootstrap, densities of all samples in the graph, optimiser and
clipping parameter by parameter, metrics read one by one. That both ways agree is checked first, and they take
turns, so that a drift of the machine's speed meets both. In the same run: the rate of float32 matrix products
at the shape that most operations have, and rounds of whole training with four environments.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributions, nn

from fastrl.data.replay import Sequences
from fastrl.nn.linear import product
from fastrl.runs.allocator import keep_freed_memory
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.learner import MPOLearner
from fastrl.trainers.mpo.trainer import MPOTrainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402

ENV_ID, OBS, ACT, LAYERS, TRANSITIONS, NUM_ENVS = "HalfCheetah-v5", 17, 6, (512, 256), 256, 4
SETTINGS: dict[str, dict[str, Any]] = {
    "one step, 20 actions": {"use_retrace": False, "action_samples": 20},
    "one step, 64 actions": {"use_retrace": False, "action_samples": 64},
    "windows of 8, 20 actions": {"use_retrace": True, "retrace_steps": 8, "action_samples": 20},
}


def make_learner(settings: dict[str, Any]) -> MPOLearner:
    """A learner without environments; targets are renewed never, so that every update does the same work."""
    torch.manual_seed(0)
    sizes = {
        "policy_layer_sizes": LAYERS,
        "critic_layer_sizes": LAYERS,
        "target_networks_update_period": 10**9,
    }
    bound = torch.ones(ACT)
    config = MPOConfig(env_id=ENV_ID, **sizes, **settings)
    return MPOLearner(config, OBS, ACT, torch.device("cpu"), action_low=-bound, action_high=bound)


def update(learner: MPOLearner, batch: Sequences) -> dict[str, float]:
    """An update, its metrics read one by one as the plain way does."""
    return {name: float(value) for name, value in learner.learn(batch).items()}


def make_batch(learner: MPOLearner, length: int) -> Sequences:
    """Windows of `length` transitions, TRANSITIONS altogether."""
    size = TRANSITIONS // length
    obs = torch.randn(length + 1, size, OBS)
    acted = learner.act_for_replay(obs[:-1].flatten(0, 1))
    ends = torch.rand(length, size)
    return Sequences(
        obs=obs,
        actions=acted["actions"].view(length, size, ACT),
        rewards=torch.randn(length, size),
        terminated=ends < 0.01,
        truncated=(ends > 0.01) & (ends < 0.02),
        valid=torch.ones(length, size, dtype=torch.bool),
        extras={
            "raw_actions": acted["raw_actions"].view(length, size, ACT),
            "behaviour_logp": acted["behaviour_logp"].view(length, size),
        },
    )


# ------------------------------------------------------------------------------------- the plain way


def plain_networks(learner: MPOLearner) -> list[nn.Module]:
    """Policy, critic and their targets as torch's own layers, with the learner's weights."""

    def mlp(torso: Any, head: Any) -> nn.Module:
        sizes = [torso.first, *torso.rest]
        layers: list[nn.Module] = []
        for index, layer in enumerate(sizes):
            copied = nn.Linear(layer.in_features, layer.out_features)
            copied.load_state_dict(layer.state_dict())
            norm = nn.LayerNorm(layer.out_features)
            layers += [copied, norm, nn.Tanh()] if index == 0 else [copied, nn.ELU()]
        last = nn.Linear(head.in_features, head.out_features)
        last.load_state_dict(head.state_dict())
        return nn.Sequential(*layers, last)

    modules = (learner.policy, learner.critics[0], learner.target_policy, learner.target_critics[0])
    return [mlp(module.torso, module.head) for module in modules]


class Plain:
    """The same update as `MPOLearner.learn`, written without regard to speed."""

    def __init__(self, learner: MPOLearner) -> None:
        self.learner, self.config = learner, learner.config
        self.policy, self.critic, self.target_policy, self.target_critic = plain_networks(learner)
        self.policy_optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.config.policy_lr, eps=1e-5)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=self.config.q_lr, eps=1e-5)
        self.eta, self.penalty_eta = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        self.alphas = [nn.Parameter(alpha().detach().clone()) for alpha in learner.alphas.values()]
        self.epsilons = [alpha.bound for alpha in learner.alphas.values()]
        self.dual_optimizer = torch.optim.Adam([self.eta, self.penalty_eta, *self.alphas], lr=1e-2)

    @staticmethod
    def distribution(network: nn.Module, obs: Tensor) -> distributions.Normal:
        mean, log_std = network(obs).chunk(2, dim=-1)
        return distributions.Normal(mean, log_std.clamp(-20.0, 2.0).exp())

    def sampled(self, obs: Tensor, noise: Tensor | None) -> tuple[distributions.Normal, Tensor, Tensor]:
        """(policy, actions [B, S, A], Q [B, S]) of the target networks, observations repeated; noise [B, S,
        A] or drawn."""
        policy = self.distribution(self.target_policy, obs)
        samples = self.config.action_samples
        noise = (
            torch.randn(len(obs), samples, ACT) if noise is None else noise.reshape(len(obs), samples, ACT)
        )
        actions = policy.mean.unsqueeze(1) + policy.stddev.unsqueeze(1) * noise
        rows = torch.cat([obs.unsqueeze(1).expand(-1, samples, -1), actions.clamp(-1.0, 1.0)], dim=-1)
        return policy, actions, self.target_critic(rows.flatten(0, 1)).view(len(obs), samples)

    @torch.no_grad()
    def targets(self, batch: Sequences, noise: Tensor | None) -> Tensor:
        """Retrace, a loop over the window from behind; noise of all T + 1 states [T+1, B, S, A] or drawn."""
        length, size = batch.rewards.shape
        values = (
            self.sampled(batch.obs[1:].flatten(0, 1), None if noise is None else noise[1:])[2]
            .mean(1)
            .view(length, size)
        )
        rows = torch.cat([batch.obs[:-1], batch.actions], dim=-1).flatten(0, 1)
        q = self.target_critic(rows).view(length, size)
        policy = self.distribution(self.target_policy, batch.obs[:-1].flatten(0, 1))
        ratio = (
            (
                policy.log_prob(batch.extras["raw_actions"].flatten(0, 1)).sum(-1).view(length, size)
                - batch.extras["behaviour_logp"]
            )
            .exp()
            .clamp(max=1.0)
        )
        trace = self.config.gamma * (self.config.retrace_lambda if self.config.use_retrace else 0.0) * ratio
        going_on = (~batch.terminated).float()
        delta = batch.rewards + self.config.gamma * going_on * values - q
        correction, out = torch.zeros(size), torch.empty_like(q)
        for t in reversed(range(length)):
            follows = (~(batch.terminated[t] | batch.truncated[t])).float()
            correction = delta[t] + (follows * trace[t + 1] * correction if t + 1 < length else 0.0)
            out[t] = q[t] + correction
        return out

    def update(self, batch: Sequences, noise: Tensor | None = None) -> dict[str, float]:
        targets = self.targets(batch, noise).flatten()
        obs, actions = batch.obs[:-1].flatten(0, 1), batch.actions.flatten(0, 1)
        q_loss = 0.5 * (self.critic(torch.cat([obs, actions], dim=-1)).squeeze(-1) - targets).square().mean()
        self.critic_optimizer.zero_grad()
        q_loss.backward()
        q_norm = nn.utils.clip_grad_norm_(self.critic.parameters(), self.config.max_grad_norm)
        self.critic_optimizer.step()
        with torch.no_grad():
            old, drawn, q = self.sampled(obs, None if noise is None else noise[:-1])
        cost = -(drawn - drawn.clamp(-1.0, 1.0)).norm(dim=-1)
        weights, dual_loss = torch.zeros_like(q), torch.tensor(0.0)
        for values, eta, epsilon in (
            (q, self.eta, self.config.kl_epsilon),
            (cost, self.penalty_eta, self.config.epsilon_penalty),
        ):
            weights = weights + torch.softmax(values / eta, 1).detach()
            dual_loss = (
                dual_loss
                + eta * (epsilon + torch.log(torch.exp((values - values.max()) / eta).mean(1)).mean())
                + values.max()
            )
        new = self.distribution(self.policy, obs)
        of_mean = distributions.Normal(new.mean.unsqueeze(1), old.stddev.unsqueeze(1)).log_prob(drawn).sum(-1)
        of_std = distributions.Normal(old.mean.unsqueeze(1), new.stddev.unsqueeze(1)).log_prob(drawn).sum(-1)
        policy_loss = -(weights * (of_mean + of_std)).sum(1).mean()
        kls = [
            distributions.kl_divergence(old, distributions.Normal(new.mean, old.stddev)).mean(0),
            distributions.kl_divergence(old, distributions.Normal(old.mean, new.stddev)).mean(0),
        ]
        for alpha, kl, epsilon in zip(self.alphas, kls, self.epsilons, strict=True):
            policy_loss = policy_loss + (alpha.detach() * kl).sum()
            dual_loss = dual_loss + (alpha * (epsilon - kl.detach())).sum()
        for optimizer, loss in ((self.policy_optimizer, policy_loss), (self.dual_optimizer, dual_loss)):
            optimizer.zero_grad()
            loss.backward()
        policy_norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.max_grad_norm)
        self.policy_optimizer.step()
        self.dual_optimizer.step()
        metrics = {
            "q": q_loss,
            "q_norm": q_norm,
            "policy": policy_loss,
            "policy_norm": policy_norm,
            "eta": self.eta,
            "dual": dual_loss,
        }
        return {name: value.item() for name, value in metrics.items()} | {
            "kl_mean": kls[0].mean().item(),
            "kl_std": kls[1].mean().item(),
            "ess": (1.0 / weights.square().sum(1)).mean().item(),
        }


def require_same(settings: dict[str, Any], length: int) -> None:
    """Both ways have the same losses and gradients when they sample the same actions, with a critic whose
    values are not all near 0."""
    learner = make_learner(settings)
    with torch.no_grad():
        for critic in (*learner.critics, *learner.target_critics):
            critic.head.weight *= 100.0
    plain, batch = Plain(learner), make_batch(learner, length)
    torch.manual_seed(1)
    noise = torch.randn(length + 1, TRANSITIONS // length, learner.config.action_samples, ACT)
    there = plain.update(batch, noise)
    torch.manual_seed(1)
    here = update(learner, batch)
    names = {
        "loss/q": "q",
        "grad/q_norm": "q_norm",
        "grad/policy_norm": "policy_norm",
    }  # the policies' losses differ by a constant
    for mine, its in names.items():
        assert abs(here[mine] - there[its]) <= 1e-3 * abs(there[its]), (
            f"{mine} {here[mine]:.6g}, plainly {there[its]:.6g}"
        )


# ----------------------------------------------------------------------------- what bounds an update


def operations(learner: MPOLearner, length: int) -> float:
    """Floating-point operations of the matrix products that an update cannot do without.

    The target critic at the sampled actions of all states (the observation's part of its first layer once for
    each state), target policy and critic once at the stored actions, forward and backward of critic and
    policy at the transitions.
    """
    states = TRANSITIONS // length * (length + 1)
    samples = learner.config.action_samples
    behind = sum(a * b for a, b in zip(LAYERS, (*LAYERS[1:], 1), strict=True))
    of_samples = states * (OBS * LAYERS[0] + samples * (ACT * LAYERS[0] + behind))
    critic = (OBS + ACT) * LAYERS[0] + behind
    policy = OBS * LAYERS[0] + sum(a * b for a, b in zip(LAYERS, (*LAYERS[1:], 2 * ACT), strict=True))
    trained = TRANSITIONS * (
        3 * (critic + policy) - (2 * OBS + ACT) * LAYERS[0]
    )  # no gradient for observations and actions
    return 2.0 * (of_samples + states * policy + TRANSITIONS * critic + trained)


def matmul_rate(rows: int = 1024, rounds: int = 40) -> float:
    """GFLOP/s of float32 products [rows, 512] · [512, 256], by the fastest multiplication there is here."""
    x, weight = torch.randn(rows, LAYERS[0]), torch.randn(LAYERS[1], LAYERS[0])
    ways: list[Callable[[], Tensor]] = [lambda: x @ weight.t(), lambda: product(x, weight)]
    return max(
        2e-9 * rows * LAYERS[0] * LAYERS[1] / statistics.median(seconds_of(way, rounds)) for way in ways
    )


def seconds_of(call: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of each call after a first one."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_updates(name: str, updates: int) -> dict[str, float]:
    """Updates per second both ways, and the bound, of one setting."""
    settings = SETTINGS[name]
    length = settings.get("retrace_steps", 1)
    learner, low = make_learner(settings), make_learner(settings | {"bfloat16": True})
    plain, batch = Plain(learner), make_batch(learner, length)
    require_same(settings, length)
    seconds: dict[str, list[float]] = {"fast": [], "bfloat16": [], "plain": []}
    rates = []
    for _ in range(updates):
        rates.append(matmul_rate(rounds=6))
        seconds["fast"] += seconds_of(lambda: update(learner, batch), 2)
        seconds["bfloat16"] += seconds_of(lambda: update(low, batch), 2)
        seconds["plain"] += seconds_of(lambda: plain.update(batch), 1)
    middle = {way: statistics.median(times) for way, times in seconds.items()}
    rate = statistics.median(rates)
    bound = operations(learner, length) / (rate * 1e9)
    row = {f"{way}_updates_per_s": 1.0 / value for way, value in middle.items()}
    row |= {
        "positions_per_s": TRANSITIONS / middle["fast"],
        "bfloat16_positions_per_s": TRANSITIONS / middle["bfloat16"],
        "times_plain": middle["plain"] / middle["fast"],
        "bfloat16_times_plain": middle["plain"] / middle["bfloat16"],
        "gflop": operations(learner, length) / 1e9,
        "matmul_gflop_per_s": rate,
        "over_bound": middle["fast"] / bound,
    }
    print(
        f"{name}: {row['fast_updates_per_s']:.1f} updates/s ({row['positions_per_s']:,.0f} positions/s), "
        f"plain {row['plain_updates_per_s']:.1f}, {row['times_plain']:.1f} times; {row['gflop']:.2f} GFLOP "
        f"at {rate:.0f} GFLOP/s: "
        f"{row['over_bound']:.2f} times the bound; "
        f"bfloat16 {row['bfloat16_updates_per_s']:.1f} ({row['bfloat16_times_plain']:.1f} times)"
    )
    return row


def measure_training(settings: dict[str, Any], env_steps: int) -> dict[str, float]:
    """Environment steps per second of training with one update per environment step, and the share of each
    phase."""
    layers = {"policy_layer_sizes": LAYERS, "critic_layer_sizes": LAYERS}
    config = MPOConfig(
        env_id=ENV_ID,
        num_envs=NUM_ENVS,
        replay_size=20_000,
        batch_size=TRANSITIONS,
        update_after=2_000,
        threads=1,
        env_threads=1,
        **layers,
        **settings,
    )
    with MPOTrainer.from_config(config) as trainer:
        while trainer.updates < 4:
            trainer.collect()
            trainer.learn()
        trainer.stopwatch.drain()
        before, start = trainer.env_steps, time.perf_counter()
        while trainer.env_steps < before + env_steps:
            trainer.collect()
            with trainer.stopwatch("learning"):
                trainer.learn()
        elapsed, phases = time.perf_counter() - start, trainer.stopwatch.drain()
    phases["learning"] -= phases["sampling"]
    shares = {f"share_{name}": seconds / elapsed for name, seconds in phases.items()}
    shares["share_acting_storing_sampling"] = sum(
        shares[f"share_{name}"] for name in ("acting", "storing", "sampling")
    )
    return {"env_steps_per_s": (trainer.env_steps - before) / elapsed, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the trainer does; for both ways
    results: dict[str, Any] = {}
    for name, settings in SETTINGS.items():
        results[name] = measure_updates(name, arguments.updates)
        results[name]["training"] = training = measure_training(settings, 60 * NUM_ENVS)
        shares = ", ".join(
            f"{key[6:]} {value:.1%}" for key, value in training.items() if key.startswith("share_")
        )
        print(f"    training: {training['env_steps_per_s']:.1f} environment steps/s ({shares})")
    if arguments.write:
        print(record.write_result("throughput-mpo-HalfCheetah-v5", results))


if __name__ == "__main__":
    main()
