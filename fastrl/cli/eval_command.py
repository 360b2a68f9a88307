"""`fastrl eval <run>`: episodes with the deterministic policy of a checkpoint, by default the newest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrl.cli.arguments import Parser, only_result_on_stdout, print_json, whole_number
from fastrl.cli.trust import imports_as_trusted
from fastrl.errors import SettingError
from fastrl.runs.run_folder import CHECKPOINTS, RunFolder, open_run
from fastrl.trainers.registry import find_algorithm


def run(arguments: Sequence[str]) -> int:
    """Evaluate and print the result."""
    parser = Parser("eval", "Play episodes with the deterministic policy of a trained agent.")
    parser.add_argument("run", type=Path, help="run folder, or the folder of one of its checkpoints")
    parser.add_argument(
        "--episodes", type=whole_number, default=20, help="episodes to play, at least 1 (default: 20)"
    )
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=None,
        help="seed of the environments (default: one derived from the run's)",
    )
    parser.add_argument(
        "--eval-sampled", action="store_true", help="play as many episodes with drawn actions beside them"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:<index> (default: the run's)")
    parser.add_argument(
        "--env-id", default=None, help="environment to play in, also module:name (default: the run's)"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import the module that the run's folder names for its environment",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    if not 1 <= options.episodes < 2**31:
        raise SettingError(
            f"episodes must be at least 1{' and below 2^31' if options.episodes > 0 else ''}, got "
            f"{options.episodes}"
        )
    if options.seed is not None and not 0 <= options.seed < 2**31:
        raise SettingError(f"seed must be in [0, 2^31), got {options.seed}")
    with only_result_on_stdout(options.json):
        run_folder, checkpoint = _locate(options.run)
        metrics = _evaluate(run_folder, checkpoint, options)
    if options.json:
        print_json(metrics)
    else:
        from fastrl.runs.evaluation import evaluation_line

        print(f"{options.episodes} episodes: {evaluation_line(metrics)}")
    return 0


def _locate(path: Path) -> tuple[RunFolder, Path]:
    """(run, what to load) for a run folder, its checkpoints folder or one checkpoint."""
    inside = path.absolute()
    for folder in (inside, *list(inside.parents)[:2]):
        if folder.name == CHECKPOINTS and inside.is_dir():
            return open_run(folder.parent), inside
    run = open_run(path)
    return run, run.checkpoints


def _evaluate(run: RunFolder, checkpoint: Path, options: Any) -> dict[str, float]:
    algorithm = find_algorithm(run.algorithm)
    config = algorithm.config_class().from_toml(run.config_text(), str(run.config_file))
    # the checkpoint's own environments are not played, but belong to its state
    config = dataclasses.replace(
        config,
        device=options.device or config.device,
        env_id=options.env_id or config.env_id,
        eval_sampled=options.eval_sampled or config.eval_sampled,
    )
    config.check()
    with imports_as_trusted(run, config.env_id, named=options.env_id is not None, trust=options.trust):
        trainer = algorithm.trainer_class().from_config(config)
        try:
            trainer.load(checkpoint)
            return dict(
                trainer.evaluate(options.episodes, seed=options.seed)
            )  # None, too: a trainer's default may be another
        finally:
            trainer.close()
