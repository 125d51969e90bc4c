"""Tables of labelled rows: read with every column, written in the format that the name says, whole or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towers.errors import InputError
from towers.lines import listed, row_name
from towers.tables import read_rows

PAIRS, TEXTS = "pairs", "texts"


@dataclass(frozen=True)
class Columns:
    """The names of the columns that matter."""

    query: str = "query"
    title: str = "title"
    text: str = "text"
    label: str = "label"


@dataclass(frozen=True)
class RowFile:
    """A table in memory.

    Attributes:
        path: Where it was read.
        kind: "pairs" or "texts", found from the columns.
        names: All columns, in order.
        rows: n rows with all their cells.
        numbers: n line numbers, as an editor shows them.
        columns: What the columns that matter are called.
    """

    path: Path
    kind: str
    names: list[str]
    rows: list[dict[str, Any]]
    numbers: list[int]
    columns: Columns

    def texts(self, column: str) -> list[str]:
        """Return a column of texts.

        Raises:
            InputError: Names the first row whose cell is no text.
        """
        return [self._text(i, column) for i in range(len(self.rows))]

    @property
    def labels(self) -> list[Any]:
        """The labels as they stand in the table: of pairs numbers, of texts anything.

        Raises:
            InputError: Names the first row without a label, or whose label is no number where it must be one.
        """
        return [self._label(i) for i in range(len(self.rows))]

    def _text(self, i: int, column: str) -> str:
        value = self.rows[i].get(column)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)  # a title like 1984 is a number in JSON
        if not isinstance(value, str):
            raise self._refused(i, column, "text")
        return value

    def _label(self, i: int) -> Any:
        value = self.rows[i].get(self.columns.label)
        if self.kind == TEXTS and isinstance(value, str | int | float) and str(value).strip():
            return value
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise self._refused(
                i, self.columns.label, "a label" if self.kind == TEXTS else "a number"
            ) from None

    def _refused(self, i: int, column: str, expected: str) -> InputError:
        return InputError(
            f"{row_name(self.path, self.numbers[i])}: found {self.rows[i].get(column)!r} as {column}, expected "
            f"{expected}. Correct or remove the row, or name another column (see --help)."
        )


def read_row_file(path: Path, columns: Columns | None = None) -> RowFile:
    """Read a table of pairs (query, title, label) or of texts (text, label).

    Raises:
        InputError: The columns are those of neither, or a row is broken.
    """
    columns = columns or Columns()
    numbers, rows, names = [], [], {}
    for number, row in read_rows(path):
        numbers.append(number)
        rows.append(row)
        names.update(dict.fromkeys(row))
    wanted = {PAIRS: [columns.query, columns.title, columns.label], TEXTS: [columns.text, columns.label]}
    kinds = [kind for kind, needed in wanted.items() if set(needed) <= set(names)]
    if not kinds:
        raise InputError(
            f"{path}: found the columns {listed(names)}, expected those of pairs ({listed(wanted[PAIRS])}) or of texts "
            f"({listed(wanted[TEXTS])}). Rename them in the file, or name them with --query-column, --title-column, "
            "--text-column and --label-column."
        )
    return RowFile(path, kinds[0], list(names), rows, numbers, columns)


def check_writable(path: Path) -> None:
    """Refuse a name that `write_row_file` cannot write, before work is spent.

    Raises:
        InputError: The name says no format that is written, or the folder does not exist.
    """
    if _format(path) not in _WRITERS:
        raise InputError(
            f"{path}: found {''.join(path.suffixes[-2:]) or 'no extension'}, expected one of {', '.join(_WRITERS)}, "
            "each but .parquet also with .gz."
        )
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist. Make it, or choose another.")


def write_row_file(path: Path, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Write rows under a temporary name, and rename the file when it is complete.

    Args:
        path: Its name says the format.
        rows: May lack cells, which are then empty, or absent in JSON.
        names: The columns, in order.

    Raises:
        InputError: A cell cannot be written in this format, as a tab in a .tsv.
    """
    check_writable(path)
    content = _WRITERS[_format(path)](path, rows, list(names))
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, mtime=0)  # the same rows give the same bytes
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        return "".join(suffixes[-2:-1]).replace(".parquet", ".parquet.gz")
    return "".join(suffixes[-1:])


def _csv(path: Path, rows: Sequence[dict[str, Any]], names: list[str]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return out.getvalue().encode()


def _tsv(path: Path, rows: Sequence[dict[str, Any]], names: list[str]) -> bytes:
    lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    return "".join("\t".join(_tsv_cell(path, cell) for cell in line) + "\n" for line in lines).encode()


def _tsv_cell(path: Path, cell: str) -> str:
    if any(mark in cell for mark in "\t\r\n"):
        raise InputError(
            f"{path}: {cell[:80]!r} holds a tab or a line break, which a .tsv cannot hold. Write a .csv or .jsonl file."
        )
    # A cell that stands in quotes is read back without them: quote it once more.
    return '"' + cell.replace('"', '""') + '"' if cell[:1] == cell[-1:] == '"' and len(cell) > 1 else cell


def _json_lines(path: Path, rows: Sequence[dict[str, Any]], names: list[str]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _json_list(path: Path, rows: Sequence[dict[str, Any]], names: list[str]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n").encode()


def _parquet(path: Path, rows: Sequence[dict[str, Any]], names: list[str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    try:
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
        pq.write_table(table, sink)
    except pa.ArrowException as exc:
        raise InputError(f"{path} cannot be written as parquet: {exc}. Write a .jsonl file.") from exc
    return sink.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_WRITERS = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
}
