"""Every Python example of the README and of docs/ runs as it stands, and every link between the pages leads
somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(page, text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
]


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_example_runs(page, text, tmp_path, monkeypatch):
    pytest.importorskip("envpool", reason="the examples step EnvPool environments")
    monkeypatch.chdir(tmp_path)  # run folders go there
    exec(compile(text, f"{page.name} example", "exec"), {})


def test_there_are_examples():
    assert {example.values[0].stem for example in EXAMPLES} >= {
        "README",
        "ops",
        "environments",
        "checkpoints",
        "vmpo",
        "mpo",
        "ppo_trxl",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_that_exist(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
