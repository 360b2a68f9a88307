"""A batch: tensors by name, of which all have the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrl.toolkit.utils.memories import SimpleMemory


class Batch(SimpleMemory):
    """Tensors by name, read as attributes too: `batch.reward` is `batch["reward"]`.

    Its length is that of `state_t`.

    What a `RolloutBatcher` gives, for T steps of E environments:

    | key | shape |
    |---|---|
    | `state_t_and_tp1`; `state_t` and `state_tp1` are views of it | [T+1, E, ...]; [T, E, ...] |
    | `action` | [T, E], or [T, E, A] |
    | `reward`, `done`, `terminated`, `truncated`, `valid` | [T, E] |

    Row t+1 of the states is what followed step t before any reset. `valid` is False on rows that are no
    transition: there an environment was reset. Estimates (`advantage`, `vtarget`, ...) are added by the
    agent.
    """

    def __len__(self) -> int:
        return len(self["state_t"]) if "state_t" in self else 0

    def apply_to_all(self, function: Callable[[Any], Any]) -> Batch:
        """A batch of what `function` makes of every tensor; other entries are kept."""
        return Batch(
            {name: function(value) if isinstance(value, Tensor) else value for name, value in self.items()}
        )

    def apply_to_keys(self, function: Callable[[Any], Any], keys: Sequence[str]) -> Batch:
        """A batch of what `function` makes of these entries, with the others as they are."""
        return Batch({name: function(value) if name in keys else value for name, value in self.items()})

    def concat_batch(self) -> Batch:
        """The transitions of a batch as rows: [T, E, ...] to [M, ...], at most [T·E, ...]."""
        steps = self["reward"].shape[0]
        flat = {
            name: value.flatten(0, 1)
            for name, value in self.items()
            if isinstance(value, Tensor) and value.shape[0] == steps
        }
        valid = flat.get("valid")
        if valid is None or bool(valid.all()):
            return Batch(flat)
        rows = valid.nonzero().squeeze(1)
        return Batch({name: value.index_select(0, rows) for name, value in flat.items()})

    def sample(self, num_mini_batches: int, shuffle: bool) -> Iterator[Batch]:
        """Mini-batches of all entries, see `sample_keys`."""
        return self.sample_keys(list(self), num_mini_batches, shuffle)

    def sample_keys(self, keys: Sequence[str], num_mini_batches: int, shuffle: bool) -> Iterator[Batch]:
        """Split the rows into mini-batches whose sizes differ by at most one.

        Args:
            keys: the entries that they get; `idxs`, the positions in this batch, is added.
            num_mini_batches: how many, at most one for each row.
            shuffle: draw the order of the rows from torch's generator first.

        Raises:
            ValueError: there are fewer rows than mini-batches.
        """
        rows = len(self)
        if not 1 <= num_mini_batches <= rows:
            raise ValueError(
                f"num_mini_batches must be 1 to {rows}, the rows of the batch, got {num_mini_batches}"
            )
        device = self["state_t"].device
        order = torch.randperm(rows, device=device) if shuffle else torch.arange(rows, device=device)
        # rows are put in order once, so that every mini-batch is a view
        ordered = {name: self[name].index_select(0, order) if shuffle else self[name] for name in keys} | {
            "idxs": order
        }
        for chunk in range(num_mini_batches):
            here = slice(rows * chunk // num_mini_batches, rows * (chunk + 1) // num_mini_batches)
            yield Batch({name: value[here] for name, value in ordered.items()})
