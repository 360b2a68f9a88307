"""The PPO-TrXL learner: network, optimiser, and PPO's update over rows with memory from a bank.

It knows no environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from fastrl.data.memory_bank import BankReader, MemoryBank
from fastrl.envs.action_spec import ActionSpec
from fastrl.errors import NonFiniteError
from fastrl.losses.ppo import ppo_loss
from fastrl.losses.value import explained_variance, standardize
from fastrl.nn.encoders import reconstruction_loss
from fastrl.nn.flat import FlatParameters
from fastrl.nn.precision import without_autocast
from fastrl.runs.optimizers import backward, load_parts, names_of_non_finite
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.networks import TrXLAgent


@dataclass(frozen=True, slots=True)
class TrXLRows:
    """M transitions of a rollout.

    Args:
        obs: [M, *shape].
        actions: [M, branches] int64, or [M, A] float32.
        log_probs: [M, branches] or [M, 1], of the policy that acted.
        advantages, returns, values: [M]; values as they were when the rollout was collected.
        env, slot, position: [M] int64, where the row is in the bank and in its episode.
    """

    obs: Tensor
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    env: Tensor
    slot: Tensor
    position: Tensor

    def __len__(self) -> int:
        return self.advantages.shape[0]

    def at(self, index: Tensor) -> TrXLRows:
        """The rows of these numbers [K]."""
        return TrXLRows(*(getattr(self, name).index_select(0, index) for name in self.__slots__))


class PPOTrXLLearner:
    """Epochs of minibatches with the loss of PPO and of the reconstruction.

    L = L_PPO + c_r L_reconstruction

    L_PPO is `fastrl.losses.ppo.ppo_loss`, with one ratio for each branch of a discrete action;
    L_reconstruction is how well the decoder shows the observation from the hidden state. The optimiser is
    AdamW with its weight decay of 0.01.

    Args:
        config: the settings, in range; those of environments and runs are not used.
        observation_space: of one environment.
        action: what an action of the environments is.
        max_episode_steps: the longest episode; 0 where positions need no limit.
        device: where network and updates live.

    Attributes:
        agent: the network.
    """

    def __init__(
        self,
        config: PPOTrXLConfig,
        observation_space: gym.Space[Any],
        action: ActionSpec,
        max_episode_steps: int,
        device: torch.device,
    ) -> None:
        self.config = config
        continuous = action.kind == "continuous"
        self.agent = TrXLAgent(
            observation_space,
            (action.dim,) if continuous else action.nvec,
            trxl_num_layers=config.trxl_num_layers,
            trxl_num_heads=config.trxl_num_heads,
            trxl_dim=config.trxl_dim,
            trxl_positional_encoding=config.trxl_positional_encoding,
            max_episode_steps=max_episode_steps,
            reconstruction_coef=config.reconstruction_coef,
            continuous=continuous,
            gating=config.trxl_gating,
            shared_head_projection=config.shared_head_projection,
            mask_size=action.mask_size,
        ).to(device)
        self.parameters = FlatParameters([self.agent])
        self.optimizer = torch.optim.AdamW([self.parameters.whole], eps=1e-5, fused=True)

    def follow(self) -> None:
        """Follow parameters that were replaced; every update calls it.

        See `fastrl.nn.kept`; SettingError if that cannot be.
        """
        self.parameters.follow([self.agent])

    @without_autocast
    def learn(
        self, rows: TrXLRows, bank: MemoryBank, *, learning_rate: float, ent_coef: float
    ) -> dict[str, Tensor]:
        """One update on the rows of a rollout.

        Args:
            rows: M ≥ 1 transitions.
            bank: the memory that they read.
            learning_rate, ent_coef: of this update.

        Returns:
            Metrics, 0-d, averaged over the minibatches that were learned from.

        Raises:
            NonFiniteError: a loss or its gradient is not finite; that gradient step was not taken.
            SettingError: the agent's parameters have changed so that the optimiser cannot follow.
        """
        self.follow()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        reader = BankReader(self.agent.transformer, bank)
        steps: list[Tensor] = []  # metrics of each gradient step
        names: tuple[str, ...] = ()
        target_kl, epochs = self.config.target_kl, 0
        while epochs < self.config.update_epochs:
            first = len(steps)
            for index, envs in self._minibatches(rows, bank):
                metrics = self._step(rows.at(index), reader, envs, ent_coef)
                names = tuple(metrics)
                steps.append(torch.stack(list(metrics.values())))
            epochs += 1
            if target_kl is not None:
                epoch = torch.stack(steps[first:]).mean(0)
                if epoch[names.index("train/approx_kl")] > target_kl:
                    break
        means = torch.stack(steps).mean(0)
        residual_variance = (rows.returns - rows.values).var(correction=0)
        return {
            **dict(zip(names, means, strict=True)),
            "train/explained_variance": explained_variance(rows.returns, residual_variance),
            "train/epochs": torch.tensor(float(epochs)),
        }

    def _minibatches(self, rows: TrXLRows, bank: MemoryBank) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Numbers of rows, each row once; and the environments they are from, where minibatches are whole
        environments."""
        device, count = rows.advantages.device, self.config.num_minibatches
        if self.config.minibatches == "rows":
            for index in torch.randperm(len(rows), device=device).tensor_split(count):
                if len(index):
                    yield index, None
            return
        num_envs = len(bank.cursor)
        for envs in torch.randperm(num_envs, device=device).tensor_split(count):
            chosen = torch.zeros(num_envs, dtype=torch.bool, device=device)
            chosen[envs] = True
            index = chosen[rows.env].nonzero().squeeze(-1)
            if len(index):
                yield index, envs

    def _step(
        self, rows: TrXLRows, reader: BankReader, envs: Tensor | None, ent_coef: float
    ) -> dict[str, Tensor]:
        """One gradient step on a minibatch."""
        loss, metrics = self.loss(rows, reader, envs, ent_coef)
        self.parameters.zero_grad()
        backward(loss)
        metrics["grad/norm"] = self.parameters.clip_grad_norm_(self.config.max_grad_norm)
        if not bool(torch.isfinite(metrics["loss/total"] + metrics["grad/norm"])):
            bad = names_of_non_finite(metrics)
            raise NonFiniteError(f"PPO-TrXL: {bad} not finite; that gradient step was not taken")
        self.parameters.step(self.optimizer)
        return metrics

    def loss(
        self, rows: TrXLRows, reader: BankReader, envs: Tensor | None, ent_coef: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a minibatch, 0-d, and what it is made of, detached; `envs` as for `BankReader`."""
        config, agent = self.config, self.agent
        window = reader.window(rows.env, rows.slot, rows.position, envs)
        policy, values, features, _ = agent.read(
            rows.obs, reader.banks(envs), window, agent.transformer.maps()
        )
        loss, metrics = ppo_loss(
            policy.log_prob(rows.actions),
            rows.log_probs,
            standardize(rows.advantages) if config.normalize_advantages else rows.advantages,
            values,
            rows.returns,
            policy.entropy(),
            clip_coef=config.clip_coef,
            vf_coef=config.vf_coef,
            ent_coef=ent_coef,
            old_values=rows.values if config.clip_vloss else None,
        )
        if config.reconstruction_coef > 0:
            reconstruction = reconstruction_loss(agent.decode(features), agent.normalized(rows.obs))
            loss = loss + config.reconstruction_coef * reconstruction
            metrics |= {"loss/reconstruction": reconstruction.detach(), "loss/total": loss.detach()}
        return loss, metrics

    def state_dict(self) -> dict[str, Any]:
        """The network with its observation statistics, and the optimiser."""
        return {"agent": self.agent.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`; learning rates and the like stay as they are."""
        load_parts({"agent": self.agent, "optimizer": self.optimizer}, state)
