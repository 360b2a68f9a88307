"""PPO with a Transformer-XL memory of the episode, on vector environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from fastrl import ops
from fastrl.data.rollout import Field, Rollout
from fastrl.envs import VectorEnv
from fastrl.envs.single import spaces_of
from fastrl.errors import SettingError
from fastrl.machine import require_memory
from fastrl.nn.encoders import require_symbols
from fastrl.nn.layers import layer_init
from fastrl.nn.memory_transformer import MultiHeadAttention, Transformer, TransformerLayer
from fastrl.nn.normalizer import RewardScaler
from fastrl.nn.positions import PositionalEncoding
from fastrl.nn.precision import without_autocast
from fastrl.runs.metrics import _format_metrics
from fastrl.runs.optimizers import load_keeping_settings, require_optimizer_state
from fastrl.runs.state_check import Checked, Maybe, Within
from fastrl.runs.trainer_state import MOST_STEPS, rollout_outline
from fastrl.trainers.ppo_trxl.actor import TrXLActor
from fastrl.trainers.ppo_trxl.agent import TrXLAgent
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.learner import Learner, Rows
from fastrl.trainers.ppo_trxl.memory import ActingMemory, MemoryBank, build_memory_helpers
from fastrl.trainers.ppo_trxl.refresh import ObservationBank, refresh_bank
from fastrl.trainers.ppo_trxl.single_environments import SingleEnvironmentTrainer
from fastrl.trainers.ppo_trxl.video import require_video

__all__ = [
    "MultiHeadAttention",
    "PPOTRxLTrainer",
    "PositionalEncoding",
    "Transformer",
    "TransformerLayer",
    "TrXLAgent",
    "_format_metrics",
    "batched_index_select",
    "layer_init",
]


def batched_index_select(input_tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Every sample selects for itself along one axis: see `fastrl.ops.batched_index_select`.

    Args:
        input_tensor: [B, ...].
        dim: the axis to select from, not the first.
        index: [B, W] int64.

    Returns:
        As input_tensor, with W entries along `dim`.
    """
    return ops.batched_index_select(input_tensor, dim, index)


