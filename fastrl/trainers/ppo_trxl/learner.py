"""PPO's update over the rows of a rollout whose memory is read from the bank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastrl.errors import NonFiniteError
from fastrl.losses.ppo import approximate_kl, clipped_surrogate, clipped_value_loss
from fastrl.losses.value import explained_variance, standardize
from fastrl.nn.encoders import reconstruction_loss
from fastrl.nn.flat import FlatParameters
from fastrl.nn.memory_transformer import Bank, Transformer, Window
from fastrl.nn.precision import without_autocast
from fastrl.runs.optimizers import backward
from fastrl.trainers.ppo_trxl.agent import TrXLAgent
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.memory import MemoryBank


@dataclass(frozen=True, slots=True)
class Rows:
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

    def at(self, index: Tensor) -> Rows:
        """The rows of these numbers [K]."""
        return Rows(*(getattr(self, name).index_select(0, index) for name in self.__slots__))


class BankReader:
    """A rollout's bank as minibatches read it: what does not depend on the weights is there once.

    Args:
        transformer: whose memory it is.
        bank: as it stands after the rollout.
    """

    def __init__(self, transformer: Transformer, bank: MemoryBank) -> None:
        self.transformer = transformer
        self.bank = bank
        as_it_lies = transformer.constant_memory and transformer.absorbs
        self._banks = self._layers(list(bank.tokens), bank.positions) if as_it_lies else None

    def banks(self, envs: Tensor | None) -> list[Bank]:
        """Every layer's keys and values under the present weights: of these environments, or of all."""
        if self._banks is not None and envs is None:
            return self._banks
        positions = self.bank.positions if envs is None else self.bank.positions[envs]
        stored = [tokens if envs is None else tokens[envs] for tokens in self.bank.tokens]
        return self._layers([self.transformer.offered(tokens, positions) for tokens in stored], positions)

    def _layers(self, normalized: list[Tensor], positions: Tensor) -> list[Bank]:
        return [self.transformer.bank(number, layer, positions) for number, layer in enumerate(normalized)]

    def window(self, rows: Rows, envs: Tensor | None) -> Window:
        """What each row sees of `banks(envs)`."""
        if envs is None:
            return self.bank.window(rows.env, rows.slot, rows.position)
        place = torch.zeros(len(self.bank.cursor), dtype=torch.int64, device=envs.device)
        place[envs] = torch.arange(len(envs), device=envs.device)
        return self.bank.window(rows.env, rows.slot, rows.position, episode=place[rows.env])


