"""What the documents say is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.render import PARTS, rendered
from dualtower import COMMANDS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted(PARTS))
def test_generated_parts_are_up_to_date(name: str) -> None:
    """Settings, code map and figures are those of the code and the results; `python docs/render.py` writes them."""
    assert (ROOT / name).read_text(encoding="utf-8") == rendered(name)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
    ],
)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a document is a file or folder of the project."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert ((ROOT / name).parent / target).exists(), target


def commands_of_readme() -> list[list[str]]:
    """Every dualtower command of the README and of the documents for users and operators, as words."""
    names = ("README.md", "docs/recipes.md", "docs/operations.md", "docs/runbook.md")
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    lines = re.findall(r"^    dualtower (.*?)(?:  +#.*)?$", text, flags=re.MULTILINE)
    return [line.split() for line in lines]


def test_commands_of_the_readme_exist() -> None:
    """A command or an option that the README shows is one that the command line has."""
    shown = commands_of_readme()
    assert len(shown) > 10
    helps: dict[str, str] = {}
    for words in shown:
        name = words[0]
        assert name in COMMANDS, name
        grouped = name in ("evaluate", "data", "releases") and "|" not in words[1]
        key = " ".join(words[:2]) if grouped else name
        if key not in helps:
            run = [sys.executable, "-m", "dualtower", *key.split(), "--help"]
            environment = {"COLUMNS": "200", "PATH": "/usr/bin:/bin"}
            told = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
            helps[key] = told.stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in helps[key], (words, option)


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
