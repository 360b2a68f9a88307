"""From the words after `fastrl train <algorithm>` to a configuration.

Later ones win: defaults, preset, --config file, flags.

tyro reads the flags from the config dataclass. Around it this module does what tyro leaves open: where the
defaults come from, spellings that people try (`--normalize-reward false`, `none`), and errors of one sentence
that name the setting.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastrl.cli.arguments import whole_word
from fastrl.cli.pair_flags import pairs_registry
from fastrl.cli.renamed_flags import FALSE_WORDS, TRUE_WORDS, earlier_value, with_new_flags
from fastrl.errors import SettingError, nearest
from fastrl.runs.config import ALGORITHM_KEY, RunConfig, field_types, parse_toml, values_from_toml
from fastrl.runs.plain_values import agrees, plain
from fastrl.runs.renamed import value_clip_message
from fastrl.runs.run_folder import RunFolder, open_run
from fastrl.runs.setting_texts import setting_texts
from fastrl.runs.typed_values import NONE_WORDS, convert, describe
from fastrl.trainers.registry import Algorithm

HELP_FLAGS = ("-h", "--help")
FOLDER_FLAGS = {
    "out_dir": "Folder of the run; none: a new one under runs/.",
    "resume": "Run folder to continue from its newest checkpoint; its settings are the defaults.",
    "config": "TOML file with settings; flags go before it, it goes before the environment's preset.",
}
TRUST_HELP = "With --resume: import the module that the run's folder names for its environment."


@dataclass(frozen=True)
class TrainOrder:
    """What the user asked for: settings, and the folder of a new run or the run to continue.

    Of a run that is continued also whether the user `named` the environment again, and whether modules that
    only its folder names are to be imported (`trust`).
    """

    config: RunConfig
    out_dir: Path | None
    resume: RunFolder | None
    named: bool = False
    trust: bool = False


def read_train_flags(algorithm: Algorithm, arguments: Sequence[str]) -> TrainOrder:
    """The order that `arguments` give. `--help` prints the flags and exits.

    Raises: SettingError naming the flag or setting that cannot be used.
    """
    config_class = algorithm.config_class()
    prog = f"fastrl train {algorithm.name}"
    hints: dict[str, Any] = {
        **field_types(config_class),
        **{name: Path | None for name in FOLDER_FLAGS},
        "trust": bool,
    }
    words = _normalized(with_new_flags(arguments, hints), hints, prog)
    given = _values_of(words)
    help_wanted = any(word in HELP_FLAGS for word in words)

    if given.get("out_dir") == [""]:
        raise SettingError("out_dir must name a folder, got an empty text")
    resume = _run_to_resume(given, algorithm)
    from_file = _from_file(algorithm, given)
    values = _defaults(algorithm, given, from_file, resume)
    if "env_id" not in values and "env_id" not in given and not help_wanted:
        raise SettingError(
            f"env_id is missing: give --env-id, for example `{prog} --env-id CartPole-v1` (`fastrl envs` "
            "lists them)"
        )
    parsed = _parse(config_class, values, words, hints, prog)
    config: RunConfig = parsed.settings
    config.check()
    value_clip = earlier_value(arguments, "value_clip_range", hints)
    if value_clip and (message := value_clip_message(value_clip, getattr(config, "clip_coef", 0.0))):
        warnings.warn(message, FutureWarning, stacklevel=2)
    if resume is not None:
        _require_same(config, resume)
    return TrainOrder(config, parsed.out_dir, resume, named={*given, *from_file}, trust=parsed.trust)


# ---------------------------------------------------------------------- where the defaults come from


def _from_file(algorithm: Algorithm, given: Mapping[str, list[str]]) -> dict[str, Any]:
    """Settings of the --config file, if there is one."""
    if not given.get("config"):
        return {}
    return _read_settings(algorithm.config_class(), algorithm.name, Path(given["config"][-1]))


def _defaults(
    algorithm: Algorithm, given: Mapping[str, list[str]], from_file: dict[str, Any], resume: RunFolder | None
) -> dict[str, Any]:
    """Settings before the flags: of the run to continue, else the preset; over them the --config file's."""
    config_class = algorithm.config_class()
    if resume is not None:
        return (
            _settings_in(resume.config_text(), config_class, algorithm.name, resume.config_file) | from_file
        )
    env_id = given["env_id"][-1] if given.get("env_id") else from_file.get("env_id")
    preset = config_class.preset(env_id) if env_id else {}
    hints = field_types(config_class)
    return {name: convert(name, hints[name], value) for name, value in preset.items()} | from_file


