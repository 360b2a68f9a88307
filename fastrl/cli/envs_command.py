"""`fastrl envs [filter]` lists ids that `--env-id` takes; `fastrl envs check <id>` tests one environment."""

from __future__ import annotations

from collections.abc import Sequence

from fastrl.cli.arguments import Parser, only_result_on_stdout, print_json, whole_number
from fastrl.cli.pair_flags import METAVAR, read_pairs
from fastrl.errors import SettingError, nearest


def run(arguments: Sequence[str]) -> int:
    """Print the ids, or check one environment."""
    if arguments and arguments[0] == "check":
        return _check(arguments[1:])
    parser = Parser(
        "envs",
        "List the environments, and where each comes from; `fastrl envs check <id>` looks at one of them.",
    )
    parser.add_argument(
        "filter",
        nargs="?",
        default="",
        help="only ids that contain this, in upper or lower case; module: lists its own",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    with only_result_on_stdout(options.json):
        from fastrl.envs import EnvId, list_env_ids
        from fastrl.envs.modules import list_module, names_module

        module, _, contained = options.filter.rpartition(":")
        own = names_module(options.filter)
        if own:
            registered = [
                f"{module}:{env_id}" for env_id in list_module(module) if contained.lower() in env_id.lower()
            ]
            entries = [EnvId(env_id, "gymnasium") for env_id in registered]
        else:
            entries = list_env_ids(options.filter)
    if options.json:
        print_json({"environments": [{"id": entry.env_id, "source": entry.source} for entry in entries]})
        return 0
    if not entries and own:
        raise SettingError(f"the module {module!r} registers no environment whose id contains {contained!r}")
    if not entries:
        everything = [entry.env_id for entry in list_env_ids("")]
        raise SettingError(
            f"no environment's id contains {options.filter!r}{nearest(options.filter, everything)}"
        )
    width = max(len(entry.env_id) for entry in entries)
    print("\n".join(f"{entry.env_id:<{width}}  {entry.source}" for entry in entries))
    return 0


def _check(arguments: Sequence[str]) -> int:
    """Print what `check_env` finds; returns 1 if something is wrong."""
    parser = Parser(
        "envs check",
        "Step an environment with random actions and say what does not fit. Exit code 0 if nothing is "
        "wrong, 1 if something is.",
    )
    parser.add_argument("env_id", help="the environment's id")
    parser.add_argument(
        "--env-kwargs", nargs="*", default=[], metavar=METAVAR, help="options of the environment"
    )
    parser.add_argument(
        "--obs-keys",
        nargs="+",
        default=None,
        metavar="KEY",
        help="entries of dict observations to take, in this order",
    )
    parser.add_argument(
        "--max-episode-steps", type=whole_number, default=None, metavar="N", help="another time limit"
    )
    parser.add_argument(
        "--num-envs", type=whole_number, default=2, metavar="N", help="environments side by side (2)"
    )
    parser.add_argument("--steps", type=whole_number, default=1000, metavar="N", help="random steps (1000)")
    parser.add_argument(
        "--seed", type=whole_number, default=0, metavar="N", help="seed of episodes and actions (0)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    try:
        env_kwargs = read_pairs(options.env_kwargs)
    except ValueError as error:
        raise SettingError(f"--env-kwargs: {error}") from error
    with only_result_on_stdout(options.json):
        from fastrl.envs import check_env

        report = check_env(
            options.env_id,
            num_envs=options.num_envs,
            steps=options.steps,
            seed=options.seed,
            obs_keys=options.obs_keys,
            max_episode_steps=options.max_episode_steps,
            env_kwargs=env_kwargs,
        )
    if options.json:
        print_json(report.as_dict())
    else:
        print(report)
    return 0 if report.ok else 1
