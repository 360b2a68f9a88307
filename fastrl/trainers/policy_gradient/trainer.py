"""A `PGAgent` in the loop that every trainer runs in: run folders, logs, evaluation, checkpoints, signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.nn.containers import ActionLinear, FlattenLinear
from fastrl.nn.encoders import byte_range
from fastrl.nn.layers import Tanh, layer_init
from fastrl.nn.linear import Linear
from fastrl.nn.precision import without_autocast
from fastrl.runs.evaluation import Actor
from fastrl.runs.trainer import Trainer
from fastrl.toolkit.agents import PGAgent
from fastrl.toolkit.batchers import Batch, RolloutBatcher
from fastrl.toolkit.batchers.transforms import Frame2Float, ReturnRunScaler, StateRunNorm, Transform
from fastrl.toolkit.models import (
    A2CModel,
    AdvantageModel,
    BaseModel,
    BasePGModel,
    PPOAdaptiveModel,
    PPOClipModel,
    SurrogatePGModel,
    ValueModel,
    VanillaPGModel,
)
from fastrl.toolkit.optimizers import JointOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.estimators.advantage import DAE, GAE
from fastrl.toolkit.utils.estimators.rollout import Estimator
from fastrl.toolkit.utils.utils import Schedule, linear_schedule
from fastrl.trainers.policy_gradient.config import (
    A2CConfig,
    PolicyGradientConfig,
    PPOAdaptiveConfig,
    PPOConfig,
)

MODELS: dict[str, type[BasePGModel]] = {
    "vanilla-pg": VanillaPGModel,
    "a2c": A2CModel,
    "surrogate-pg": SurrogatePGModel,
    "ppo": PPOClipModel,
    "ppo-adaptive": PPOAdaptiveModel,
}


class PolicyGradientTrainer(Trainer):
    """Trains one of the toolkit's policies, with a value function and GAE.

    Args:
        config: the settings; its class says which algorithm.
    """

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        self.batcher = RolloutBatcher(
            self.env,
            self.config.num_steps * self.env.num_envs,
            transforms=self._transforms(),
            device=self.device,
        )
        self.pg_agent = self._make_agent()
        self.learner = self.agent = _Learner(self.pg_agent)

    @property
    def algorithm(self) -> str:  # type: ignore[override]  # a constant of other trainers
        """The name of the algorithm, which the configuration's class says."""
        return str(self.config.ALGORITHM)

    # ------------------------------------------------------------------------------------------------
    # construction

    def _transforms(self) -> list[Transform]:
        settings = self.config
        transforms: list[Transform] = []
        if self.env.obs_dtype == torch.uint8:
            transforms.append(Frame2Float(byte_range(self.env.obs_shape)))
        if settings.normalize_observation:
            transforms.append(StateRunNorm(settings.clip_observation))
        if settings.normalize_reward:
            transforms.append(ReturnRunScaler(self.env.num_envs, settings.gamma, settings.clip_reward))
        return transforms

    def _make_agent(self) -> PGAgent:
        settings = self.config
        body: list[dict[str, Any]] = [
            layer
            for size in settings.layer_sizes
            for layer in ({"func": Linear, "out_features": size}, {"func": Tanh})
        ]
        if body and len(self.env.obs_shape) > 1:  # a small grid, or a table of numbers
            body[0]["func"] = FlattenLinear
        network = Config(nn_config=Config(body=body))
        made: dict[str, Any] = {"batcher": self.batcher, "cuda_default": False}
        policy = MODELS[self.algorithm].from_config(
            network, entropy_coef=settings.entropy_coef, **made, **_policy_settings(settings)
        )
        clip = settings.value_clip_range if isinstance(settings, PPOConfig) else None
        shared = policy.body if settings.shared_body else None
        value = ValueModel.from_config(network, body=shared, clip_range=clip, **made)
        direct = settings.advantage_estimator == "dae"
        fit: dict[str, Any] = {
            "value_model": value,
            "gamma": settings.gamma,
            "dae_lambda": settings.dae_lambda,
        } | made
        advantage = AdvantageModel.from_config(network, **fit) if direct else None
        for model, gain in ((policy, 0.01), (value, 1.0), (advantage, 0.01)):
            if model is not None:
                _orthogonal(model.model, gain)
                model.to(self.device)
        _set_log_std(policy, settings.initial_log_std)
        estimator: Estimator = GAE(gamma=settings.gamma, gae_lambda=settings.gae_lambda)
        if advantage is not None:
            passes = {"num_epochs": settings.dae_epochs, "num_mini_batches": settings.dae_mini_batches}
            estimator = DAE(SingleOpt(advantage, **passes, **self._optimizer_settings()))
        return PGAgent(
            self.batcher,
            policy_model=policy,
            value_model=value,
            optimizer=self._make_optimizer([policy] if direct else [policy, value]),
            normalize_advantages=settings.normalize_advantages,
            advantage=estimator,
            log_dir=None,
        )

    def _make_optimizer(self, models: list[BaseModel]) -> JointOpt:
        """Of the policy, and of the value function where nothing else fits it."""
        settings = self.config
        return JointOpt(
            models,
            num_epochs=settings.num_epochs,
            num_mini_batches=settings.num_mini_batches,
            loss_coef=[1.0, settings.value_coef][: len(models)],
            **self._optimizer_settings(),
        )

    def _optimizer_settings(self) -> dict[str, Any]:
        settings = self.config
        rmsprop = isinstance(settings, A2CConfig) and settings.optimizer_type == "rmsprop"
        return {
            "opt_fn": torch.optim.RMSprop if rmsprop else torch.optim.Adam,
            "opt_params": {"lr": settings.lr, "eps": 1e-5},
            "lr_schedule": self._lr_schedule(settings.total_steps),
            "clip_grad_norm": settings.clip_grad_norm,
        }

    def _lr_schedule(self, total_steps: int) -> Schedule | None:
        return linear_schedule(self.config.lr, 0.0, total_steps) if self.config.anneal_lr else None

    def anneal_over(self, total_steps: int) -> None:
        """The learning rate, from `lr` in the first update to nearly 0 in the last one of a run of so many
        steps."""
        schedule = self._lr_schedule(total_steps)
        for optimizer in self.pg_agent.optimizers:
            optimizer.lr_schedule = schedule

    # ------------------------------------------------------------------------------------- one round

    def train(self, total_steps: int, out_dir: str) -> None:
        """Train until `env_steps` reaches `total_steps` and write the run folder.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/.
        """
        self.run(total_steps, out_dir)

    @without_autocast
    def collect(self) -> bool:
        """Fill a rollout; False when a signal asked to stop first (what is stored stays)."""
        before = self.batcher.num_steps
        try:
            with self.stopwatch("collecting"):
                return self.batcher.fill(self.pg_agent.acting(), self.stop_requested)
        finally:  # also where an environment fails: a checkpoint is saved then
            self.count(self.batcher.num_steps - before, self.batcher.pop_episodes())

    @without_autocast
    def estimate(self) -> None:
        """Advantages and targets of the rollout's transitions."""
        self.batch: Batch = self.pg_agent.estimate(self.batcher.take())

    @without_autocast
    def learn(self) -> Mapping[str, Tensor]:
        """Epochs of the optimiser over the batch."""
        self.pg_agent.learn(self.batch)
        self.pg_agent.num_iters += 1
        self.updates += 1
        self.pg_agent.write_optimizer_logs(self.agent.collector)
        return self.agent.collector.drain()

    def actor(self, num_envs: int) -> Actor:
        """The policy behind the transforms of observations."""

        def act(state: Tensor, deterministic: bool) -> Tensor:
            policy = self.pg_agent.models.policy
            choose = policy.select_best_action if deterministic else policy.select_action
            return torch.as_tensor(choose(policy, state, self.env_steps))

        return self.batcher.actor(act)

    def describe(self) -> str:
        """Environments, rollout, networks and threads."""
        parameters = sum(
            parameter.numel()
            for parameter in dict.fromkeys(p for m in self.pg_agent.models.values() for p in m.parameters())
        )
        sizes = f"{self.env.num_envs} environments × {self.config.num_steps} steps, {parameters:,} parameters"
        return f"{self.algorithm} on {self.env.name}: {sizes}; {self.threads}"

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """What the batcher has counted, and a rollout that is half collected."""
        return self.batcher.progress_state()

    def state_outline(self) -> dict[str, Any]:
        """See `RolloutBatcher.progress_outline`."""
        return self.batcher.progress_outline()

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        self.batcher.env = self.env
        self.batcher.load_progress(state, environments_continue=environments_continue)


