"""MPO on vector environments: act, store, replay sequences, update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from fastrl.data.replay import SequenceReplay
from fastrl.envs import VectorEnv, make_vector_env
from fastrl.envs.toolkit import wrappers
from fastrl.errors import SettingError
from fastrl.machine import require_memory
from fastrl.nn.encoders import as_vectors, byte_range
from fastrl.nn.observations import as_rows
from fastrl.runs.config import Unsaid
from fastrl.runs.evaluation import Actor, MemorylessActor, evaluate_policy
from fastrl.runs.memory import require_needs
from fastrl.runs.metrics import _format_metrics
from fastrl.runs.seeding import derived_seed
from fastrl.runs.state_check import Maybe
from fastrl.trainers.mpo.agent import MPOAgent
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.storing import StoringTrainer, harmless

__all__ = ["MPOTrainer", "_evaluate_vectorized", "_format_metrics", "_make_env", "_to_device_tensor"]


def _make_env(env_id: str, *, seed: int | None = None) -> gym.Env:
    """One Gymnasium environment, seeded, observations flattened, episode statistics recorded;
    `dm_control/<domain>/<task>` names too.

    Actions are in its own units (see `fastrl.envs.ActionScale`).

    Raises:
        SettingError: there is no such environment, or a package it needs is missing.
    """
    return wrappers._make_env(env_id, seed=seed, normalize_observation=False, normalize_reward=False)


def _to_device_tensor(value: np.ndarray, device: torch.device) -> Tensor:
    """An array as a float32 tensor on the device."""
    return torch.as_tensor(value, dtype=torch.float32).to(device)


def _evaluate_vectorized(
    agent: MPOAgent, eval_envs: gym.vector.VectorEnv, seed: int = 42
) -> dict[str, float]:
    """One deterministic episode in each environment, all side by side.

    Args:
        agent: acts with its mode.
        eval_envs: N environments; they stay open.
        seed: seed of their reset.

    Returns:
        `eval/return_mean`, `eval/return_std`, `eval/return_min`, `eval/return_max`, `eval/length_mean` over N
        episodes.
    """
    env = make_vector_env(eval_envs, eval_envs.num_envs, seed=seed, device=agent.device)
    metrics = evaluate_policy(_actor(agent, env.obs_shape), env, env.num_envs)
    assert metrics is not None  # nothing interrupts it
    return metrics


def _actor(agent: MPOAgent, obs_shape: tuple[int, ...]) -> Actor:
    """The policy, which remembers nothing; as in training it sees 0 for what is too large."""

    def act(obs: Tensor, deterministic: bool) -> Tensor:
        rows, _ = as_rows("MPO's actor", obs, obs_shape, agent.device)
        return agent.mode(_seen(rows)) if deterministic else agent.draw(_seen(rows))[0]

    return MemorylessActor(act)


def _seen(rows: Tensor) -> Tensor:
    """Observations [N, *shape] as the networks get them, [N, obs_dim]."""
    return harmless(as_vectors(rows))


class MPOTrainer(StoringTrainer):
    """Train an MPO agent (see `fastrl.trainers.mpo.agent.MPOAgent` for the algorithm) from replayed sequences
    of vector environments.

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
        retrace_mc_actions: least number of actions for the expected value of a state; the E-step's serve too,
            so this counts above S only.
        retrace_lambda: λ, in [0, 1].
        optimizer_type: "adam" (ε = 1e-5; 1e-8 for the duals, which always use it) or "sgd" with
            `sgd_momentum`.
        init_log_alpha_mean, init_log_alpha_stddev: KL multipliers to start from, before softplus (at 10 and
            more that is the identity).
        num_envs: N.
        samples_per_insert: transitions drawn for each one stored; None: the batch size, one update per
            environment step.
        mstep_kl_epsilon_std: bound of the KL of the deviation; None: `mstep_kl_epsilon`.
        action_penalty: keep means within the bounds of the actions.
        per_dimension_kl: a bound and a multiplier for each action dimension; else for their sum.
        twin_critic: two critics, of which the lower value counts.
        init_std: standard deviation of the actions to start from, in policy units: bounds are −1 and 1.
        bfloat16: evaluate the target critic at sampled actions with bfloat16 matrix products; everything else
            stays float32.
        save_replay: keep the replay in checkpoints: a resumed run then goes on exactly.
        threads, env_threads: threads of torch and of the environments; None chooses (see
            `fastrl.runs.threads`).
        env_timeout: seconds that a step or reset of all environments may take; None: no limit (see
            `fastrl.envs.deadline`).
        obs_keys: which entries of dict observations to use, in this order; None takes all.
        max_episode_steps: overrides the environment's time limit.
        env_kwargs: further arguments of the environment.
        intervals: when to log, evaluate and save.

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
        self.obs_dim = math.prod(self.env.obs_shape)
        self.agent: MPOAgent = self._make_agent()
        self.learner = self.agent
        self.replay = self._make_replay()
        self.refused = 0  # transitions that were not finite
        self.due = 0.0  # updates
        self._offsets = {}
        self._following = None
        self._sequence_broken = False
        self._filling_since = 0  # environment steps at which the replay was empty
        self.obs = self._begin()

    # ------------------------------------------------------------------------------------------------
    # construction

    def _make_agent(self) -> MPOAgent:
        action = self.env.action
        settings: dict[str, Any] = {"config": self.config, "byte_range": byte_range(self.env.obs_shape)}
        if action.kind == "discrete":
            return MPOAgent(self.obs_dim, action.num_actions, self.device, **settings)
        if action.kind == "continuous":
            return MPOAgent(
                self.obs_dim,
                action.dim,
                self.device,
                action_low=action.low,
                action_high=action.high,
                **settings,
            )
        raise SettingError(
            f"env_id {self.env.name!r} has {action.kind} actions; MPO takes discrete or continuous ones"
        )

    def _make_replay(self) -> SequenceReplay:
        continuous = not self.agent.discrete
        sizes: dict[str, Any] = {
            "obs": ((self.obs_dim,), torch.uint8 if self.env.obs_dtype == torch.uint8 else torch.float32),
            "action": ((self.agent.act_dim,), torch.float32) if continuous else ((), torch.int64),
        }
        capacity, num_envs = self.config.replay_size, self.env.num_envs
        if capacity // num_envs < self.window + 1:
            raise SettingError(
                f"replay_size must hold at least {self.window + 1} rows of {num_envs} environments, "
                f"for windows of {self.window} transitions, got {capacity}"
            )
        wanted = SequenceReplay.nbytes_of(capacity, num_envs, **sizes)
        parts = {"replay": wanted} | (
            {"its copies in a checkpoint": 2 * wanted} if self.config.save_replay else {}
        )
        self._memory = require_memory(parts, "replay_size", device=str(self.device))
        return SequenceReplay(
            capacity, num_envs, **sizes, seed=derived_seed(self.seed, "replay"), device=self.device
        )

    @property
    def window(self) -> int:
        """T, transitions of a replayed window."""
        return self.config.retrace_steps if self.config.use_retrace else 1

    # ------------------------------------------------------------------------------------- one round

    def _set_updates(self, update_after: Any, batch_size: Any, m_steps: Any) -> None:
        given = {"update_after": update_after, "batch_size": batch_size, "m_steps": m_steps}
        settings = replace(self.config, **{name: value for name, value in given.items() if value is not None})
        settings.check()
        drawn = [
            need for need in settings.needs(self.env) if need.purpose in ("batch", "samples")
        ]  # all else is taken already
        require_needs(drawn, str(self.device))
        self.config = settings

    def train(  # type: ignore[override]  # its documented order of arguments has out_dir behind two others
        self,
        total_steps: int,
        update_after: int | str | PathLike[str] | None = None,
        batch_size: int | None = None,
        out_dir: str | PathLike[str] | None = None,
        m_steps: int = Unsaid(1),
    ) -> None:
        """Train, write the run folder, evaluate at the end. `train(total_steps, out_dir)`, as of every
        trainer, works too.

        Args:
            total_steps: environment steps over all environments; after `load` the steps already made count.
            update_after: environment steps before the first update; None: the configuration's.
            batch_size: transitions per update; with Retrace, in windows of `retrace_steps`; None: the
                configuration's.
            out_dir: run folder: metrics.csv, eval.csv, TensorBoard events, curve.png, checkpoints/.
            m_steps: policy steps on each E-step; left out: the configuration's.

        Raises:
            SettingError: a number is out of range, or batch_size is no multiple of `retrace_steps`, or more
                than the replay can hold, or there is no out_dir.
        """
        if isinstance(update_after, str | PathLike) and out_dir is None:
            update_after, out_dir = None, update_after
        if out_dir is None:
            raise SettingError("out_dir must be given: the folder of the run")
        self._set_updates(update_after, batch_size, None if isinstance(m_steps, Unsaid) else m_steps)
        self.run(total_steps, fspath(out_dir))

    def collect(self) -> bool:
        """One step of all environments, stored; False when a signal asked to stop first."""
        if self.stop_requested():
            return False
        if (
            self._following is not None
        ):  # the environment's own episode does not go on where transitions by hand ended
            self._store_row(self._following, valid=False)
            self._following = None
        with self.stopwatch("acting"):
            executed, raw, logp = self.agent.draw(self.obs)
        with self.stopwatch("environment"):
            timestep = self.env.step(executed)
        with self.stopwatch("storing"):
            self._store(executed, raw, logp, timestep)
        transitions = timestep.transitions
        self.count(transitions, self.env.pop_episodes())
        if self.env_steps - self._filling_since >= self.config.update_after and self._enough_stored():
            inserts = self.config.samples_per_insert
            self.due += transitions * (1.0 if inserts is None else inserts / self.config.batch_size)
        return True

    def estimate(self) -> None:
        """Nothing: targets belong to the update that draws them."""

    def learn(self) -> Mapping[str, Tensor]:
        """The updates that are due; returns the metrics of the last one."""
        metrics: Mapping[str, Tensor] = {}
        windows = max(self.config.batch_size // self.window, 1)
        while self.due >= 1.0:
            with self.stopwatch("sampling"):
                batch = self.replay.sample(windows, self.window)
            metrics = self.agent.learn(batch, self.config.m_steps)
            self.due -= 1.0
        self.updates = self.agent.updates
        return {
            **metrics,
            "replay/transitions": torch.tensor(float(len(self.replay))),
            "replay/refused": torch.tensor(float(self.refused)),
        }

    def _enough_stored(self) -> bool:
        """Whether a batch can be drawn: as many transitions as it takes, or a full replay."""
        filled = (
            len(self.replay) >= self.config.batch_size or self.replay.index.rows == self.replay.index.capacity
        )
        return filled and self.replay.can_sample(self.window)

    def actor(self, num_envs: int) -> Actor:
        """The policy, which remembers nothing."""
        return _actor(self.agent, self.env.obs_shape)

    def describe(self) -> str:
        """Environments, networks, replay and threads."""
        parameters = sum(
            parameter.numel()
            for module in (self.agent.policy, self.agent.critics)
            for parameter in module.parameters()
        )
        targets = f"Retrace over {self.window} steps" if self.config.use_retrace else "one-step targets"
        sizes = f"{self.env.num_envs} environments, {targets}, {parameters:,} parameters"
        return f"MPO on {self.env.name}: {sizes}; {self._memory}; {self.threads}"

    # ----------------------------------------------------------------------------------------- state

    def trainer_state(self) -> dict[str, Any]:
        """Observations to go on from, updates that are due, and the replay if it is to be kept."""
        return {
            "obs": self.obs,
            "due": self.due,
            "refused": self.refused,
            "breaks_next": self._breaks_next,
            "following": self._following,
            "sequence_broken": self._sequence_broken,
            "filling_since": self._filling_since,
            "replay": self.replay.state_dict() if self.config.save_replay else None,
        }

    def state_outline(self) -> dict[str, Any]:
        """As `trainer_state`; the replay looks at its own state itself, since it may be absent or filled to
        any extent."""
        return {**self.trainer_state(), "following": Maybe(self.obs), "replay": None}

    def load_trainer_state(self, state: Mapping[str, Any], *, environments_continue: bool) -> None:
        """Counterpart of `trainer_state`. Without a saved replay the next `update_after` environment steps
        only fill a new one."""
        replay = self._make_replay()  # whatever this trainer had stored belongs to another run
        if state["replay"] is not None:
            replay.load_state_dict(state["replay"])  # first, since it may be none
        self.replay = replay
        self.refused = int(state["refused"])
        self.obs = state["obs"].to(self.device)
        self._following = None if state["following"] is None else state["following"].clone()
        self._breaks_next, self._sequence_broken = (
            state["breaks_next"].clone(),
            bool(state["sequence_broken"]),
        )
        if state["replay"] is None:
            self.due, self._filling_since = 0.0, self.env_steps
        else:
            self.due, self._filling_since = float(state["due"]), int(state["filling_since"])
        if not environments_continue:
            if len(self.replay):
                self._break_sequences()
            self.obs = self._begin()
