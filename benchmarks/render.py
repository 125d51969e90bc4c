"""Write the tables of results/*.json into README.md, each between the markers of its benchmark.

`--check` writes nothing and fails when a table is not the one in its JSON.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT

README = ROOT / "benchmarks" / "README.md"
_SECTION = re.compile(r"(<!-- results of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    found = README.read_text(encoding="utf-8")
    wanted = rendered(found, RESULTS)
    if parser.parse_args().check:
        if found != wanted:
            raise SystemExit(f"{README} has other tables than its results; run: python -m benchmarks.render")
    else:
        README.write_text(wanted, encoding="utf-8")


def rendered(text: str, results: Path) -> str:
    """The text with everything between markers replaced by what the results say."""

    def section(match: re.Match[str]) -> str:
        path = results / f"{match[2]}.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return f"{match[1]}{as_markdown(content) if content else NOTHING}{match[3]}"

    return _SECTION.sub(section, text)


NOTHING = "Not measured yet.\n"


def as_markdown(result: dict[str, Any]) -> str:
    """Where and when a result was measured, and its tables."""
    machine, parameters = result["machine"], result["parameters"]
    facts = [
        f"{machine['cpu']} ({' '.join(machine['flags'])})",
        f"{machine['cores']} cores",
        f"{machine['memory_gb']:.0f} GB",
        f"{machine['busy_percent']:.0f}% busy before",
        f"commit {result['commit']}",
        f"bundle {result['bundle_id'][:12]}",
        result["date"],
        *(f"{name.replace('_', ' ')} {value}" for name, value in parameters.items()),
    ]
    tables = "".join(_table(table) for table in result["tables"])
    return f"[{result['benchmark']}.json](results/{result['benchmark']}.json): {', '.join(facts)}\n{tables}\n"


def _table(table: dict[str, Any]) -> str:
    first = [*table["columns"]]
    lines = [first, ["---"] + ["---:"] * (len(first) - 1), *table["rows"]]
    return f"\n{table['title']}:\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
