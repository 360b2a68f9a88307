"""Masks of actions: choices that are not allowed get a logit that no policy can come back from.

The logit is finite. A softmax over it gives probability exactly 0, and what is 0 · log 0 in entropies and
divergences, or −∞ − (−∞) in the difference of two log-probabilities, is an ordinary 0. The masked logits are
all that has to be kept of a mask: whoever makes a distribution of them again has the same one.
"""

from __future__ import annotations

from torch import Tensor

ILLEGAL = -1e30  # sums of many, and float32's products with differences of logits, stay finite


def masked_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits [..., A] with `ILLEGAL` where the mask [..., A] bool is False; no gradient goes there.

    Where nothing is allowed, as in a row that resets an environment, all choices are equally probable.
    """
    return logits.masked_fill(~mask, ILLEGAL)


def mask_in(obs: Tensor, size: int) -> Tensor:
    """The mask bool [..., size] at the end of observations [..., F], where what is allowed is above 0."""
    return obs[..., obs.shape[-1] - size :] > 0
