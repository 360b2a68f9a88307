"""MPO with several branches of discrete actions, against sums over every whole action in float64."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from fastrl.data.replay import Sequences
from fastrl.losses.mpo import sample_weights
from fastrl.nn.action_heads import JointBranches
from fastrl.trainers.mpo import learner as learner_module
from fastrl.trainers.mpo.config import LARGEST_JOINT, MPOConfig
from fastrl.trainers.mpo.improvement import ExactImprovement, SampledBranchesImprovement
from fastrl.trainers.mpo.learner import MPOLearner
from fastrl.trainers.mpo.networks import BranchesCritic, JointCritic, is_exact
from fastrl.trainers.mpo.trainer import MPOTrainer

NVEC, OBS = (2, 3, 4), 5
WHOLE = torch.tensor(list(itertools.product(*map(range, NVEC))))  # [24, 3]
ETA = torch.tensor(3.0, dtype=torch.float64)


def branches(logits: Tensor) -> JointBranches:
    return JointBranches.from_logits(logits, NVEC)


def probability(logits: Tensor, action: Tensor) -> Tensor:
    """π(a|s) [B] of one whole action, as the product over branches of softmax."""
    parts = logits.split(NVEC, dim=-1)
    chosen = [part.softmax(-1)[:, i] for part, i in zip(parts, action.tolist(), strict=True)]
    return torch.stack(chosen).prod(0)


@pytest.fixture
def case() -> tuple[JointCritic, Tensor, Tensor, Tensor]:
    """Critic, observations [B, 5], and logits [B, 9] of π' and of π."""
    torch.manual_seed(1)
    critic = JointCritic(OBS, NVEC, (8,)).double()
    torch.nn.init.normal_(critic.head.weight)
    old, new = (torch.randn(6, 9, dtype=torch.float64) for _ in range(2))
    return critic, torch.randn(6, OBS, dtype=torch.float64), old, new