class Learner:
    """Epochs of minibatches with the clipped surrogate, the value loss, an entropy bonus, and reconstruction
    where there is a decoder.

    Args:
        agent: the network to learn.
        config: the settings of the run.
    """

    def __init__(self, agent: TrXLAgent, config: PPOTrXLConfig) -> None:
        self.agent = agent
        self.config = config
        self.by_environment = config.minibatches == "environments"
        self.parameters = FlatParameters([agent])
        self.optimizer = torch.optim.AdamW([self.parameters.whole], eps=1e-5, fused=True)

    def follow(self) -> None:
        """Follow parameters that were replaced, see `fastrl.nn.kept`; SettingError if that cannot be. Every
        update does it by itself."""
        self.parameters.follow([self.agent])

    @without_autocast
    def learn(self, rows: Rows, bank: MemoryBank, *, lr: float, ent_coef: float) -> dict[str, Tensor]:
        """One update on the rows of a rollout; returns metrics, averaged over the minibatches that were
        learned from.

        Raises:
            NonFiniteError: a loss or its gradient is not finite; that gradient step was not taken.
            SettingError: the agent's parameters have changed so that the optimiser cannot follow.
        """
        self.follow()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        reader = BankReader(self.agent.transformer, bank)
        found: list[Tensor] = []
        names: tuple[str, ...] = ()
        epochs = 0
        for _ in range(self.config.update_epochs):
            begun = len(found)
            for index, envs in self._minibatches(rows, bank):
                metrics = self._step(rows.at(index), reader, envs, ent_coef)
                names = tuple(metrics)
                found.append(torch.stack(list(metrics.values())))
            epochs += 1
            if (
                self.config.target_kl is not None
                and torch.stack(found[begun:]).mean(0)[names.index("kl/approximate")] > self.config.target_kl
            ):
                break
        means = torch.stack(found).mean(0)
        residual_variance = (rows.returns - rows.values).var(correction=0)
        return {
            **dict(zip(names, means, strict=True)),
            "value/explained_var": explained_variance(rows.returns, residual_variance),
            "train/epochs": torch.tensor(float(epochs)),
        }

    def _minibatches(self, rows: Rows, bank: MemoryBank) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Numbers of rows, each row once; and the environments they are from, where minibatches are whole
        environments."""
        device = rows.advantages.device
        if not self.by_environment:
            for index in torch.randperm(len(rows), device=device).tensor_split(self.config.num_minibatches):
                if len(index):
                    yield index, None
            return
        num_envs = len(bank.cursor)
        for envs in torch.randperm(num_envs, device=device).tensor_split(self.config.num_minibatches):
            chosen = torch.zeros(num_envs, dtype=torch.bool, device=device)
            chosen[envs] = True
            index = chosen[rows.env].nonzero().squeeze(-1)
            if len(index):
                yield index, envs

    def _step(
        self, rows: Rows, reader: BankReader, envs: Tensor | None, ent_coef: float
    ) -> Mapping[str, Tensor]:
        """One gradient step on a minibatch."""
        loss, metrics = self.loss(rows, reader, envs, ent_coef)
        self.parameters.zero_grad()
        backward(loss)
        metrics["grad/norm"] = self.parameters.clip_grad_norm_(self.config.max_grad_norm)
        if not bool(torch.isfinite(metrics["loss/total"] + metrics["grad/norm"])):
            bad = ", ".join(name for name, value in metrics.items() if not bool(torch.isfinite(value)))
            raise NonFiniteError(f"PPO-TrXL: {bad} not finite; that gradient step was not taken")
        self.parameters.step(self.optimizer)
        return metrics

    def loss(
        self, rows: Rows, reader: BankReader, envs: Tensor | None, ent_coef: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a minibatch, and what it is made of, detached."""
        transformer = self.agent.transformer
        policy, values, features, _ = self.agent.read(
            rows.obs, reader.banks(envs), reader.window(rows, envs), transformer.maps()
        )
        advantages = standardize(rows.advantages) if self.config.norm_adv else rows.advantages
        log_ratio = policy.log_prob(rows.actions) - rows.log_probs
        policy_loss = clipped_surrogate(log_ratio, advantages.unsqueeze(-1), self.config.clip_coef).mean()
        value_loss = clipped_value_loss(
            values, rows.returns, rows.values, self.config.clip_coef if self.config.clip_vloss else None
        ).mean()
        entropy = policy.entropy().mean()
        loss = policy_loss + self.config.vf_coef * value_loss - ent_coef * entropy
        metrics = {"loss/policy": policy_loss, "loss/value": value_loss, "train/entropy": entropy}
        if self.config.reconstruction_coef > 0:
            metrics["loss/reconstruction"] = reconstruction_loss(
                self.agent.decode(features), self.agent.normalized(rows.obs)
            )
            loss = loss + self.config.reconstruction_coef * metrics["loss/reconstruction"]
        metrics["loss/total"] = loss
        with torch.no_grad():
            detached = log_ratio.detach()
            metrics["kl/approximate"] = approximate_kl(detached).mean()
            metrics["train/clipped_frac"] = (
                (torch.expm1(detached).abs() > self.config.clip_coef).float().mean()
            )
        return loss, {name: value.detach() for name, value in metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """The network with its observation statistics."""
        return self.agent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counterpart of `state_dict`."""
        self.agent.load_state_dict(state)
