"""What PPO-TrXL collects into: a rollout, and the memory bank that its rows read."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fastrl.data.memory_bank import MemoryBank
from fastrl.data.memory_ring import MemoryRing
from fastrl.data.rollout import Rollout
from fastrl.envs import VectorEnv
from fastrl.machine import require_memory
from fastrl.nn.memory_transformer import Transformer
from fastrl.runs.state_check import Maybe, Within
from fastrl.runs.trainer_state import MOST_STEPS, rollout_outline
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig


class Storage(NamedTuple):
    """A rollout [T, N], its memory bank, and the memory that they take, in words."""

    rollout: Rollout
    bank: MemoryBank
    sizes: str


def make_storage(
    config: PPOTrXLConfig, env: VectorEnv, transformer: Transformer, device: torch.device
) -> Storage:
    """Rollout and memory bank, if the machine has the memory for them and for the ring that acts.

    The rollout's further fields are `log_probs` (one of each branch), `values`, and each row's place: `slots`
    in the bank and `positions` in its episode.

    Raises:
        SettingError: it has not.
    """
    sizes: dict[str, Any] = {"num_steps": config.num_steps, "num_envs": env.num_envs}
    obs, place = (env.obs_shape, env.obs_dtype), ((), torch.int64)
    continuous = env.action.kind == "continuous"
    rollout: dict[str, Any] = {
        **sizes,
        "obs": obs,
        "action": (env.action.shape, torch.float32 if continuous else torch.int64),
        "extras": {
            "log_probs": ((1 if continuous else env.action.dim,), torch.float32),
            "values": ((), torch.float32),
            "slots": place,
            "positions": place,
        },
    }
    bank: dict[str, Any] = {
        **sizes,
        "num_layers": config.trxl_num_layers,
        "memory_length": config.trxl_memory_length,
        "dim": config.trxl_dim,
        "obs": obs if config.memory_refresh == "rollout" else None,
    }
    meta = torch.device("meta")  # counted without being taken
    wanted = {
        "rollout": Rollout(**rollout, device=meta).nbytes,
        "memory bank": MemoryBank(**bank, device=meta).nbytes,
        "acting": MemoryRing(transformer, env.num_envs, config.trxl_memory_length, meta).nbytes,
    }
    words = require_memory(wanted, "num_envs, num_steps or trxl_memory_length", device=str(device))
    return Storage(Rollout(**rollout, device=device), MemoryBank(**bank, device=device), str(words))


def state_outline(
    state: dict[str, Any], rollout: Rollout, bank: MemoryBank, ring: MemoryRing, env: VectorEnv
) -> dict[str, Any]:
    """What a trainer's `state` must look like in a checkpoint; see `fastrl.runs.state_check`.

    It has the places that ring, bank and episodes have, and a rollout that may be half collected or not.
    """
    slots = bank.positions.shape[1]
    longest = MOST_STEPS if ring.clock.limit is None else ring.clock.limit
    rows = rollout_outline(rollout, env.action)
    for name, most in (("extras.slots", slots - 1), ("extras.positions", longest)):
        rows["tensors"][name] = Within(rows["tensors"][name], 0, most)
    places = {
        "positions": Within(state["bank"]["positions"], 0, longest),
        "cursor": Within(state["bank"]["cursor"], bank.memory_length, slots),
    }
    return state | {
        "collector": state["collector"] | {"rollout": Maybe(rows)},
        "bank": state["bank"] | places,
        "clock": state["clock"] | {"position": Within(state["clock"]["position"], 0, longest)},
        "ring": Maybe(ring.state_dict()),
    }
