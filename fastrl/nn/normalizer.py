"""The one running mean and variance of the library: observation normalisation and reward scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Array = TypeVar("Array", Tensor, np.ndarray)


def merge_moments(
    mean_a: Array, var_a: Array, count_a: float, mean_b: Array, var_b: Array, count_b: float
) -> tuple[Array, Array, float]:
    """Mean, population variance and count of two disjoint samples put together, exact up to rounding.

    M = M_a + δ n_b/n,  S = S_a + S_b + δ² n_a n_b/n  with δ = M_b − M_a, n = n_a + n_b, var = S/n

    Args:
        mean_a, var_a, mean_b, var_b: moments of the two samples, of one shape, tensors or arrays.
        count_a, count_b: number of samples behind them, not both 0.

    Reference: Chan, Golub and LeVeque, 1979.
    """
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * (count_b / count)
    squares = var_a * count_a + var_b * count_b + delta * delta * (count_a * count_b / count)
    return mean, squares / count, count


class Statistics(nn.Module):
    """A module whose buffers stay float64 when it is cast.

    A float32 count would stand still at 2²⁴.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = self._buffers[name]
            if buffer is not None and now is not None and now.dtype != buffer.dtype:
                self._buffers[name] = buffer.to(now.device)
        return self


class RunningNormalizer(Statistics):
    """Normalise by a running mean and standard deviation that move only when they are told to.

    y = clip((x − mean) / √(var + ε), −clip, clip)

    The statistics are float64 buffers: they travel with `state_dict()`. `forward` never changes them;
    `update` is a call of its own, so that a policy acts and learns with the same numbers and each observation
    is counted once. As long as nothing has been counted,
    everything passes through unchanged, unclipped too: a bound in standard deviations means nothing to raw
    numbers.

    Args:
        shape: shape of one sample, () for a scalar.
        clip: bound of the normalised value; None leaves it unbounded.
        epsilon: added to the variance.
        plain: so many numbers at the end of a sample pass as they are, such as masks of actions.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(
        self, shape: Sequence[int], *, clip: float | None = 10.0, epsilon: float = 1e-8, plain: int = 0
    ) -> None:
        super().__init__()
        self.clip = clip
        self.plain = plain
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("var", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self._cached: tuple[Tensor, Tensor, bool] | None = (
            None  # float32 (mean, 1/std), any counted; rebuilt when the statistics move
        )

    def _scales(self) -> tuple[Tensor, Tensor, bool]:
        if self._cached is None or self._cached[0].device != self.mean.device:
            with (
                torch.inference_mode(False),
                torch.no_grad(),
            ):  # the first caller may be acting, later ones learning
                mean, inverse_std = self.mean.float(), (self.var + self.epsilon).rsqrt().float()
                if self.plain:
                    mean[..., -self.plain :], inverse_std[..., -self.plain :] = 0.0, 1.0
                self._cached = (mean, inverse_std, bool(self.count > 0))
        return self._cached

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x [..., *shape]."""
        mean, inverse_std, counted = self._scales()
        return self._clipped((x - mean) * inverse_std) if counted else x

    def restore(self, y: Tensor) -> Tensor:
        """The x that `forward` normalises to y [..., *shape], where nothing is clipped."""
        mean, inverse_std, counted = self._scales()
        return y / inverse_std + mean if counted else y

    def scale(self, x: Tensor) -> Tensor:
        """x over the standard deviation, without centring (rewards keep their sign), clipped."""
        _, inverse_std, counted = self._scales()
        return self._clipped(x * inverse_std) if counted else x

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count the samples x [B, *shape] once. An empty batch changes nothing."""
        if x.shape[1:] != self.mean.shape:
            raise ValueError(
                f"RunningNormalizer.update: x must have shape [B, {', '.join(map(str, self.mean.shape))}], "
                f"got {list(x.shape)}"
            )
        if x.shape[0] == 0:
            return
        batch = x.double()
        var, mean = torch.var_mean(batch, dim=0, correction=0)
        self.set_statistics(*merge_moments(self.mean, self.var, float(self.count), mean, var, x.shape[0]))

    def set_statistics(self, mean: Tensor | np.ndarray, var: Tensor | np.ndarray, count: float) -> None:
        """Copy statistics in: mean and population variance of a sample's shape, and the number of samples."""
        self.mean.copy_(torch.as_tensor(mean))
        self.var.copy_(torch.as_tensor(var))
        self.count.fill_(count)
        self._cached = None

    def statistics(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Copies of (mean, population variance, count)."""
        return self.mean.cpu().numpy().copy(), self.var.cpu().numpy().copy(), float(self.count)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._cached = None


class RewardScaler(Statistics):
    """Divide rewards by the running standard deviation of the discounted return, clipped.

    R_t = γ (1 − done_{t−1}) R_{t−1} + r_t,  y_t = clip(r_t / √(var(R) + ε), −clip, clip)

    Args:
        num_envs: N, environments whose returns are followed.
        gamma: discount per step.
        clip: bound of the scaled reward; None leaves it unbounded.
    """

    running_return: Tensor

    def __init__(self, num_envs: int, *, gamma: float, clip: float | None = 10.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.returns = RunningNormalizer((), clip=clip)
        self.register_buffer("running_return", torch.zeros(num_envs, dtype=torch.float64))

    @torch.no_grad()
    def update(self, rewards: Tensor, done: Tensor, valid: Tensor) -> None:
        """Count the returns of a rollout: rewards, done and valid are [T, N]; only transitions count."""
        rewards = torch.where(valid, rewards, 0).double()
        history = torch.empty_like(rewards)
        discounted = self.running_return.clone()
        discount = torch.ones_like(rewards).masked_fill_(
            valid, self.gamma
        )  # a row that is no transition leaves R alone
        for t, reward in enumerate(rewards):
            discounted.mul_(discount[t]).add_(reward)
            history[t] = discounted
            discounted.masked_fill_(done[t], 0.0)
        self.running_return.copy_(discounted)
        self.returns.update(history[valid])

    def forward(self, rewards: Tensor) -> Tensor:
        """Scaled rewards, any shape."""
        return self.returns.scale(rewards)
