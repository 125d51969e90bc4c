"""examples/walk.sh takes minutes and trains, so it is not run here; its commands are held against the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import dualtower

SCRIPT = Path(__file__).parents[1] / "examples" / "walk.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if line.startswith("run ")]


@pytest.mark.parametrize("line", LINES)
def test_the_walk_uses_commands_and_options_that_exist(line: str) -> None:
    """Each command can be parsed: its name, its options and the number of its arguments."""
    for name, options in re.findall(r"^(\w+)=\((.*)\)$", TEXT, flags=re.MULTILINE):
        line = line.replace(f'"${{{name}[@]}}"', options)
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(dualtower.app)
    while isinstance(command, TyperGroup):
        _, command, words = command.resolve_command(command.context_class(command), words)
    command.make_context("walk", words)  # raises a usage error for what it does not know


def test_the_walk_goes_all_the_way() -> None:
    """From training to answers and back to an earlier release."""
    used = {" ".join(shlex.split(line)[1:3]) for line in LINES}
    for step in ("fit", "fit-sentiment", "index", "search", "match", "sentiment", "releases rollback"):
        assert any(command.startswith(step) for command in used), step
