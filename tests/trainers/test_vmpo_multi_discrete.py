"""V-MPO with several independent branches of discrete actions."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.nn.action_heads import JointBranches
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.trainer import VMPOTrainer

NVEC = (2, 3, 4)


class Matching(gym.Env[np.ndarray, np.ndarray]):
    """Shows a choice for each branch; the reward is 1 for each branch that makes it, and 2 more for all."""

    observation_space = gym.spaces.Box(0.0, 1.0, (sum(NVEC),))
    action_space = gym.spaces.MultiDiscrete(NVEC)

    def _show(self) -> np.ndarray:
        self.wanted = self.np_random.integers(NVEC)
        return np.concatenate([np.eye(n)[i] for n, i in zip(NVEC, self.wanted, strict=True)]).astype(
            np.float32
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        right = np.asarray(action) == self.wanted
        return self._show(), float(right.sum() + 2 * right.all()), self.steps == 8, False, {}


OPTIMUM = 8 * 5.0
SETTINGS: dict[str, Any] = {
    **{"num_envs": 8, "num_steps": 16, "gamma": 0.0, "m_steps": 8, "policy_lr": 1e-2, "value_lr": 1e-2},
    **{"alpha_lr": 1e-2, "epsilon_mu": 0.1, "policy_layer_sizes": (32,), "value_layer_sizes": (32,)},
    **{"threads": 1, "seed": 3, "max_episode_steps": 8, "rnn_hidden_size": 32},
}


@pytest.mark.parametrize("changes", [{}, {"advantage_estimator": "dae"}, {"memory": "gru"}])
def test_it_learns_all_branches(changes: dict[str, Any]) -> None:
    config = VMPOConfig(env_id=Matching, **SETTINGS | changes)
    with VMPOTrainer.from_config(config) as trainer:
        before = trainer.evaluate(8, seed=1)["eval/return_mean"]
        with trainer.session():
            while trainer.env_steps < 8_000:
                trainer.collect()
                trainer.estimate()
                trainer.learn()
        after = trainer.evaluate(8, seed=1)["eval/return_mean"]
    assert before < 0.6 * OPTIMUM < 0.9 * OPTIMUM <= after


def test_log_probability_and_kl_are_those_of_the_joint_distribution() -> None:
    """By the sum over all 24 actions."""
    torch.manual_seed(0)
    old, new = (torch.randn(5, sum(NVEC), dtype=torch.float64) for _ in range(2))
    actions = torch.tensor(list(itertools.product(*map(range, NVEC))))
    joint = []
    for logits in (old, new):
        policy = JointBranches.from_logits(logits.repeat_interleave(len(actions), 0), NVEC)
        joint.append(policy.log_prob(actions.repeat(5, 1)).view(5, -1))
    torch.testing.assert_close(joint[0].exp().sum(1), torch.ones(5, dtype=torch.float64))
    expected = (joint[0].exp() * (joint[0] - joint[1])).sum(1)
    (kl,) = JointBranches.from_logits(old, NVEC).kl_parts(JointBranches.from_logits(new, NVEC))
    torch.testing.assert_close(kl, expected)
