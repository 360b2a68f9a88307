"""Random options for EnvPool's environments: each ends in an environment that steps or in a sentence, never
in a death or a hang.

python bench/attack/attack.py --only envpool_options --calls 100 --seed 0
"""

from __future__ import annotations

import math
import os
import random
import resource
import tempfile
import time
from typing import Any

OUTCOMES = ("stepped", "refused", "traceback", "died", "hung")
SECONDS = 120.0  # for one call; a trial of the library's own may take a minute of it
MEMORY = 12 << 30  # bytes of address space
WHOLE = (-(2**31), -7, -1, 0, 1, 2, 3, 16, 100, 4096, 100_000, 2**31 - 1, 2**31, 2**63)
FRACTIONS = (-1e30, -1.0, 0.0, 1e-12, 0.5, 2.0, 1e30, math.inf, math.nan)
TEXTS = ("", "x", "../..", "\0", "ä" * 500)
OTHERS = (None, True, False, [], [1, 2], [-1, 10**9], {"a": 1}, b"bytes")


def families() -> list[str]:
    """One id for each kind of EnvPool's environments, of those that can be made here."""
    import envpool

    first: dict[tuple[str, str], str] = {}
    for env_id, (path, kind, _) in envpool.registration.registry.specs.items():
        first.setdefault((path, kind), env_id)
    return sorted(first.values())


def options_of(env_id: str, draw: random.Random) -> dict[str, Any]:
    """One to three options, of which most have the right type and few a value that makes sense."""
    from fastrl.envs.adapters.envpool_options import _RESERVED, description

    defaults = description(env_id)
    own = sorted(
        name for name in defaults if name not in _RESERVED or draw.random() < 0.05
    )  # the reserved ones end in one sentence
    names = draw.sample(own, k=min(draw.randint(1, 3), len(own)))
    return {name: value_like(defaults[name], draw) for name in names}


def value_like(default: Any, draw: random.Random) -> Any:
    """A value for an option with this default."""
    if draw.random() < 0.1:
        return draw.choice((*WHOLE, *FRACTIONS, *TEXTS, *OTHERS))
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return draw.choice((*WHOLE, default + 1, default * 2))
    if isinstance(default, float):
        return draw.choice((*FRACTIONS, default * 2, default + 1))
    if isinstance(default, str):
        return draw.choice(TEXTS)
    if isinstance(default, list | tuple):
        return [value_like(item, draw) for item in default]
    return default


def attempt(env_id: str, options: dict[str, Any]) -> str:
    """What came of one environment with these options: one of OUTCOMES."""
    child = os.fork()
    if child == 0:
        os._exit(_in_child(env_id, options))
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "died" if os.WIFSIGNALED(status) else OUTCOMES[min(os.WEXITSTATUS(status), 3)]
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hung"


def _in_child(env_id: str, options: dict[str, Any]) -> int:
    """Index of the outcome, in a process that may end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.chdir(tempfile.gettempdir())  # simulators write logs where they are
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    from fastrl.envs import make_vector_env
    from fastrl.envs.base import EnvironmentFailure
    from fastrl.envs.single import spaces_of
    from fastrl.errors import SettingError

    try:
        env = make_vector_env(env_id, 2, num_threads=1, env_kwargs=options)
        env.reset()
        _, actions = spaces_of(env.obs_shape, env.action)
        actions.seed(0)
        for _ in range(10):
            env.step([actions.sample() for _ in range(2)])
    except (SettingError, EnvironmentFailure):
        return 1
    except Exception:
        return 2
    return 0


def run(calls: int, seed: int) -> dict[str, int]:
    """Counts of OUTCOMES over random calls; what should not be is printed with its options."""
    import fastrl.envs.adapters.envpool  # noqa: F401  # before the forks, which would each import it again
    from fastrl.errors import SettingError

    draw, counts = random.Random(seed), dict.fromkeys(OUTCOMES, 0)
    ids = families()
    for _ in range(calls):
        env_id = draw.choice(ids)
        try:
            options = options_of(env_id, draw)
        except SettingError:  # it cannot be described here
            counts["refused"] += 1
            continue
        outcome = attempt(env_id, options)
        counts[outcome] += 1
        if outcome not in ("stepped", "refused"):
            print(f"{outcome}: {env_id} with {options}", flush=True)
    return counts
