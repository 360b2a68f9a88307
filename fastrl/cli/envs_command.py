"""`fastrl envs [filter]`: every environment id that `--env-id` takes, or those that a module registers."""

from __future__ import annotations

from collections.abc import Sequence

from fastrl.cli.arguments import Parser, only_result_on_stdout, print_json
from fastrl.errors import SettingError, nearest


def run(arguments: Sequence[str]) -> int:
    """Print the ids."""
    parser = Parser("envs", "List the environments, and where each comes from.")
    parser.add_argument("filter", nargs="?", default="", help="only ids that contain this, in upper or lower case; module: imports it")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    with only_result_on_stdout(options.json):
        from fastrl.envs import list_env_ids
        from fastrl.envs.make import EnvId
        from fastrl.envs.modules import list_module

        module, colon, contained = options.filter.rpartition(":")
        if colon:
            registered = [f"{module}:{env_id}" for env_id in list_module(module) if contained.lower() in env_id.lower()]
            entries = [EnvId(env_id, "gymnasium") for env_id in registered]
        else:
            entries = list_env_ids(options.filter)
    if options.json:
        print_json({"environments": [{"id": entry.env_id, "source": entry.source} for entry in entries]})
        return 0
    if not entries and colon:
        raise SettingError(f"the module {module!r} registers no environment whose id contains {contained!r}")
    if not entries:
        everything = [entry.env_id for entry in list_env_ids("")]
        raise SettingError(f"no environment's id contains {options.filter!r}{nearest(options.filter, everything)}")
    width = max(len(entry.env_id) for entry in entries)
    print("\n".join(f"{entry.env_id:<{width}}  {entry.source}" for entry in entries))
    return 0
