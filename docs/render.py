"""Writes the generated parts of README.md and ARCHITECTURE.md: the settings, the code map, the measured figures.

    python docs/render.py            # tests/test_docs.py checks that this changes nothing

Each part stands between <!-- name --> and <!-- /name -->.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("towers", "towers/train", "index", "service")


def settings() -> str:
    """The service's settings as a table."""
    sys.path.insert(0, str(ROOT))
    from service.settings import settings_table

    rows = [f"| `{variable}` | {default} | {meaning} |" for _, variable, default, meaning in settings_table()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def code_map() -> str:
    """Each module with the first line of its docstring."""
    lines = ["| file | what |", "|---|---|"]
    for path in [ROOT / "dualtower.py", *(path for name in PACKAGES for path in sorted((ROOT / name).glob("*.py")))]:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.name != "__init__.py" or text:
            lines.append(f"| `{path.relative_to(ROOT)}` | {text.splitlines()[0]} |")
    return "\n".join(lines)


def measured() -> str:
    """The first screen's figures, from the committed results of the benchmarks."""
    rows = [line for name, show in FIGURES for line in show(result(name))]
    return "\n".join(["| | dualtower | beside it | |", "|---|---|---|---|", *rows])


def result(name: str) -> dict[str, Any]:
    """A benchmark's committed result."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


FIGURES: tuple[tuple[str, Callable[[dict[str, Any]], list[str]]], ...] = ()
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"settings": settings, "measured": measured},
    "ARCHITECTURE.md": {"code map": code_map},
}


def rendered(name: str) -> str:
    """A document with its generated parts as they should be."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for part, make in PARTS[name].items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{name} has no <!-- {part} --> … <!-- /{part} -->")
        text = pattern.sub(lambda match, made=make(): f"{match[1]}{made}\n{match[2]}", text)
    return text


if __name__ == "__main__":
    for document in PARTS:
        (ROOT / document).write_text(rendered(document), encoding="utf-8")
