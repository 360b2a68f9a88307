"""The toolkit's `PGAgent` and `PolicyGradientTrainer` are two ways of putting the same parts together."""

import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.nn.activations import Tanh
from fastrl.nn.linear import Linear
from fastrl.toolkit.agents import PGAgent
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import ReturnRunScaler, StateRunNorm
from fastrl.toolkit.models import (
    A2CModel,
    AdvantageModel,
    PPOAdaptiveModel,
    PPOClipModel,
    SurrogatePGModel,
    ValueModel,
    VanillaPGModel,
)
from fastrl.toolkit.optimizers import JointOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.estimators.advantage import DAE, GAE
from fastrl.toolkit.utils.utils import linear_schedule
from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer
from fastrl.trainers.registry import find_algorithm

ENVS, STEPS, EPOCHS, MINIBATCHES, RATE, TOTAL = 4, 32, 3, 4, 3e-3, 1000
SETTINGS = {
    "num_envs": ENVS,
    "num_steps": STEPS,
    "layer_sizes": (16, 16),
    "update_epochs": EPOCHS,
    "num_minibatches": MINIBATCHES,
    "learning_rate": RATE,
    "anneal_lr": True,
    "total_steps": TOTAL,
    "ent_coef": 0.01,
    "vf_coef": 1.0,
    "normalize_observation": True,
    "normalize_reward": True,
    "seed": 3,
    "threads": 1,
}
MODELS = {
    "vanilla-pg": (VanillaPGModel, {}, {}),
    "a2c": (A2CModel, {"optimizer_type": "rmsprop", "gae_lambda": 0.95, "normalize_advantages": True}, {}),
    "surrogate-pg": (SurrogatePGModel, {}, {}),
    "ppo": (PPOClipModel, {"clip_coef": 0.1}, {"ppo_clip_range": 0.1}),
    "ppo-adaptive": (PPOAdaptiveModel, {"kl_target": 1e-3}, {"kl_target": 1e-3}),
}


def make_trainer(algorithm, env_id, **changes):
    config = find_algorithm(algorithm).config_class()
    return PolicyGradientTrainer(config(env_id=env_id, **SETTINGS | MODELS[algorithm][1] | changes))


def make_agent(algorithm, env_id, trainer):
    """An agent with the trainer's settings, and its weights as they are now."""
    config = trainer.config
    batcher = RolloutBatcher(
        make_vector_env(env_id, ENVS, seed=config.seed, num_threads=1),
        ENVS * STEPS,
        transforms=[StateRunNorm(10.0), ReturnRunScaler(ENVS, config.gamma, 10.0)],
    )
    layers = [{"func": Linear, "out_features": 16}, {"func": Tanh}] * 2
    network = {"config": Config(nn_config=Config(body=layers)), "batcher": batcher, "cuda_default": False}
    policy = MODELS[algorithm][0].from_config(**network, entropy_coef=0.01, **MODELS[algorithm][2])
    clip = 0.1 if getattr(config, "clip_vloss", False) else None
    value = ValueModel.from_config(**network, clip_range=clip)
    twins = [(policy.model, trainer.learner.policy), (value.model, trainer.learner.value)]
    optimizer = {
        "opt_fn": torch.optim.RMSprop if algorithm == "a2c" else torch.optim.Adam,
        "opt_params": {"lr": RATE, "eps": 1e-5},
        "lr_schedule": linear_schedule(RATE, 0.0, TOTAL),
        "clip_grad_norm": config.max_grad_norm,
    }
    passes = {"num_epochs": EPOCHS, "num_mini_batches": MINIBATCHES}
    if config.advantage_estimator == "dae":
        advantage = AdvantageModel.from_config(**network, value_model=value, gamma=config.gamma)
        twins.append((advantage.model, trainer.learner.advantage))
        fit = SingleOpt(advantage, num_epochs=config.dae_epochs, num_mini_batches=2, **optimizer)
        estimator, trained = DAE(fit), [policy]
    else:
        estimator, trained = GAE(config.gamma, config.gae_lambda), [policy, value]
    for mine, its in twins:
        for parameter, other in zip(mine.parameters(), its.parameters(), strict=True):
            parameter.data.copy_(other.data)
    # the trainer's value loss has the half in front always, the toolkit's only where it is clipped
    factors = [1.0, 1.0 if clip else 0.5 * config.vf_coef][: len(trained)]
    opt = JointOpt(trained, loss_coef=factors, **passes, **optimizer)
    made = {"policy_model": policy, "value_model": value, "optimizer": opt, "advantage": estimator}
    return PGAgent(batcher, log_dir=None, **made), twins


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [(algorithm, {}) for algorithm in MODELS]
    + [("ppo", {"clip_vloss": True}), ("ppo", {"advantage_estimator": "dae", "dae_minibatches": 2})],
)
def test_the_same_weights_after_three_updates(algorithm, changes, env_id):
    with make_trainer(algorithm, env_id, **changes) as trainer:
        agent, twins = make_agent(algorithm, env_id, trainer)
        before = [parameter.clone() for parameter in trainer.learner.policy.parameters()]
        torch.manual_seed(5)
        for _ in range(3):
            assert trainer.collect()
            trainer.estimate()
            trainer.learn()
        torch.manual_seed(5)
        for _ in range(3):
            agent.step()
        agent.batcher.close()
        assert trainer.env_steps == agent.num_steps
        for parameter, other in zip(before, trainer.learner.policy.parameters(), strict=True):
            assert not torch.equal(parameter, other)
        for mine, its in twins:
            for parameter, other in zip(mine.parameters(), its.parameters(), strict=True):
                assert torch.equal(parameter, other)
        if algorithm == "ppo-adaptive":
            assert float(agent.models.policy.kl_penalty) == trainer.learner.kl_penalty != 1.0
