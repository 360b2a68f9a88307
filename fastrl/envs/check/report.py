"""What a check found: findings, each a plain sentence, and the report that holds them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fastrl.envs.base import EnvironmentFailure
from fastrl.errors import SettingError

SECONDS = (
    40.0  # random steps are made for at most so long; what is looked at besides has a quarter of it each
)
Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        level: "error", training cannot work as it is; "warning", it works, and probably not as it is meant;
            "note", worth knowing.
        what: what it is about: "observations", "actions", "rewards", "reset", "step", "limit", "autoreset",
            "infos", "seeds", "rendering" or "environment".
        sentence: what was found, and what to do.
    """

    level: Level
    what: str
    sentence: str


class Time:
    """Is it time to stop?

    Args:
        share: of `SECONDS`.
    """

    def __init__(self, share: float = 1.0) -> None:
        self.seconds = share * SECONDS
        self._started = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether so many seconds have passed."""
        return time.monotonic() - self._started > self.seconds


class Report:
    """Findings about one environment. Prints as text, the worst first.

    Args:
        name: the environment's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.steps = self.episodes = 0  # made with random actions; episodes that ended

    @property
    def ok(self) -> bool:
        """Whether nothing wrong was found: no errors and no warnings."""
        return all(finding.level == "note" for finding in self.findings)

    @property
    def broken(self) -> bool:
        """Whether there is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def of(self, level: Level) -> list[Finding]:
        """The findings of a level."""
        return [finding for finding in self.findings if finding.level == level]

    def add(self, level: Level, what: str, sentence: str) -> None:
        """Put a finding down, once however often it is found."""
        finding = Finding(level, what, " ".join(sentence.split()))
        if finding not in self.findings:
            self.findings.append(finding)

    def error(self, what: str, sentence: str) -> None:
        """See `Finding`."""
        self.add("error", what, sentence)

    def warn(self, what: str, sentence: str) -> None:
        """See `Finding`."""
        self.add("warning", what, sentence)

    def note(self, what: str, sentence: str) -> None:
        """See `Finding`."""
        self.add("note", what, sentence)

    @contextmanager
    def guard(self, what: str, doing: str) -> Iterator[None]:
        """Whatever is raised inside, but for Ctrl-C, is a finding: "`doing` raised ..."."""
        try:
            yield
        except (EnvironmentFailure, SettingError) as error:
            self.error(what, str(error))
        except (Exception, SystemExit) as error:
            self.error(what, f"{doing} raised {said(error)}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        findings = [asdict(finding) for finding in self.findings]
        return {
            "name": self.name,
            "ok": self.ok,
            "steps": self.steps,
            "episodes": self.episodes,
            "findings": findings,
        }

    def __str__(self) -> str:
        found = [(level, self.of(level)) for level in LEVELS]
        counts = [f"{len(those)} {level}{'s' if len(those) != 1 else ''}" for level, those in found if those]
        verdict = "nothing wrong found" if self.ok else "look at this"
        head = (
            f"{self.name}: {verdict} in {self.steps} random steps, {self.episodes} episodes ended "
            f"({', '.join(counts) or 'no findings'})"
        )
        width = max((len(finding.what) for finding in self.findings), default=0)
        lines = [
            f"{each.level:<8} {each.what:<{width}}  {each.sentence}" for _, those in found for each in those
        ]
        return "\n".join([head, *lines])

    def __repr__(self) -> str:
        return f"Report({self.name!r}, ok={self.ok}, findings={len(self.findings)})"


def said(error: BaseException) -> str:
    """An error as part of a sentence."""
    kind, text = type(error).__name__, " ".join(str(error).split())
    if text:
        return f"{kind}: {text}"
    frames = traceback.extract_tb(error.__traceback__)  # where it was raised says more than nothing
    return f"{kind} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else kind