def _read_settings(config_class: type[RunConfig], algorithm: str, file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingError(f"config file {str(file)!r} cannot be read: {reason}") from None
    return _settings_in(text, config_class, algorithm, file)


def _settings_in(text: str, config_class: type[RunConfig], algorithm: str, file: Path) -> dict[str, Any]:
    """The settings that a file's text holds; SettingError if they are another algorithm's."""
    written_for = parse_toml(text, str(file)).get(ALGORITHM_KEY, algorithm)
    if written_for != algorithm:
        raise SettingError(f"{file} holds settings of {written_for!r}, not of {algorithm!r}")
    return values_from_toml(config_class, text, str(file))


def _run_to_resume(given: Mapping[str, list[str]], algorithm: Algorithm) -> RunFolder | None:
    if not given.get("resume") or given["resume"][-1] in NONE_WORDS:
        return None
    run = open_run(Path(given["resume"][-1]))
    if run.algorithm != algorithm.name:
        command = f"fastrl train {run.algorithm} --resume {run.path}"
        raise SettingError(f"resume: {run.path} is a run of {run.algorithm}; continue it with `{command}`")
    if given.get("out_dir") and Path(given["out_dir"][-1]).resolve() != run.path.resolve():
        raise SettingError("out_dir cannot be given with --resume: a continued run stays in its folder")
    return run


def _require_same(config: RunConfig, run: RunFolder) -> None:
    saved = type(config).from_toml(run.config_text(), str(run.config_file))
    for name in config.fixed_on_resume():
        before, wanted = getattr(saved, name), getattr(config, name)
        if not agrees(plain(before), plain(wanted)):
            raise SettingError(
                f"{name} cannot change when a run is continued: {run.path} has {before!r}, got {wanted!r}"
            )


# --------------------------------------------------------------------------------------------- words


def _normalized(arguments: Sequence[str], hints: Mapping[str, Any], prog: str) -> list[str]:
    """The arguments in the one spelling that tyro takes; an unknown flag is a SettingError."""
    words: list[str] = []
    current: str | None = None  # the setting that the values read now belong to
    for word in arguments:
        if word in HELP_FLAGS:
            words.append(word)
        elif word.startswith("--"):
            flag, equals, value = word.partition("=")
            current = _setting(flag, hints, prog)
            words.append("--" + flag[2:].replace("_", "-"))
            if equals:
                _append_value(words, value, hints.get(current))
        elif current is None:
            raise SettingError(f"{prog}: {word!r} stands where a flag should; see `{prog} --help`")
        else:
            _append_value(words, word, hints.get(current))
    return words


def _append_value(words: list[str], value: str, hint: Any) -> None:
    if hint is bool and words and words[-1].startswith("--") and value.lower() in (*TRUE_WORDS, *FALSE_WORDS):
        flag = words.pop()
        name = flag.removeprefix("--").removeprefix("no-")
        wanted = (value.lower() in TRUE_WORDS) != flag.startswith("--no-")
        words.append(f"--{name}" if wanted else f"--no-{name}")
    elif hint is int or (int in typing.get_args(hint) and float not in typing.get_args(hint)):
        words.append(
            "None" if value in NONE_WORDS and type(None) in typing.get_args(hint) else whole_word(value)
        )
    elif value in NONE_WORDS and type(None) in typing.get_args(hint):
        words.append("None")
    else:
        words.append(value)


def _setting(flag: str, hints: Mapping[str, Any], prog: str) -> str:
    """The setting that a flag names, `--no-...` included."""
    name = flag[2:].replace("-", "_")
    if name in hints:
        return name
    positive = name.removeprefix("no_")
    if positive != name and hints.get(positive) is bool:
        return positive
    flags = ["--" + known.replace("_", "-") for known in hints]
    raise SettingError(f"{prog}: there is no flag {flag}{nearest(flag, flags)}; see `{prog} --help`")


def _values_of(words: Sequence[str]) -> dict[str, list[str]]:
    """The values after each flag, by setting."""
    given: dict[str, list[str]] = {}
    current: list[str] = []
    for word in words:
        if word.startswith("--"):
            current = given.setdefault(word[2:].replace("-", "_"), [])
        else:
            current.append(word)
    return given


# ---------------------------------------------------------------------------------------------- tyro


def _parse(
    config_class: Any, values: Mapping[str, Any], words: Sequence[str], hints: Mapping[str, Any], prog: str
) -> Any:
    """The flags over `values`, by tyro: an object with `settings` and the folder flags."""
    import tyro

    # env_id may only be missing for --help: the caller has seen to it
    default = config_class(**({"env_id": tyro.MISSING} | dict(values)))
    help_wanted = any(word in HELP_FLAGS for word in words)
    if help_wanted:
        default = _described(default)
    settings: Any = Annotated[type(default), tyro.conf.OmitArgPrefixes]
    folders = [
        (name, Annotated[Path | None, tyro.conf.arg(help=text)], dataclasses.field(default=None))
        for name, text in FOLDER_FLAGS.items()
    ]
    trust = ("trust", Annotated[bool, tyro.conf.arg(help=TRUST_HELP)], dataclasses.field(default=False))
    flags_class: Any = dataclasses.make_dataclass("Flags", [("settings", settings), *folders, trust])
    start = flags_class(settings=default)
    if help_wanted:
        return tyro.cli(flags_class, default=start, prog=prog, args=["--help"], registry=pairs_registry())
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                flags_class, default=start, prog=prog, args=list(words), registry=pairs_registry()
            )
    except SystemExit:
        raise SettingError(_explain(complaint.getvalue(), words, hints, prog)) from None


def _described(config: RunConfig) -> Any:
    """The same settings in a class that tells tyro what each means, in lines that it can break anew."""
    import tyro

    texts, hints = setting_texts(type(config)), field_types(type(config))
    fields: list[Any] = [
        (name, Annotated[hints[name], tyro.conf.arg(help=texts.get(name, ""))]) for name in config.to_dict()
    ]
    described: Any = dataclasses.make_dataclass("Settings", fields)
    described.__doc__ = type(config).__doc__
    return described(**config.to_dict())


def _explain(complaint: str, words: Sequence[str], hints: Mapping[str, Any], prog: str) -> str:
    """tyro's complaint, a box of several lines, as a sentence about the setting."""
    found = re.search(r"(?:parsing|argument) '?--([\w-]+)", complaint)
    name = found[1].replace("-", "_") if found else ""
    if name in hints:
        values = _values_of(words).get(name, [])
        return f"{name} must be {describe(hints[name])}, got {' '.join(values) or 'nothing'!r}"
    leftover = re.search(r"Unrecognized options: (.*?)\s*│", complaint)
    if leftover:
        return f"{prog}: {leftover[1]!r} is one value too many; see `{prog} --help`"
    return f"{prog}: {' '.join(re.sub('[─│╭╮╰╯]', ' ', complaint).split())}"