class _Learner:
    """The agent as the loop's checkpoints see it, and what its models log."""

    def __init__(self, agent: PGAgent) -> None:
        self._agent = agent
        self.collector = _Collector()
        for model in agent.models.values():
            model.attach_logger(self.collector)

    def follow(self) -> None:
        self._agent.follow()

    def state_dict(self) -> dict[str, Any]:
        return self._agent.learner_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._agent.load_learner(state)


class _Collector:
    """Takes the place of a `Logger`: keeps the last value of each name for the loop's own logs."""

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}

    def add_log(self, name: str, value: float | Tensor, precision: int = 2) -> None:
        self._values[name] = torch.as_tensor(value)

    add_tf_only_log = add_log

    def add_histogram(self, name: str, values: Any) -> None:
        """The loop's logs hold numbers only."""

    def drain(self) -> dict[str, Tensor]:
        values, self._values = self._values, {}
        return values


def _policy_settings(settings: PolicyGradientConfig) -> dict[str, Any]:
    if isinstance(settings, PPOConfig):
        return {"ppo_clip_range": settings.clip_range}
    if isinstance(settings, PPOAdaptiveConfig):
        return {"kl_target": settings.kl_target, "kl_penalty": settings.kl_penalty}
    return {}


def _orthogonal(model: nn.Module, head_gain: float) -> None:
    """Orthogonal weights: gain √2 in the body, `head_gain` in the last layer; biases 0."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in layers[:-1]:
        layer_init(layer)
    layer_init(layers[-1], head_gain)


def _set_log_std(policy: nn.Module, log_std: float) -> None:
    """The standard deviation to start from, where actions are continuous."""
    for module in policy.modules():
        if isinstance(module, ActionLinear) and module.log_std is not None:
            nn.init.constant_(module.log_std, log_std)
