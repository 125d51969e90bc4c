"""What a comparison found: typed, checked, and kept in report.json."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from towers.errors import InputError
from towers.train.compare.plain import decoded
from towers.train.compare.rows import MATCH, SENTIMENT, TASKS, TECHNIQUES, Measure, Row, Spread

__all__ = [
    "FORMAT",
    "MATCH",
    "SENTIMENT",
    "TASKS",
    "TECHNIQUES",
    "Curves",
    "DataFacts",
    "ExitCounts",
    "LearningPoint",
    "MaskedLoss",
    "Measure",
    "Results",
    "Row",
    "Spread",
    "write_whole",
]

FORMAT = 2


@dataclass(frozen=True)
class DataFacts:
    """The data of one task: its name, rows in all, rows trained on and held out, SHA-256 of what was read."""

    name: str
    rows: int
    train: int
    dev: int
    sha256: str


@dataclass(frozen=True)
class LearningPoint:
    """Quality (one value a seed) after training on a share, 0 to 1, of a task's data: so many rows."""

    task: str
    share: float
    rows: int
    values: list[float]

    def __post_init__(self) -> None:
        """Refuse a point that cannot be drawn."""
        if self.task not in TASKS or not 0 < self.share <= 1 or self.rows < 1 or not self.values:
            raise InputError(
                f"found {self}, expected a task ({' or '.join(TASKS)}), a share above 0, rows, and a value a seed"
            )


@dataclass(frozen=True)
class ExitCounts:
    """How many texts left after which layer, for one row with early exits."""

    row: str
    layers: list[int]
    counts: list[int]

    def __post_init__(self) -> None:
        """Every layer has its count."""
        _same_length(f"exits of {self.row!r}", self.layers, self.counts)


@dataclass(frozen=True)
class MaskedLoss:
    """Masked-LM loss per class of masked tokens (all, rare, entity ...) at some steps; None where none was masked."""

    row: str
    steps: list[int]
    loss: dict[str, list[float | None]]

    def __post_init__(self) -> None:
        """Every step has its loss."""
        for name, values in self.loss.items():
            _same_length(f"loss of {name!r} of {self.row!r}", self.steps, values)


@dataclass(frozen=True)
class Curves:
    """What is drawn beside the rows."""

    learning: list[LearningPoint] = field(default_factory=list)
    exits: list[ExitCounts] = field(default_factory=list)
    masked_loss: list[MaskedLoss] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """A whole comparison.

    Attributes:
        machine: Facts about the machine, name -> value; versions: package -> version.
        command: The exact command line.
        budget_s: Seconds that training and measuring were given.
        data: Task -> its data; None, or absent, where the task was not compared.
        rows: In the order in which they are told.
        curves: What is drawn beside them.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    command: str
    budget_s: float
    data: dict[str, DataFacts | None]
    rows: list[Row]
    curves: Curves = field(default_factory=Curves)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse two rows of one name, and a row held against one that is not there."""
        seen: set[tuple[str, str]] = set()
        for row in self.rows:
            if (row.task, row.name) in seen:
                raise InputError(f"two rows of {row.task} are named {row.name!r}; names must differ")
            seen.add((row.task, row.name))
        for row in self.rows:
            if row.against and (row.task, row.against) not in seen:
                raise InputError(
                    f"row {row.name!r} is held against {row.against!r}, which is no row of {row.task}"
                )

    def row(self, name: str) -> Row:
        """Return the row of a name, the first one where both tasks have one.

        Raises:
            InputError: No row has it; names those that exist.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(
            f"found no row named {name!r}, expected one of {', '.join(r.name for r in self.rows)}"
        )

    def reference_of(self, row: Row) -> Row | None:
        """Return the row that another is compared with; None for one that stands for itself."""
        if row.against in ("", row.name):
            return None
        return next(one for one in self.rows if one.task == row.task and one.name == row.against)

    def to_json(self) -> str:
        """Return everything as readable JSON.

        Raises:
            InputError: A value is not what its field declares, or JSON cannot hold it (nan and infinity).
        """
        sound = decoded(Results, asdict(self), "results")
        try:
            return json.dumps(asdict(sound), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        except (TypeError, ValueError) as exc:
            raise InputError(f"results hold a value that JSON has no form for: {exc}") from exc

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read results back.

        Raises:
            InputError: No JSON object, another format, or a value that its field does not allow.
        """
        try:
            content = json.loads(text)
        except ValueError as exc:
            raise InputError(f"results are no JSON: {exc}. Run the comparison again.") from exc
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise InputError(
                f"results have format {found!r}, this version reads {FORMAT}. Run the comparison again, or read them "
                "with the version that wrote them."
            )
        return decoded(cls, content, "results")  # type: ignore[no-any-return]

    def write(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        write_whole(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read the JSON file.

        Raises:
            InputError: It cannot be read, or as in `from_json`.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError(f"cannot read results from {path}: {exc}") from exc
        except InputError as exc:
            raise InputError(f"{path}: {exc}") from exc


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _same_length(what: str, steps: list[int], values: list[Any]) -> None:
    if len(steps) != len(values):
        raise InputError(f"{what}: found {len(values)} values for {len(steps)} places, expected one for each")