def by_hand(case: tuple[JointCritic, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """E_π' Q', weights [B, 24], H and KL, by the sum over all 24 actions."""
    critic, obs, old, new = case
    prior = torch.stack([probability(old, action) for action in WHOLE], dim=1)
    now = torch.stack([probability(new, action) for action in WHOLE], dim=1)
    q = torch.stack([critic(obs, action.expand(len(obs), -1)) for action in WHOLE], dim=1)
    unnormalised = prior * (q / ETA).exp()
    weights = unnormalised / unnormalised.sum(1, keepdim=True)
    kl = (prior * (prior / now).log()).sum(1)
    return (prior * q).sum(1), weights, -(weights * now.log()).sum(1), kl


def test_looking_at_all_is_the_sum_over_whole_actions(
    case: tuple[JointCritic, Tensor, Tensor, Tensor],
) -> None:
    critic, obs, old, new = case
    values, weights, cross_entropy, kl = by_hand(case)
    improvement = ExactImprovement(NVEC)
    answer = improvement.ask(branches(old), [critic], obs)
    torch.testing.assert_close(answer.values, values)
    found = sample_weights(answer.q_values, ETA, answer.old["log_prior"])
    torch.testing.assert_close(found, weights)
    fitted, parts = improvement.fit(branches(new), answer.old, found)
    torch.testing.assert_close(fitted, cross_entropy)
    torch.testing.assert_close(parts["mean"], kl)


class Lookup(BranchesCritic):
    """Q of samples by the critic of whole actions."""

    def __init__(self, joint: JointCritic) -> None:
        super().__init__(OBS, NVEC, (8,))
        self.joint = joint

    def of_samples(self, obs: Tensor, actions: Tensor, bfloat16: bool = False) -> Tensor:
        rows = obs.unsqueeze(1).expand(-1, actions.shape[1], -1).flatten(0, 1)
        with torch.no_grad():
            return self.joint(rows, actions.flatten(0, 1)).view(actions.shape[:2])


def test_samples_agree_more_closely_the_more_there_are(
    case: tuple[JointCritic, Tensor, Tensor, Tensor],
) -> None:
    """Their error falls as one over the root of their number."""
    critic, obs, old, new = case
    values, _, cross_entropy, kl = by_hand(case)
    errors = []
    for count in (100, 40_000):
        improvement = SampledBranchesImprovement(NVEC, count, count, False)
        answer = improvement.ask(branches(old), [Lookup(critic)], obs)
        weights = sample_weights(answer.q_values, ETA)
        fitted, parts = improvement.fit(branches(new), answer.old, weights)
        direct = branches(new).log_prob
        each = torch.stack([direct(answer.old["actions"][:, s]) for s in range(100)], dim=1)
        if count == 100:
            torch.testing.assert_close(fitted, -(weights * each).sum(1))
        torch.testing.assert_close(parts["mean"], kl)
        off = torch.stack([(answer.values - values).abs().max(), (fitted - cross_entropy).abs().max()])
        errors.append(float(off.detach().max()))
    assert errors[1] < 0.05 and errors[1] < 0.3 * errors[0]


def test_sampled_actions_have_the_policy_s_frequencies(
    case: tuple[JointCritic, Tensor, Tensor, Tensor],
) -> None:
    _, _, old, _ = case
    torch.manual_seed(0)
    drawn = branches(old).samples(20_000)
    for branch, part in enumerate(old.split(NVEC, dim=-1)):
        counts = torch.stack([(drawn[..., branch] == i).double().mean(1) for i in range(NVEC[branch])], dim=1)
        assert ((counts - part.softmax(-1)).abs() < 0.02).all()


def test_the_critic_of_samples_is_that_of_single_actions() -> None:
    torch.manual_seed(0)
    critic = BranchesCritic(OBS, NVEC, (16, 8))
    torch.nn.init.normal_(critic.head.weight)
    obs, actions = torch.randn(7, OBS), torch.stack([torch.randint(n, (7, 4)) for n in NVEC], dim=-1)
    each = torch.stack([critic(obs, actions[:, s]) for s in range(4)], dim=1)
    torch.testing.assert_close(critic.of_samples(obs, actions), each.detach())


def test_which_way_is_taken() -> None:
    assert LARGEST_JOINT == 64 and is_exact((8, 8)) and not is_exact((8, 9)) and is_exact(())


@pytest.mark.parametrize("nvec", [NVEC, (5, 5, 5)])
@pytest.mark.parametrize("mask", [False, True])
def test_targets_are_those_of_retrace_with_probabilities_of_whole_actions(
    nvec: tuple[int, ...], mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs of `retrace`, and an update that changes the networks and leaves nothing infinite."""
    torch.manual_seed(0)
    length, size, numbers = 3, 4, sum(nvec)
    settings: dict[str, Any] = {"policy_layer_sizes": (8,), "critic_layer_sizes": (8,), "use_retrace": True}
    config = MPOConfig(env_id="none", **settings)
    features = OBS + numbers * mask
    learner = MPOLearner(config, features, numbers, torch.device("cpu"), nvec=nvec, mask_size=numbers * mask)
    obs = torch.randn(length + 1, size, features)
    if mask:
        obs[..., OBS:] = torch.rand(length + 1, size, numbers).round()
        first = torch.tensor((0, *nvec[:-1])).cumsum(0)
        obs[..., OBS + first] = 1.0
    acted = learner.act_for_replay(obs[:-1].flatten(0, 1))
    shape = (length, size)
    never = torch.zeros(shape, dtype=torch.bool)
    raw, logp = acted["raw_actions"].unflatten(0, shape), acted["behaviour_logp"].view(shape) - 0.1
    extras = {"raw_actions": raw, "behaviour_logp": logp}
    batch = Sequences(obs, raw, torch.randn(shape), never, never, ~never, extras)
    seen: dict[str, Tensor] = {}
    plain = learner_module.ops.retrace

    def spy(
        rewards: Tensor, q: Tensor, values: Tensor, log_ratios: Tensor, *rest: Any, **more: Any
    ) -> Tensor:
        seen["log_ratios"] = log_ratios
        return plain(rewards, q, values, log_ratios, *rest, **more)

    monkeypatch.setattr(learner_module.ops, "retrace", spy)
    before = [parameter.clone() for parameter in learner.policy.parameters()]
    metrics = learner.learn(batch)
    torch.testing.assert_close(seen["log_ratios"], torch.full(shape, 0.1))  # targets are the acting networks
    assert float(metrics["train/skipped"]) == 0 and all(value.isfinite().all() for value in metrics.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))


class FactorisedBandit(gym.Env[np.ndarray, np.ndarray]):
    """One step: a reward for each branch, and more where two branches agree; the best action is known."""

    observation_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, choices: int = 4) -> None:
        self.action_space = gym.spaces.MultiDiscrete([choices] * 3)
        self.choices = choices

    def reward(self, action: Any) -> float:
        near = [-abs(int(a) - best) / self.choices for a, best in zip(action, (1, 3, 3), strict=True)]
        return sum(near) + 0.5 * float(action[1] == action[2])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), self.reward(action), True, False, {}


@pytest.mark.parametrize("choices", [4, 6])
def test_it_learns_a_factorised_bandit(choices: int) -> None:
    """With 64 whole actions, all looked at, and with 216, by samples."""
    bandit = FactorisedBandit(choices)
    best = max(bandit.reward(action) for action in itertools.product(range(choices), repeat=3))
    assert best == 0.5
    config = MPOConfig(
        env_id=lambda: FactorisedBandit(choices),
        **{"num_envs": 4, "seed": 1, "threads": 1, "max_episode_steps": 4, "update_after": 200, "gamma": 0.0},
        **{"policy_layer_sizes": (16,), "critic_layer_sizes": (32,), "policy_lr": 5e-3, "q_lr": 5e-3},
        **{"target_networks_update_period": 10, "mstep_kl_epsilon": 0.05, "batch_size": 64},
        **{"replay_size": 2000, "samples_per_insert": 32.0, "lambda_lr": 0.1, "init_log_alpha_mean": 1.0},
    )
    with MPOTrainer.from_config(config) as trainer, trainer.session():
        assert isinstance(trainer.learner.critics[0], JointCritic if choices == 4 else BranchesCritic)
        before = trainer.evaluate(2, seed=1)["eval/return_mean"]
        while trainer.env_steps < 2_400:
            trainer.collect()
            trainer.learn()
        after = trainer.evaluate(2, seed=1)["eval/return_mean"]
    assert before < 0.4 and after == pytest.approx(best)
