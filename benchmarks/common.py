"""What the benchmarks share: options, data, timing, and how results are shown and kept."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.machine import commit, machine, versions
from towers import Bundle, open_bundle
from towers.errors import DualtowerError
from towers.tables import read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DUALTOWER = [sys.executable, "-m", "dualtower"]
ICECAT = "catalogue/en/icecat.jsonl.gz"
CROWDFLOWER = "match/en/crowdflower.jsonl.gz"
QUIET = 10.0  # percent of the processor that may be in use before a benchmark starts

Floats = NDArray[np.float64]
T = TypeVar("T")


# Options and data.


def option_parser(question: str | None, *, repetitions: int | None = None) -> argparse.ArgumentParser:
    """The options that every benchmark has; `repetitions` is the default where there are any."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=question, formatter_class=style)
    parser.add_argument("--data", type=Path, help="folder of the data sets; default: $DUALTOWER_DATA")
    parser.add_argument("--bundle", type=Path, help="bundle directory; default: the one that is shipped")
    parser.add_argument("--quick", action="store_true", help="try the script: few rows, one round, no file")
    parser.add_argument("--results", type=Path, help="where the JSON goes; default: benchmarks/results")
    if repetitions is not None:
        parser.add_argument("--repetitions", type=int, default=repetitions, help="rounds that are counted")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; `--quick` means one round."""
    options = parser.parse_args()
    if options.quick and "repetitions" in options:
        options.repetitions = 1
    if options.results is None and not options.quick:
        options.results = RESULTS
    return options


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; errors that are meant for people end it without a traceback."""
    try:
        main()
    except DualtowerError as exc:
        raise SystemExit(str(exc)) from exc


def opened(options: argparse.Namespace, *, threads: int | None = None) -> Bundle:
    """The bundle that is measured."""
    return open_bundle(options.bundle, threads=threads)


def data_folder(options: argparse.Namespace) -> Path:
    """The folder of the data sets."""
    folder = options.data or os.environ.get("DUALTOWER_DATA")
    if not folder:
        raise SystemExit("Say where the data sets are: --data DIR, or DUALTOWER_DATA in the environment.")
    return Path(folder)


def data_file(options: argparse.Namespace, name: str) -> Path:
    """A file of the data sets."""
    path = data_folder(options) / name
    if not path.is_file():
        raise SystemExit(f"{data_folder(options)} has no {name}; give the right folder with --data.")
    return path


def icecat(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a catalogue of 19,406 products: id, title, supplier, description."""
    return [row for _, row in read_rows(data_file(options, ICECAT))]


def crowdflower_queries(options: argparse.Namespace) -> list[str]:
    """The distinct queries that people typed into a shop, in the order of the file."""
    rows = read_rows(data_file(options, CROWDFLOWER))
    return list(dict.fromkeys(str(row["query"]) for _, row in rows))


def sample(rows: Sequence[T], size: int) -> list[T]:
    """`size` rows drawn without repeats, the same ones every time; all of them when there are fewer."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:size]
    return [rows[i] for i in chosen]


def environment() -> dict[str, str]:
    """The environment of processes that are measured: no settings of dualtower but those on their command line."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DUALTOWER_")}


def bundle_option(options: argparse.Namespace) -> list[str]:
    """The option that makes a dualtower command use the same bundle."""
    return ["--bundle", str(options.bundle.resolve())] if options.bundle else []


# Timing.


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_each(work: Callable[[T], object], items: Iterable[T]) -> Floats:
    """How long each of n calls takes, (n,)."""
    return np.array([seconds(partial(work, item)) for item in items])


def rounds(contenders: Mapping[str, Callable[[], T]], repetitions: int) -> dict[str, list[T]]:
    """Let contenders measure themselves in turn, A B C A B C …, after a round that does not count.

    Taking turns spreads whatever else the machine does evenly over all of them.
    """
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(repetitions + 1):
        _say(f"round {number} of {repetitions}" if number else "warming up")
        for name, measure in contenders.items():
            result = measure()
            if number:
                found[name].append(result)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# What people read.


def median(values: ArrayLike) -> float:
    """The middle value of all numbers in any shape."""
    return float(np.median(np.asarray(values)))


def percentile(values: ArrayLike, share: float) -> float:
    """The value below which `share` percent lie."""
    return float(np.percentile(np.asarray(values), share))


def spread(values: ArrayLike, digits: int = 0) -> str:
    """The lowest and the highest value, for a cell of a table."""
    values = np.asarray(values)
    return f"{values.min():,.{digits}f}–{values.max():,.{digits}f}"


def times(slower: Sequence[float], faster: Sequence[float]) -> tuple[float, str]:
    """How many times as fast: the ratio of the medians, and the spread of the ratios of each round."""
    ratios = np.asarray(slower) / np.asarray(faster)
    return median(slower) / median(faster), spread(ratios, digits_for(ratios.max()))


def digits_for(value: float) -> int:
    """Digits after the point that leave about three in all."""
    return 2 if value < 10 else 1 if value < 100 else 0


class Report:
    """Prints tables as they are done and, last, one line of JSON, which is also the file in results/."""

    def __init__(
        self, name: str, question: str | None, options: argparse.Namespace, bundle: Bundle, **parameters: Any
    ) -> None:
        self._name, self._options = name, options
        rounds_asked = {"repetitions": options.repetitions} if "repetitions" in options else {}
        self._facts: dict[str, Any] = {
            "benchmark": name,
            "question": (question or "").strip().partition("\n\n")[0].replace("\n", " "),
            "quick": options.quick,
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit(ROOT),
            "machine": machine(),
            "versions": versions(),
            "bundle_id": bundle.bundle_id,
            "parameters": rounds_asked | parameters,
        }
        self._tables: list[dict[str, Any]] = []
        if (busy := self._facts["machine"]["busy_percent"]) > QUIET:
            _say(f"Other programs use {busy:.0f}% of the processor: times will say little.")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table and keep it."""
        self._tables.append({"title": title, "columns": list(columns), "rows": [list(row) for row in rows]})
        widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
        print(f"\n{title}")
        for row in (columns, ["-" * width for width in widths], *rows):
            first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join([first, *(cell.strip().rjust(len(cell)) for cell in others)]))

    def finish(self, measured: Mapping[str, Any]) -> None:
        """Print the line of JSON and write it, unless this was a trial."""
        content = json_value(self._facts | {"measured": measured, "tables": self._tables})
        if self._options.results is not None:
            self._options.results.mkdir(parents=True, exist_ok=True)
            path = self._options.results / f"{self._name}.json"
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            path.with_suffix(".tmp").write_text(text, encoding="utf-8")
            path.with_suffix(".tmp").replace(path)
        print("\n" + json.dumps(content, ensure_ascii=False))


def json_value(value: Any) -> Any:
    """Turn numpy's numbers into Python's, of six digits at most, and nan into null."""
    if isinstance(value, Mapping):
        return {str(name): json_value(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [json_value(entry) for entry in value]
    if isinstance(value, np.generic):
        return json_value(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