class PPOTRxLTrainer(SingleEnvironmentTrainer):
    """Train a `TrXLAgent` with PPO: the policy sees the present observation and what the last W steps of the
    episode left in memory.

    A round collects `num_steps` steps of each of `num_envs` environments, estimates advantages with GAE, and
    makes `update_epochs` passes of `num_minibatches` gradient steps over the valid rows:

    L = mean max(−A r, −A clip(r, 1 ± c)) + vf_coef · ½ mean max((V − G)², (V_clipped − G)²) − ent_coef ·
    entropy

    with one ratio r for each branch of a discrete action. Rows that are no transition (the step after a done)
    enter no loss, no statistic and no memory; a truncated episode bootstraps from the value of its real last
    observation under its own memory. The first gradient step of an update sees ratios of 1.

    Memory holds the layers' inputs, detached, of real steps only: those of the rollout and the W before it. A
    slot is projected once for each minibatch, not for each row that sees it, or not at all (see
    `MultiHeadAttention.absorbs`), and windows are never built.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        seed: seeds torch, numpy, environments and sampling.
        device: where networks and rollouts live.
        num_envs: N.
        num_steps: T, steps per environment and round.
        num_minibatches: minibatches per epoch, a divisor of N · T.
        update_epochs: passes over a rollout.
        init_lr, final_lr: learning rate at the start and from `anneal_steps` on, linear between; of AdamW,
            whose weight decay is 0.01.
        anneal_steps: environment steps over which learning rate and entropy coefficient are annealed.
        gamma, gae_lambda: discount and λ of GAE, in [0, 1].
        norm_adv: standardise advantages over each minibatch.
        clip_coef: c.
        clip_vloss: clip the value loss too.
        init_ent_coef, final_ent_coef: entropy coefficient, annealed as the learning rate is.
        vf_coef: weight of the value loss.
        max_grad_norm: largest norm of the gradient of all parameters.
        target_kl: end an update after an epoch whose approximate KL, averaged over rows and branches, is
            above this; None never does.
        trxl_num_layers: L; 0 is a policy without memory.
        trxl_num_heads: H, a divisor of `trxl_dim`.
        trxl_dim: D.
        trxl_memory_length: W, at most the longest episode; 0 is a policy without memory.
        trxl_positional_encoding: "absolute", "learned", "relative" or "none": see
            `fastrl.nn.memory_transformer.Transformer`.
        reconstruction_coef: weight of the reconstruction of observations; 0 builds no decoder.
        capture_video: record an episode into `videos/` of the run folder after each evaluation.
        run_name: prefix of the video files; None: the algorithm's name.
        endless: episodes have no limit; positions must be relative or none.
        trxl_gating: "residual" or "gru".
        shared_head_projection: the published attention, in which all heads share one small projection.
        normalize_observation: run observations that are numbers through a running mean and variance, which
            stand still while a rollout is collected and learned from.
        normalize_reward: learn from rewards over the running standard deviation of the discounted return;
            reported returns are raw.
        memory_refresh: "never", or "rollout" to make the memory of earlier rollouts anew with the present
            weights before each rollout (the W steps before it are replayed; what they saw of steps before
            those is left out).
        minibatches: "rows" of all environments, drawn at random, or whole "environments", which project fewer
            slots.
        threads, env_threads: threads of torch and of the environments; None chooses (see
            `fastrl.runs.threads`).
        env_timeout: seconds that a step or reset of all environments may take; None: no limit (see
            `fastrl.envs.deadline`).
        obs_keys: which entries of dict observations to use, in this order; None takes all.
        max_episode_steps: overrides the environment's time limit, or gives the one it does not tell.
        env_kwargs: further arguments of the environment.
        intervals: when to log, evaluate and save.

    Raises:
        SettingError: a setting is out of range or does not fit the environment; the message names it.

    Reference: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; Dai et al. 2019,
        "Transformer-XL"; Pleines et al. 2023, "Memory Gym: Towards Endless Tasks to Benchmark Memory
        Capabilities of Agents".
    """

    algorithm = "ppo-trxl"
    run_name = "ppo-trxl"
    takes_images = True

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
                init_lr=init_lr,
                final_lr=final_lr,
                anneal_steps=anneal_steps,
                gamma=gamma,
                gae_lambda=gae_lambda,
                norm_adv=norm_adv,
                clip_coef=clip_coef,
                clip_vloss=clip_vloss,
                init_ent_coef=init_ent_coef,
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

    def open_environments(self) -> None:
        """See `Trainer.open_environments`."""
        if self.config.capture_video:
            require_video(self.config.env_id)
        super().open_environments()

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        config = self.config
        self.max_episode_steps = self._episode_limit(self.env.max_episode_steps)
        self.agent = self._make_agent()
        self.learner = Learner(self.agent, config)
        self.reward_scaler = None
        if config.normalize_reward:
            self.reward_scaler = RewardScaler(self.env.num_envs, gamma=config.gamma).to(self.device)
        self._allocate()
        self.rows: Rows | None = None
        self._begin(self.env.reset())

    # ------------------------------------------------------------------------------------------------
    # construction

    def _episode_limit(self, limit: int | None) -> int | None:
        """The longest episode in steps, or None if they are endless."""
        window = self.config.trxl_memory_length
        if self.config.endless:
            return None
        limit = (
            limit or self.config.max_episode_steps
        )  # of a vector environment that tells none, the user may know one
        if limit is None:
            self.env.reset()  # some tell it only then
            limit = self.env.max_episode_steps
        if limit is None:
            raise SettingError(
                f"max_episode_steps must be given, since {self.env.name} does not tell its limit; or set "
                "endless, with relative positions"
            )
        if window > limit:
            raise SettingError(
                f"trxl_memory_length must be at most the longest episode, {limit} steps, got {window}"
            )
        return limit

    def _make_agent(self) -> TrXLAgent:
        settings, action = self.config, self.env.action
        observation_space, _ = spaces_of(self.env.obs_shape, action, self.env.obs_dtype)
        continuous = action.kind == "continuous"
        return TrXLAgent(
            observation_space,
            (action.dim,) if continuous else action.nvec,
            trxl_num_layers=settings.trxl_num_layers,
            trxl_num_heads=settings.trxl_num_heads,
            trxl_dim=settings.trxl_dim,
            trxl_positional_encoding=settings.trxl_positional_encoding,
            max_episode_steps=self.max_episode_steps or 0,
            reconstruction_coef=settings.reconstruction_coef,
            continuous=continuous,
            gating=settings.trxl_gating,
            shared_head_projection=settings.shared_head_projection,
        ).to(self.device)

    def _allocate(self) -> None:
        """Rollout, memory bank and acting memory, if the machine has the memory for them."""
        settings = self.config
        sizes: dict[str, Any] = {"num_steps": settings.num_steps, "num_envs": self.env.num_envs}
        bank_sizes = {
            **sizes,
            "num_layers": settings.trxl_num_layers,
            "memory_length": settings.trxl_memory_length,
            "dim": settings.trxl_dim,
        }
        numbers = ((), torch.int64)
        action: Field = (
            self.env.action.shape or (1,),
            torch.float32 if self.env.action.kind == "continuous" else torch.int64,
        )
        branches = 1 if self.env.action.kind == "continuous" else self.env.action.dim
        rows: dict[str, Any] = {
            "obs": (self.env.obs_shape, self.env.obs_dtype),
            "action": action,
            "extras": {"log_probs": ((branches,), torch.float32), "slots": numbers, "positions": numbers},
        }
        bank = MemoryBank(**bank_sizes, device="meta")
        ring = ActingMemory(
            self.agent.transformer, self.env.num_envs, settings.trxl_memory_length, None, torch.device("meta")
        )
        wanted = {
            "rollout": Rollout(**sizes, **rows, device="meta").nbytes,
            "memory bank": bank.tokens.nbytes,
            "acting": ring.nbytes,
        }
        if settings.memory_refresh == "rollout":
            wanted["observations of the bank"] = ObservationBank(
                bank, self.env.obs_shape, self.env.obs_dtype
            ).obs.nbytes
        self._memory = require_memory(
            wanted, "num_envs, num_steps or trxl_memory_length", device=str(self.device)
        )
        self.rollout = Rollout(**sizes, **rows, device=self.device)
        self.values = torch.zeros(settings.num_steps + 1, self.env.num_envs, device=self.device)
        self.bank = MemoryBank(**bank_sizes, device=self.device)
        self.seen = (
            ObservationBank(self.bank, self.env.obs_shape, self.env.obs_dtype)
            if settings.memory_refresh == "rollout"
            else None
        )
        self.acting = self._new_actor(self.env.num_envs)

    def _new_actor(self, num_envs: int) -> TrXLActor:
        limit = (
            self.max_episode_steps if self.agent.transformer.position_table is not None else None
        )  # only tables have an end
        return TrXLActor(
            self.agent, num_envs, self.config.trxl_memory_length, limit, self.device, action=self.env.action
        )

    def _begin(self, obs: Tensor) -> None:
        """New episodes in all environments: nothing is remembered."""
        self.rollout.reset()
        self.acting = self._new_actor(self.env.num_envs)
        self.obs = obs

    @staticmethod
    def _build_memory_helpers(
        *, memory_length: int, max_episode_steps: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """(mask [W + 1, W] bool, indices [P, W] int64): which slots a step of an episode sees, drawn in
        `memory.build_memory_helpers`.

        At step p the window is slots `indices[p]`, of which `mask[min(p, W)]` are seen. For W = 2 that is no
        slot at step 0, slot 0 of (0, 1) at step 1, both at step 2, and slots (1, 2) at step 3.
        """
        return build_memory_helpers(
            memory_length=memory_length, max_episode_steps=max_episode_steps, device=device
        )

    # ------------------------------------------------------------------------------------- one round

    def train(  # type: ignore[override]  # the documented signature is keyword-only
        self,
        *,
        total_steps: int,
        eval_interval: int | None = None,
        save_interval: int | None = None,
        out_dir: str,
    ) -> None:
        """Train, write the run folder, evaluate at the end.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            eval_interval, save_interval: environment steps between evaluations and between checkpoints; 0:
                only at the end; None: as the trainer was built.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/, videos/.
        """
        given: dict[str, Any] = {"eval_interval": eval_interval, "save_interval": save_interval}
        config = replace(self.config, **{name: value for name, value in given.items() if value is not None})
        config.check()
        self.config = config
        self.video_folder = Path(out_dir).absolute() / "videos"
        self.run(total_steps, out_dir)

    @without_autocast
    def collect(self) -> bool:
        """Fill the rollout; False when a signal asked to stop first (what is stored stays)."""
        if self.rollout.full:
            self.rollout.reset()
        if self.rollout.position == 0:
            self._start_rollout()
        with self.env.many_steps():
            while not self.rollout.full:
                if self.stop_requested():
                    return False
                self._step()
        require_symbols(self.rollout.obs, self.env.obs_shape, self.env.name)
        with self.stopwatch("acting"):
            self.values[-1] = self.acting.look(
                self.obs
            ).values  # of the row that follows, which acts in the next rollout
        return True

    @torch.no_grad()
    def _start_rollout(self) -> None:
        """Keep the last W steps of memory, and make what acting reads anew for the present weights."""
        if self.seen is not None:
            self.seen.start()
        self.bank.start()
        if self.seen is not None:
            refresh_bank(self.agent, self.bank, self.seen, self.acting.memory.clock.position)
        self.acting.memory.refill(*self.bank.recent())

    @torch.inference_mode()
    def _step(self) -> None:
        row = self.rollout.position
        with self.stopwatch("acting"):
            acted = self.acting.look(self.obs)
            actions = acted.policy.sample()
            log_probs = acted.policy.log_prob(actions)
        with self.stopwatch("environment"):
            timestep = self.env.step(self.acting.as_environments_take(actions))
        with self.stopwatch("acting"):
            self.values[row] = acted.values
            position, slot = self.acting.memory.clock.position, self.bank.cursor
            self.bank.write(acted.tokens, position)
            if self.seen is not None:
                self.seen.write(self.obs)
            self.bank.advance(timestep.valid)
            self.acting.keep(acted.tokens, timestep)
            self.rollout.append(
                obs=self.obs,
                actions=actions,
                next_obs=timestep.obs,
                rewards=timestep.reward,
                terminated=timestep.terminated,
                truncated=timestep.truncated,
                valid=timestep.valid,
                log_probs=log_probs,
                slots=slot,
                positions=position,
            )
        self.count(timestep.transitions, self.env.pop_episodes())
        self.obs = timestep.obs

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
            self.values,
            rollout.terminated,
            rollout.truncated,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
            valid=rollout.valid,
        )
        envs = torch.arange(self.env.num_envs, device=self.device).expand(rollout.num_steps, -1)
        take = rollout.valid_rows
        self.rows = Rows(
            obs=take(rollout.obs),
            actions=take(rollout.actions),
            log_probs=take(rollout.extras["log_probs"]),
            advantages=take(advantages),
            returns=take(returns),
            values=take(self.values),
            env=take(envs),
            slot=take(rollout.extras["slots"]),
            position=take(rollout.extras["positions"]),
        )

    def learn(self) -> Mapping[str, Tensor]:
        """Update the agent on the estimated rows."""
        assert self.rows is not None
        if len(self.rows) == 0:
            return {}  # every row of a very short rollout can be a reset row
        settings = self.config
        lr = self._annealed(settings.init_lr, settings.final_lr)
        ent_coef = self._annealed(settings.init_ent_coef, settings.final_ent_coef)
        metrics = self.learner.learn(self.rows, self.bank, lr=lr, ent_coef=ent_coef)
        self.updates += 1
        if settings.normalize_observation and self.agent.obs_normalizer is not None:
            self.agent.obs_normalizer.update(self.rows.obs)
        return metrics | {"train/lr": torch.tensor(lr), "train/ent_coef": torch.tensor(ent_coef)}

    def _annealed(self, initial: float, final: float) -> float:
        """Linear from `initial` to `final` over `anneal_steps`; the update belongs to the steps before its
        rollout."""
        begun = self.env_steps - int(self.rollout.valid.sum())
        return initial + (final - initial) * min(begun / self.config.anneal_steps, 1.0)

    def actor(self, num_envs: int) -> TrXLActor:
        """The policy with an empty memory."""
        return self._new_actor(num_envs)

    def follow_parameters(self) -> None:
        """See `Trainer.follow_parameters`."""
        if self.learner.agent is not self.agent:
            raise SettingError(
                "the trainer's agent is not the one that its learner trains; give that one the values with "
                "load_state_dict, "
                "or make a new trainer"
            )
        self.learner.follow()

    def describe(self) -> str:
        """Environments, network, threads and memory."""
        settings = self.config
        parameters = sum(parameter.numel() for parameter in self.agent.parameters())
        return (
            f"PPO-TrXL on {self.env.name}: {self.env.num_envs} environments × {settings.num_steps} steps "
            "per rollout, "
            f"{settings.trxl_num_layers} layers over the last {settings.trxl_memory_length} steps, "
            f"{parameters:,} parameters; "
            f"{self._memory}; {self.threads}"
        )

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Optimiser, memory, the observations to go on from, and a half-collected rollout with the ring that
        acts in it."""
        clock = self.acting.memory.clock
        half_collected = 0 < self.rollout.position < self.config.num_steps
        return {
            "optimizer": self.learner.optimizer.state_dict(),
            "reward_scaler": None if self.reward_scaler is None else self.reward_scaler.state_dict(),
            "obs": self.obs,
            "bank": self.bank.state_dict(),
            "seen": None if self.seen is None else self.seen.obs.clone(),
            "position": clock.position,
            "over": clock.over,
            "rollout": self.rollout.state_dict() | {"values": self.values.clone()}
            if half_collected
            else None,
            "ring": self.acting.memory.state_dict() if half_collected else None,
        }

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`, with the places that rings, bank and episodes have, and a rollout that may be
        half collected or not."""
        state, clock = self.trainer_state(), self.acting.memory.clock
        window, slots = self.bank.memory_length, self.bank.positions.shape[1]
        longest = MOST_STEPS if clock.limit is None else clock.limit
        rollout = rollout_outline(self.rollout, self.env.action)
        extras = rollout["tensors"]
        extras["extras.slots"] = Within(extras["extras.slots"], 0, slots - 1)
        extras["extras.positions"] = Within(extras["extras.positions"], 0, longest)
        bank = state["bank"]
        return state | {
            "optimizer": Checked(partial(require_optimizer_state, self.learner.optimizer)),
            "bank": bank
            | {
                "positions": Within(bank["positions"], 0, longest),
                "cursor": Within(bank["cursor"], window, slots),
            },
            "position": Within(state["position"], 0, longest),
            "rollout": Maybe(rollout | {"values": self.values}),
            "ring": Maybe(self.acting.memory.state_dict()),
        }

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        load_keeping_settings(self.learner.optimizer, state["optimizer"])
        if self.reward_scaler is not None:
            self.reward_scaler.load_state_dict(state["reward_scaler"])
            if not environments_continue:
                self.reward_scaler.running_return.zero_()
        if not environments_continue:
            self._begin(self.env.reset())
            return
        self._begin(state["obs"].to(self.device))
        self.bank.load_state_dict(state["bank"])
        if self.seen is not None:
            self.seen.obs.copy_(state["seen"])
        clock = self.acting.memory.clock
        clock.position, clock.over = state["position"].to(self.device), state["over"].to(self.device)
        if state["rollout"] is not None:
            self.rollout.load_state_dict(state["rollout"])
            self.values.copy_(state["rollout"]["values"])
            self.acting.memory.load_state_dict(state["ring"])
