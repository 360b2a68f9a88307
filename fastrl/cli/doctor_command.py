"""`fastrl doctor`: what is installed, built and loaded, and what to do about each problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from fastrl.cli.arguments import Parser, only_result_on_stdout, print_json
from fastrl.cli.doctor_checks import PROBLEM, DoctorFinding, examine

MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def run(arguments: Sequence[str]) -> int:
    """Print the findings; returns 1 if something that is needed does not work."""
    parser = Parser(
        "doctor",
        "Say what is installed, built and loaded, and what to do about problems. Exit code 1 if something "
        "is broken.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    with only_result_on_stdout(options.json):
        findings = examine()
    broken = [finding for finding in findings if finding.status == PROBLEM]
    if options.json:
        print_json({"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        print("\n".join(_lines(findings)))
        print(
            f"\n{len(broken)} problem{'s' if len(broken) != 1 else ''} found."
            if broken
            else "\nEverything that is needed works."
        )
    return 1 if broken else 0


def _lines(findings: list[DoctorFinding]) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.status]}  {finding.name:<{width}}  {finding.detail}")
        if finding.advice:
            lines.append(f"{'':<9}{'':<{width}}  -> {finding.advice}")
    return lines
