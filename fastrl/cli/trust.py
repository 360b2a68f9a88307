"""Code that only a run's folder names is run when the user says so: the folder may be a stranger's."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from fastrl.envs.modules import imports_refused, names_module
from fastrl.runs.config import RunConfig
from fastrl.runs.run_folder import RunFolder


def imports_as_trusted(
    run: RunFolder, config: RunConfig, *, named: Collection[str], trust: bool
) -> AbstractContextManager[None]:
    """While entered, modules that only the run's folder names are not imported.

    A stranger's folder must not run code unasked.

    Args:
        run: the folder.
        config: the settings that are used.
        named: the settings that the user gave.
        trust: the user said `--trust`.
    """
    modules = {name: getattr(config, name, None) for name in ("env_id", "network")}
    modules = {name: value for name, value in modules.items() if names_module(value)}
    unnamed = {name: value for name, value in modules.items() if name not in named}
    if trust or (modules and not unnamed):
        return nullcontext()
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in (unnamed or modules).items())
    said = f"say {flags or f'--env-id {config.env_id}'} as well, or --trust"
    return imports_refused(f"{run.config_file} names it, not you: {said}")
