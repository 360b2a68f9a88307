"""PPO with a Transformer-XL memory of the episode, on vector environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from fastrl import ops
from fastrl.data.memory_bank import MemoryBank
from fastrl.data.rollout import Rollout
from fastrl.envs import VectorEnv
from fastrl.envs.single import spaces_of
from fastrl.memory.collect import RememberingCollector
from fastrl.memory.transformer_memory import TransformerMemory
from fastrl.memory.trxl_actor import TrXLActor
from fastrl.nn.action_heads import BranchedPolicy
from fastrl.nn.layers import count_parameters, layer_init
from fastrl.nn.memory_attention import MultiHeadAttention
from fastrl.nn.memory_layer import TransformerLayer
from fastrl.nn.memory_transformer import Transformer
from fastrl.nn.normalizer import RewardScaler
from fastrl.nn.positions import PositionalEncoding
from fastrl.nn.precision import without_autocast
from fastrl.runs.evaluation import Evaluation
from fastrl.runs.metrics import _format_metrics
from fastrl.runs.seeding import derived_seed
from fastrl.runs.trainer import Trainer
from fastrl.runs.video import require_video
from fastrl.trainers.ppo_trxl.compat import DocumentedHelpers, batched_index_select
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.learner import PPOTrXLLearner, TrXLRows
from fastrl.trainers.ppo_trxl.networks import TrXLAgent

__all__ = [  # documented under this path
    "MultiHeadAttention",
    "PPOTRxLTrainer",
    "PPOTrXLTrainer",
    "PositionalEncoding",
    "Transformer",
    "TransformerLayer",
    "TrXLAgent",
    "_format_metrics",
    "batched_index_select",
    "layer_init",
]


class PPOTrXLTrainer(DocumentedHelpers, Trainer):
    """Train a `TrXLAgent` with PPO.

    The policy sees the present observation and what the last W steps of the episode left in memory.

    A round collects `num_steps` steps of each of `num_envs` environments, estimates advantages with GAE, and
    makes `update_epochs` passes of `num_minibatches` gradient steps over the valid rows (see
    `PPOTrXLLearner`). Rows that are no transition (the step after a done) enter no loss, no statistic and no
    memory; a truncated episode bootstraps from the value of its real last observation under its own memory.
    Observation statistics stand still while a rollout is collected and learned from. The first gradient step
    of an update sees ratios of 1.

    Memory holds the layers' inputs, detached, of real steps only: those of the rollout and the W before it. A
    slot is projected once for each minibatch, not for each row that sees it, or not at all (see
    `MultiHeadAttention.absorbs`), and windows are never built.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        device: where networks and rollouts live.
        init_lr, final_lr: `learning_rate` and `final_learning_rate` of `PPOTrXLConfig`.
        norm_adv: its `normalize_advantages`.
        init_ent_coef: its `ent_coef`.
        run_name: prefix of the video files; None: the algorithm's name.
        settings: further settings. All other arguments have the names and the meaning that they have in
            `PPOTrXLConfig`.

    Attributes:
        learner: network and optimiser.
        rows: its valid rows, with advantages; None before the first.

    Raises:
        SettingError: a setting is out of range or does not fit the environment; the message names it.

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; Dai et al. 2019,
        "Transformer-XL"; Pleines et al. 2023, "Memory Gym: Towards Endless Tasks to Benchmark Memory
        Capabilities of Agents".
    """

    algorithm = "ppo-trxl"
    run_name = "ppo-trxl"
    takes_images = packs_entries = True
    config: PPOTrXLConfig

    def __init__(
        self,
        *,
        env_id: str | gym.Env | VectorEnv | Callable[[], Any],
        seed: int,
        device: torch.device,
        num_envs: int,
        num_steps: int,
        num_minibatches: int,
        update_epochs: int,
        init_lr: float,
        final_lr: float,
        anneal_steps: int,
        gamma: float,
        gae_lambda: float,
        norm_adv: bool,
        clip_coef: float,
        clip_vloss: bool,
        init_ent_coef: float,
        final_ent_coef: float,
        vf_coef: float,
        max_grad_norm: float,
        target_kl: float | None,
        trxl_num_layers: int,
        trxl_num_heads: int,
        trxl_dim: int,
        trxl_memory_length: int,
        trxl_positional_encoding: str,
        reconstruction_coef: float,
        capture_video: bool = False,
        run_name: str | None = None,
        **settings: Any,
    ) -> None:
        self.run_name = run_name or self.algorithm
        super().__init__(
            PPOTrXLConfig.documented(
                env_id=env_id,
                seed=seed,
                device=str(device),
                num_envs=num_envs,
                num_steps=num_steps,
                num_minibatches=num_minibatches,
                update_epochs=update_epochs,
                learning_rate=init_lr,
                final_learning_rate=final_lr,
                anneal_steps=anneal_steps,
                gamma=gamma,
                gae_lambda=gae_lambda,
                normalize_advantages=norm_adv,
                clip_coef=clip_coef,
                clip_vloss=clip_vloss,
                ent_coef=init_ent_coef,
                final_ent_coef=final_ent_coef,
                vf_coef=vf_coef,
                max_grad_norm=max_grad_norm,
                target_kl=target_kl,
                trxl_num_layers=trxl_num_layers,
                trxl_num_heads=trxl_num_heads,
                trxl_dim=trxl_dim,
                trxl_memory_length=trxl_memory_length,
                trxl_positional_encoding=trxl_positional_encoding,
                reconstruction_coef=reconstruction_coef,
                capture_video=capture_video,
                **settings,
            )
        )

    # --------------------------------------------------------------------------------- construction

    def open_environments(self) -> None:
        """See `Trainer.open_environments`."""
        if self.config.capture_video:
            require_video(self.config.env_id)
        super().open_environments()

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        config, env = self.config, self.env
        self.learner: PPOTrXLLearner = self.make_learner()
        self.reward_scaler = None
        if config.normalize_reward:
            self.reward_scaler = RewardScaler(env.num_envs, gamma=config.gamma).to(self.device)
        self.rows: TrXLRows | None = None
        continuous = env.action.kind == "continuous"
        self.memory = TransformerMemory(config, self.agent, env.num_envs, env.action, self.device)
        self.collected = RememberingCollector(
            env,
            self.memory,
            config.num_steps,
            extras={"log_probs": ((1 if continuous else env.action.dim,), torch.float32)},
            keep=self._log_probs,
            count=self.count,
            stopwatch=self.stopwatch,
            settings="num_envs, num_steps or trxl_memory_length",
            guesses=config.network == "auto",
        )

    @staticmethod
    def _log_probs(policy: BranchedPolicy, actions: Tensor) -> Mapping[str, Tensor]:
        return {"log_probs": policy.log_prob(actions)}

    @property
    def rollout(self) -> Rollout:
        """The present rollout [T, N]."""
        return self.collected.rollout

    @property
    def bank(self) -> MemoryBank:
        """The memory that its rows read."""
        return self.memory.bank

    @property
    def acting(self) -> TrXLActor:
        """The policy in the training environments, with its memory."""
        return self.memory.acting

    @property
    def bootstrap_values(self) -> Tensor:
        """Values [N] of the row that follows the rollout."""
        return self.collected.bootstrap_values

    def make_learner(self) -> PPOTrXLLearner:
        """See `Trainer.make_learner`."""
        config, env = self.config, self.env
        self.max_episode_steps = config.longest_episode(env)
        space, _ = spaces_of(env.obs_shape, env.action, env.obs_dtype)
        limit = self.max_episode_steps or 0
        return PPOTrXLLearner(config, space, env.action, limit, self.device, env.obs_spec)

    def actor(self, num_envs: int) -> TrXLActor:
        """The policy with an empty memory."""
        length = self.config.trxl_memory_length
        return TrXLActor(self.learner.agent, num_envs, length, self.device, action=self.env.action)

    # ------------------------------------------------------------------------------------- one round

    def train(  # type: ignore[override]  # in the documented signature out_dir is keyword-only
        self,
        total_steps: int,
        *,
        eval_interval: int | None = None,
        save_interval: int | None = None,
        out_dir: str | PathLike[str] | None = None,
    ) -> None:
        """Train, write the run folder, evaluate at the end.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            eval_interval, save_interval: environment steps between evaluations and between checkpoints; 0:
                only at the end; None: as the trainer was built.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/, videos/;
                None: as `Trainer.run` chooses it.
        """
        intervals: dict[str, Any] = {"eval_interval": eval_interval, "save_interval": save_interval}
        config = replace(
            self.config, **{name: steps for name, steps in intervals.items() if steps is not None}
        )
        config.check()
        self.config = config
        self.run(total_steps, out_dir)

    @without_autocast
    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        self.memory.follow(self.agent)
        return self.collected.fill(self.stop_requested)

    @torch.no_grad()
    def estimate(self) -> None:
        """Advantages and returns of the rollout's valid rows."""
        rollout = self.rollout
        rewards = rollout.rewards
        if self.reward_scaler is not None:
            self.reward_scaler.update(rewards, rollout.terminated | rollout.truncated, rollout.valid)
            rewards = self.reward_scaler(rewards)
        advantages, returns = ops.gae(
            rewards,
            self.collected.values(),  # [T+1, N]
            rollout.terminated,
            rollout.truncated,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
            valid=rollout.valid,
        )
        envs = torch.arange(self.env.num_envs, device=self.device).expand(rollout.num_steps, -1)
        take = rollout.valid_rows
        self.rows = TrXLRows(
            obs=take(rollout.obs),
            actions=take(self.collected.actions()),  # [M, branches] or [M, A]
            log_probs=take(rollout.extras["log_probs"]),
            advantages=take(advantages),
            returns=take(returns),
            values=take(rollout.extras["values"]),
            env=take(envs),
            slot=take(rollout.extras["slots"]),
            position=take(rollout.extras["positions"]),
        )

    def learn(self) -> Mapping[str, Tensor]:
        """Update the agent on the estimated rows; then take their observations into the statistics."""
        config, rows = self.config, self.rows
        assert rows is not None
        if len(rows) == 0:
            return {}  # every row of a very short rollout can be a reset row
        learning_rate = self._annealed(config.learning_rate, config.final_learning_rate)
        ent_coef = self._annealed(config.ent_coef, config.final_ent_coef)
        metrics = self.learner.learn(rows, self.bank, learning_rate=learning_rate, ent_coef=ent_coef)
        self.updates += 1
        normalizer = self.learner.agent.obs_normalizer
        if config.normalize_observation and normalizer is not None:
            normalizer.update(rows.obs)
        annealed = {"train/learning_rate": learning_rate, "train/ent_coef": ent_coef}
        return metrics | {name: torch.tensor(value) for name, value in annealed.items()}

    def _annealed(self, initial: float, final: float) -> float:
        """Linear from `initial` to `final` over `anneal_steps`; the update belongs to the steps before its
        rollout."""
        before = self.env_steps - int(self.rollout.valid.sum())
        return initial + (final - initial) * min(before / self.config.anneal_steps, 1.0)

    def follow_parameters(self) -> None:
        """See `Trainer.follow_parameters`."""
        super().follow_parameters()
        self.memory.follow(self.agent)

    def evaluate(self, n_episodes: int = 10, seed: int | None = 42) -> Evaluation:
        """Play whole episodes with the most probable actions in fresh environments; see `Trainer.evaluate`.

        With `capture_video`, one more episode is recorded into the folder of the run.

        Args:
            n_episodes: episodes, ≥ 1.
            seed: seed of those environments; None derives one from the run's seed, as the evaluations of
                `train` do.
        """
        metrics = super().evaluate(n_episodes, seed)
        if self.config.capture_video and metrics:
            self.record_video(derived_seed(self.seed, "video", self.env_steps) if seed is None else seed)
        return metrics

    def describe(self) -> str:
        """Environments, network, threads and memory."""
        config = self.config
        parameters = count_parameters(self.learner.agent)
        return (
            f"PPO-TrXL on {self.env.name}: {self.env.num_envs} environments × {config.num_steps} steps per "
            f"rollout, {config.trxl_num_layers} layers over the last {config.trxl_memory_length} steps, "
            f"{parameters:,} parameters; {self.collected.sizes}; {self.threads}"
        )

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Observations, memory, reward statistics, a half-collected rollout and the ring that acts in it."""
        scaler = None if self.reward_scaler is None else self.reward_scaler.state_dict()
        return {**self.collected.state_dict(), "reward_scaler": scaler}

    def state_outline(self) -> dict[str, Any]:
        """See `Trainer.state_outline`."""
        return self.trainer_state() | self.collected.outline()

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
            if not environments_continue:
                self.reward_scaler.running_return.zero_()
        self.collected.load_state_dict(state, self.env, continues=environments_continue)


PPOTRxLTrainer = PPOTrXLTrainer  # the documented spelling
