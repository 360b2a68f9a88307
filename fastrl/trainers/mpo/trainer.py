"""MPO on vector environments: act, store, replay sequences, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from fastrl.data.feed import Feed
from fastrl.data.replay import SequenceReplay, fields_of
from fastrl.envs import VectorEnv
from fastrl.nn.encoders import byte_range
from fastrl.nn.layers import count_parameters
from fastrl.runs.config import Unsaid
from fastrl.runs.evaluation import Actor
from fastrl.runs.memory import require_needs
from fastrl.runs.seeding import derived_seed
from fastrl.runs.trainer import Trainer
from fastrl.runs.trainer_state import feed_outline
from fastrl.trainers.mpo import compat
from fastrl.trainers.mpo.compat import (
    MPOAgent,
    _evaluate_vectorized,
    _format_metrics,
    _make_env,
    _to_device_tensor,
    actor_of,
)
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.learner import MPOLearner

# the private ones are documented under this path
__all__ = ["MPOTrainer", "_evaluate_vectorized", "_format_metrics", "_make_env", "_to_device_tensor"]


class MPOTrainer(Trainer):
    """Train with MPO from replayed sequences of vector environments; see `learner.MPOLearner`.

    A round is one step of all `num_envs` environments, whose transitions are stored, and the updates that are
    then due: one per environment step unless `samples_per_insert` says otherwise. Rows that are no transition
    never enter a target; truncated episodes bootstrap from their real last observation. Transitions with
    numbers that overflow once they are squared are refused and counted, and break their sequence there.

    Args:
        env_id: an EnvPool or Gymnasium id, one of fastrl's own, a factory (called again for evaluation), or
            an environment object (then `evaluate` is not available).
        seed: seeds torch, numpy, environments, sampling and replay.
        device: where networks and updates live.
        policy_layer_sizes, critic_layer_sizes: widths of the hidden layers, the first with layer norm and
            tanh, the others with ELU.
        replay_size: transitions that are kept, over all environments.
        gamma: discount per environment step, in [0, 1].
        target_networks_update_period: updates between copies of the networks into their targets.
        policy_lr, q_lr: learning rates of policy and critic.
        kl_epsilon: ε, bound of the E-step's KL, in nats.
        mstep_kl_epsilon: bound of the M-step's KL of the mean, of each action dimension; of the whole policy
            if actions are discrete.
        temperature_init, temperature_lr: temperatures to start from, in real units, and their learning rate.
        lambda_init: factor of the KL multipliers to start from; lambda_lr: their learning rate.
        epsilon_penalty: bound of the action penalty's E-step, in nats.
        max_grad_norm: largest gradient norm, of policy and critic separately.
        action_samples: S, actions sampled per state.
        use_retrace: targets by Retrace over windows of `retrace_steps` transitions; else of one step.
        retrace_mc_actions: least number of actions for the expected value of a state; the E-step's serve too.
        retrace_lambda: λ, in [0, 1].
        optimizer_type: "adam" (ε = 1e-5; 1e-8 for the duals, which always use it) or "sgd" with
            `sgd_momentum`.
        init_log_alpha_mean, init_log_alpha_stddev: KL multipliers to start from, before softplus (at 10 and
            more that is the identity).
        settings: further settings by their names in `MPOConfig`.

    Attributes:
        learner: networks, multipliers and optimisers.
        feed: what steps the environments and fills the replay.

    Raises:
        SettingError: a setting is out of range or does not fit the environment's spaces or the machine's
            memory; the message names it.
    """

    algorithm = "mpo"

    def __init__(
        self,
        env_id: str | gym.Env | VectorEnv | Callable[[], Any],
        seed: int,
        device: torch.device,
        policy_layer_sizes: tuple[int, ...],
        critic_layer_sizes: tuple[int, ...],
        replay_size: int,
        gamma: float = 0.99,
        target_networks_update_period: int = 100,
        policy_lr: float = 0.0003,
        q_lr: float = 0.0003,
        kl_epsilon: float = 0.1,
        mstep_kl_epsilon: float = 0.1,
        temperature_init: float = 1.0,
        temperature_lr: float = 0.0003,
        lambda_init: float = 1.0,
        lambda_lr: float = 0.0003,
        epsilon_penalty: float = 0.001,
        max_grad_norm: float = 1.0,
        action_samples: int = 20,
        use_retrace: bool = False,
        retrace_steps: int = 2,
        retrace_mc_actions: int = 8,
        retrace_lambda: float = 0.95,
        optimizer_type: str = "adam",
        sgd_momentum: float = 0.9,
        init_log_alpha_mean: float = 10.0,
        init_log_alpha_stddev: float = 1000.0,
        **settings: Any,
    ) -> None:
        super().__init__(
            MPOConfig.documented(
                env_id=env_id,
                seed=seed,
                device=str(device),
                policy_layer_sizes=policy_layer_sizes,
                critic_layer_sizes=critic_layer_sizes,
                replay_size=replay_size,
                gamma=gamma,
                target_networks_update_period=target_networks_update_period,
                policy_lr=policy_lr,
                q_lr=q_lr,
                kl_epsilon=kl_epsilon,
                mstep_kl_epsilon=mstep_kl_epsilon,
                temperature_init=temperature_init,
                temperature_lr=temperature_lr,
                lambda_init=lambda_init,
                lambda_lr=lambda_lr,
                epsilon_penalty=epsilon_penalty,
                max_grad_norm=max_grad_norm,
                action_samples=action_samples,
                use_retrace=use_retrace,
                retrace_steps=retrace_steps,
                retrace_mc_actions=retrace_mc_actions,
                retrace_lambda=retrace_lambda,
                optimizer_type=optimizer_type,
                sgd_momentum=sgd_momentum,
                init_log_alpha_mean=init_log_alpha_mean,
                init_log_alpha_stddev=init_log_alpha_stddev,
                **settings,
            )
        )

    def set_up(self) -> None:
        """See `Trainer.set_up`."""
        self.learner: MPOLearner = self.make_learner()
        extras = {"raw_actions": fields_of(self.env)["action"], "behaviour_logp": ((), torch.float32)}
        more: dict[str, Any] = {"count": self.count, "stopwatch": self.stopwatch, "device": self.device}
        seed = derived_seed(self.seed, "replay")
        self.feed = Feed(self.env, self.config, extras, name="MPO", seed=seed, **more)
        self.feed.restart()

    def make_learner(self) -> MPOLearner:
        """See `Trainer.make_learner`."""
        self.obs_dim = math.prod(self.env.obs_shape)
        action = self.env.action
        more: dict[str, Any] = {"byte_range": byte_range(self.env.obs_shape)}
        if action.kind == "continuous":
            more |= {"action_low": action.low, "action_high": action.high}
            return MPOLearner(self.config, self.obs_dim, action.dim, self.device, **more)
        more |= {"nvec": action.nvec if action.kind == "multi_discrete" else ()}
        more |= {"mask_size": action.mask_size}
        return MPOLearner(self.config, self.obs_dim, sum(action.nvec), self.device, **more)

    @property
    def replay(self) -> SequenceReplay:
        """The stored rows."""
        return self.feed.replay

    # ------------------------------------------------------------------------------------- one round

    def _set_updates(self, update_after: Any, batch_size: Any, m_steps: Any) -> None:
        changes = {"update_after": update_after, "batch_size": batch_size, "m_steps": m_steps}
        config = replace(self.config, **{name: value for name, value in changes.items() if value is not None})
        config.check()
        # all else is taken already
        drawn = [need for need in config.needs(self.env) if need.purpose in ("batch", "samples")]
        require_needs(drawn, str(self.device))
        self.config = self.learner.config = self.feed.settings = config

    def train(  # type: ignore[override]  # its documented order of arguments has out_dir behind two others
        self,
        total_steps: int,
        update_after: int | str | PathLike[str] | None = None,
        batch_size: int | None = None,
        out_dir: str | PathLike[str] | None = None,
        m_steps: int = Unsaid(1),
    ) -> None:
        """Train, write the run folder, evaluate at the end.

        `train(total_steps, out_dir)`, as of every trainer, works too.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            update_after: environment steps before the first update; None: the configuration's.
            batch_size: transitions per update; with Retrace, in windows of `retrace_steps`; None: the
                configuration's.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/; None: as
                `Trainer.run` chooses it.
            m_steps: policy steps on each E-step; left out: the configuration's.

        Raises:
            SettingError: a number is out of range, or batch_size is no multiple of `retrace_steps`, or more
                than the replay can hold.
        """
        if isinstance(update_after, str | PathLike) and out_dir is None:
            update_after, out_dir = None, update_after
        self._set_updates(update_after, batch_size, None if isinstance(m_steps, Unsaid) else m_steps)
        self.run(total_steps, out_dir)

    def collect(self) -> bool:
        """One step of all environments, stored; False when a signal asked to stop first."""
        if self.stop_requested():
            return False
        self.feed.step(self.learner.act_for_replay)
        return True

    def estimate(self) -> None:
        """Nothing: targets belong to the update that draws them."""

    def learn(self) -> Mapping[str, Tensor]:
        """The updates that are due; returns the metrics of the last one."""
        metrics: Mapping[str, Tensor] = {}
        for batch in self.feed.batches():
            metrics = self.learner.learn(batch)
        self.updates = self.learner.updates
        return {**metrics, **self.feed.metrics()}

    def actor(self, num_envs: int) -> Actor:
        """The policy, which remembers nothing."""
        return actor_of(self.learner, self.env.obs_shape)

    def describe(self) -> str:
        """Environments, networks, replay and threads."""
        parameters = count_parameters(self.learner.policy, self.learner.critics)
        config = self.config
        targets = f"Retrace over {config.window} steps" if config.use_retrace else "one-step targets"
        sizes = f"{self.env.num_envs} environments, {targets}, {parameters:,} parameters"
        return f"MPO on {self.env.name}: {sizes}; {self.feed.memory}; {self.threads}"

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, updates that are due, and the replay if it is to be kept."""
        return self.feed.state_dict()

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`, see `feed_outline`."""
        return feed_outline(self.feed)

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`."""
        self.feed.env = self.env
        self.feed.load_state_dict(state, environments_continue=environments_continue)

    # ----------------------------------------------------------------------------- documented names

    @property
    def agent(self) -> MPOAgent:
        """The learner with numpy in and out."""
        return MPOAgent.of(self.learner)

    @property
    def refused(self) -> int:
        """Transitions that were not stored, since a number of theirs was not finite or too large."""
        return self.feed.refused

    @property
    def replay_size(self) -> int:
        """Transitions that are stored."""
        return len(self.replay)

    @property
    def replay_ptr(self) -> int:
        """The row of the replay that is written next."""
        return self.replay.write_position

    _as_cpu_float_tensor = staticmethod(compat._as_cpu_float_tensor)
    _is_finite_value = staticmethod(compat._is_finite_value)
    _add_transition = compat._add_transition
    _get_sequence_offsets = compat._get_sequence_offsets
    _sample_sequences = compat._sample_sequences
