"""How many threads torch and the environments get: together never more than the machine has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from fastrl.machine import available_cores, require_envs, require_threads

# Below this many parameters torch gets one thread. With small networks and with larger ones, two threads on
# two cores were seen to be many times slower than one whenever anything else wanted a core.
SMALL_NETWORK = 2_000_000
ENVS_PER_THREAD = 8  # waking a thread for fewer environments than this was seen to cost more than it saves


@dataclass(frozen=True)
class ThreadChoice:
    """Threads of torch (set by `fastrl.runs.process`) and of the environments, at least 1 each."""

    torch: int
    env: int
    cores: int

    def __str__(self) -> str:
        return f"threads: torch {self.torch}, environments {self.env} (of {self.cores} cores)"


def hidden_weights(layer_sizes: Sequence[int]) -> int:
    """Weights between the hidden layers of a multilayer perceptron, the bulk of its parameters."""
    return sum(a * b for a, b in itertools.pairwise(layer_sizes))


def choose_threads(
    num_envs: int, threads: int | None = None, env_threads: int | None = None, parameters: int | None = None
) -> ThreadChoice:
    """Threads for a run on this machine.

    Acting and stepping alternate, so each side may use every core; but torch's threads keep spinning for a
    while after their work, on the cores the environments then want. Torch therefore gets one thread unless
    its networks are large, and when both sides have more than one, the environments get the cores torch
    leaves.

    Args:
        num_envs: environments stepped together, ≥ 1.
        threads: torch's threads as the user wants them, ≥ 1; None chooses.
        env_threads: the environments' threads as the user wants them, ≥ 1; None chooses.
        parameters: number of parameters of all networks; None counts as small.

    Raises:
        SettingError: a count is below 1, or more than the machine can have.
    """
    require_envs(num_envs)
    require_threads("threads", threads)
    require_threads("env_threads", env_threads)
    cores = available_cores()
    if threads is None:
        large = parameters is not None and parameters >= SMALL_NETWORK
        threads = max(1, cores // 2) if large else 1
    if env_threads is None:
        free = cores if threads == 1 else max(1, cores - threads)
        env_threads = max(1, min(free, num_envs // ENVS_PER_THREAD))
    return ThreadChoice(torch=threads, env=env_threads, cores=cores)
