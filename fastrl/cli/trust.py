"""Code that only a run's folder names is run when the user says so: the folder may be a stranger's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastrl.envs.modules import imports_refused, names_module
from fastrl.runs.run_folder import RunFolder


def imports_as_trusted(
    run: RunFolder, env_id: Any, *, named: bool, trust: bool
) -> AbstractContextManager[None]:
    """While entered, modules that only the run's folder names are not imported.

    A stranger's folder must not run code unasked.

    Args:
        run: the folder.
        env_id: the environment to be made.
        named: the user gave `env_id`.
        trust: the user said `--trust`.
    """
    if trust:
        return nullcontext()
    of_user = named and names_module(env_id)
    say = f"--env-id {env_id} as well, or --trust" if names_module(env_id) and not named else "--trust"
    return imports_refused(
        f"{run.config_file} names it, not you: say {say}", but=(env_id,) if of_user else ()
    )
