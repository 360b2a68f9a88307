"""Writes the tables of settings and metrics in docs/ from the code: `python docs/tables.py`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; tests/test_tables.py compares.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastrl.runs.config import RunConfig
from fastrl.runs.metric_names import EVERY_ALGORITHM, METRICS
from fastrl.runs.renamed import RENAMED
from fastrl.runs.setting_texts import setting_texts
from fastrl.trainers.registry import ALGORITHMS

DOCS = Path(__file__).parent
BLOCK = re.compile(r"(<!-- table: (\w[\w -]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
ABSENT = "–"
COMMON = [setting.name for setting in dataclasses.fields(RunConfig)]
METRIC_GROUPS = {
    "rollout": "Episodes",
    "eval": "Evaluation",
    "loss": "Losses",
    "train": "Training",
    "grad": "Gradients",
    "time": "Time",
}


def main() -> None:
    """Write every table of every page anew."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(written_anew(page), encoding="utf-8")


def written_anew(page: Path) -> str:
    """The text of a page with its tables as the code has them."""
    return BLOCK.sub(
        lambda block: f"{block[1]}\n{table_of(block[2])}\n\n{block[4]}", page.read_text(encoding="utf-8")
    )


def table_of(name: str) -> str:
    """A table by its name; those of one algorithm are called `documented ALGORITHM`."""
    kind, _, algorithm = name.partition(" ")
    if kind == "documented":
        return documented_table(algorithm)
    makers = {
        "common": common_table,
        "shared": shared_table,
        "single": single_table,
        "renamed": renamed_table,
        "fixed": fixed_table,
        "metrics": metrics_tables,
    }
    return makers[name]()


# ------------------------------------------------------------------------------------------- settings


def common_table() -> str:
    """The settings that every algorithm has, with the algorithms whose default is another."""
    rows = []
    for name in COMMON:
        usual = shown(default(RunConfig, name))
        others = {key: shown(default(config, name)) for key, config in configs().items()}
        exceptions = [f"{key}: {value}" for key, value in others.items() if value != usual]
        rows.append([f"`{name}`", meaning(name), "; ".join([usual, *exceptions])])
    return table(("setting", "meaning", "default"), rows)


def shared_table() -> str:
    """The settings that several algorithms have, a column for each algorithm."""
    rows = [
        [f"`{name}`", meaning(name), *(shown_default(config, name) for config in configs().values())]
        for name, owners in owners_by_setting().items()
        if len(owners) > 1 and name not in COMMON
    ]
    return table(("setting", "meaning", *configs()), rows)


def single_table() -> str:
    """The settings that one algorithm has."""
    rows = [
        [owners[0], f"`{name}`", meaning(name), shown_default(configs()[owners[0]], name)]
        for name, owners in owners_by_setting().items()
        if len(owners) == 1
    ]
    order = list(configs())
    rows.sort(key=lambda row: order.index(row[0]))
    return table(("algorithm", "setting", "meaning", "default"), rows)


def documented_table(algorithm: str) -> str:
    """Where the defaults of a trainer's documented constructor differ from those of the command line."""
    entry = ALGORITHMS[algorithm]
    config, trainer = entry.config_class(), entry.trainer_class().__name__
    rows = [
        [f"`{name}`", shown_default(config, name), shown(value)]
        for name, value in config.DOCUMENTED.items()
        if value != default(config, name)
    ]
    head = ("setting", f"`fastrl train {algorithm}`, `{config.__name__}(…)`", f"`{trainer}(…)`")
    return table((*head[:2], f"{head[2]}, `{config.__name__}.documented(…)`"), rows)


def fixed_table() -> str:
    """The settings that stay as they are when a run is continued."""
    common = RunConfig.fixed_on_resume()
    rows = [["every algorithm", ", ".join(f"`{name}`" for name in common)]]
    for key, config in configs().items():
        own = [name for name in config.fixed_on_resume() if name not in common]
        rows.append([f"`{key}`", ", ".join(f"`{name}`" for name in own)])
    return table(("", "fixed"), rows)


def renamed_table() -> str:
    """Earlier names of settings."""
    rows = [[f"`{old}`", f"`{renamed.name}`"] for old, renamed in RENAMED.items()]
    return table(("earlier", "now"), rows)


@functools.cache
def configs() -> dict[str, Any]:
    """The configuration class of each algorithm."""
    return {name: algorithm.config_class() for name, algorithm in ALGORITHMS.items()}


@functools.cache
def owners_by_setting() -> dict[str, list[str]]:
    """The algorithms that have a setting, by setting, in the order of the fields."""
    owners: dict[str, list[str]] = {}
    for key, config in configs().items():
        for setting in dataclasses.fields(config):
            owners.setdefault(setting.name, []).append(key)
    return owners


def meaning(name: str) -> str:
    """What a setting means; where algorithms add different things to the same words, what each adds."""
    texts = {key: setting_texts(configs()[key])[name] for key in owners_by_setting()[name]}
    if name in COMMON or len(set(texts.values())) == 1:
        return setting_texts(RunConfig)[name] if name in COMMON else next(iter(texts.values()))
    keys_by_addition: dict[str, list[str]] = {}
    for key, text in texts.items():
        keys_by_addition.setdefault(text[len(head(text)) :].strip(" ,:;."), []).append(key)
    additions = [f"{', '.join(keys)}: {text}" for text, keys in keys_by_addition.items() if text]
    return f"{head(next(iter(texts.values())))} ({'; '.join(additions)})."


def head(text: str) -> str:
    """The beginning of a setting's docstring that says what it is, before ranges, choices and conditions."""
    condition = "With dae: " if text.startswith("With dae: ") else ""
    return condition + re.split(r"[,:;(]|\.$", text.removeprefix(condition))[0].rstrip()


def default(config_class: Any, name: str) -> Any:
    """The default of a setting; dataclasses.MISSING if it must be given."""
    [setting] = [setting for setting in dataclasses.fields(config_class) if setting.name == name]
    made: Any = setting.default_factory
    return setting.default if made is dataclasses.MISSING else made()


def shown_default(config_class: Any, name: str) -> str:
    """A default as a cell."""
    names = {setting.name for setting in dataclasses.fields(config_class)}
    return shown(default(config_class, name)) if name in names else ABSENT


def shown(value: Any) -> str:
    """A value as flags spell it."""
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# -------------------------------------------------------------------------------------------- metrics


def metrics_tables() -> str:
    """The vocabulary of metrics, by what comes before the slash; names that every algorithm gives in bold."""
    groups: dict[str, list[list[str]]] = {}
    for name, text in METRICS.items():
        title = METRIC_GROUPS.get(name.partition("/")[0], "Of some algorithms")
        cell = f"**`{name}`**" if name in EVERY_ALGORITHM else f"`{name}`"
        groups.setdefault(title, []).append([cell, text])
    titles = sorted(groups, key=[*METRIC_GROUPS.values(), "Of some algorithms"].index)
    return "\n\n".join(f"### {title}\n\n{table(('metric', 'meaning'), groups[title])}" for title in titles)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
