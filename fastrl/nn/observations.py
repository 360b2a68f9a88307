"""One observation or many: what every way of acting takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastrl.errors import NonFiniteError
from fastrl.observation_spec import ObservationLayout


def as_rows(
    who: str,
    obs: Any,
    shape: Sequence[int],
    device: torch.device | str | None = None,
    *,
    what: str = "obs",
    layout: ObservationLayout | None = None,
) -> tuple[Tensor, bool]:
    """Observations as a batch.

    Args:
        who: what was called, for messages.
        obs: one observation [*shape] or a batch [B, *shape], numbers, an array or a tensor.
        shape: of one observation.
        device: where the batch goes; None leaves a tensor where it is.
        what: what the observations are called there.
        layout: of packed observations, which may be given as a dict of entries too.

    Returns:
        (the batch [B, *shape], bytes as they are and other numbers as float32; whether it was one
        observation).

    Raises:
        ValueError: obs is of another shape, or no numbers.
        NonFiniteError: one of its numbers is not finite; whatever a policy made of it would look like an
            action.
    """
    single = False
    if layout is not None and isinstance(obs, Mapping):
        obs, single = _packed(who, obs, layout)
    if not isinstance(obs, Tensor):
        try:
            array = np.asarray(obs)
        except ValueError:  # lists of different lengths
            array = np.asarray(None)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                f"{who}: {what} must be numbers of shape {_words(shape)}, got {type(obs).__name__}"
            )
        obs = torch.as_tensor(array)
    obs = obs[0] if single else obs
    single = obs.dim() == len(shape)
    if (not single and obs.dim() != len(shape) + 1) or tuple(obs.shape[obs.dim() - len(shape) :]) != tuple(
        shape
    ):
        raise ValueError(f"{who}: {what} must have shape {_words(shape)}, got {list(obs.shape)}")
    rows = obs.unsqueeze(0) if single else obs
    rows = rows.to(device=device, dtype=torch.uint8 if rows.dtype == torch.uint8 else torch.float32)
    if (
        layout is not None
        and rows.dtype == torch.uint8
        and not bool(torch.isfinite(layout.numbers(rows)).all())
    ):
        raise NonFiniteError(f"{who}: {what} has a number that is not finite")
    if rows.is_floating_point() and not bool((finite := torch.isfinite(rows)).all()):
        place = torch.nonzero(~finite)[0].tolist()[single:]
        raise NonFiniteError(
            f"{who}: {what}[{', '.join(map(str, place))}] is {float(obs[tuple(place)])}, as float32 not "
            "finite"
        )
    return rows, single


def _packed(who: str, obs: Mapping[str, Any], layout: ObservationLayout) -> tuple[Tensor, bool]:
    """Entries by name, of one observation or a batch, as rows; and whether it was one."""
    first = layout.entries[0]
    single = first.name in obs and np.ndim(obs[first.name]) == len(first.shape)
    try:
        rows = {name: np.asarray(value)[None] if single else value for name, value in obs.items()}
        return layout.pack(rows), single
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None


def _words(shape: Sequence[int]) -> str:
    return f"{list(shape)} or [{', '.join(map(str, ('B', *shape)))}]"
