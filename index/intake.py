"""Rows of the user's file become titles, or bad rows with a number and a reason."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import IO, Any, Final

from index.files import TEMPORARY
from index.ids import MAX_ID_BYTES, quoted
from index.titles import Title
from towers.errors import InputError
from towers.tables import read_rows, require_columns

_SHOWN: Final = 10  # bad rows that an error repeats; the file of bad rows has them all
_SHOWN_CHARACTERS: Final = 120
# Here every row has the same columns, so the first row can tell whether one is missing.
_TABLES: Final = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True)
class Columns:
    """Which columns of the file are the id, the title and the fields to keep (None: all others)."""

    id: str = "id"
    title: str = "title"
    kept: tuple[str, ...] | None = None


class BadRows:
    """Counts the rows that cannot be used, remembers the first ones and can write them all to a file.

    Args:
        path: the file of bad rows, one JSON object per line with row, reason and raw; None: no file. It is
            complete after the `with` block, and empty when there was no bad row.
    """

    def __init__(self, path: Path | None) -> None:
        self.count = 0
        self.path = path
        self._first: list[str] = []
        self._file: IO[str] | None = None

    def add(self, number: int, raw: str, reason: str) -> None:
        """Take a bad row: its number as an editor shows it, its text, and what is wrong with it."""
        self.count += 1
        if len(self._first) < _SHOWN:
            shown = raw if len(raw) <= _SHOWN_CHARACTERS else raw[:_SHOWN_CHARACTERS] + "…"
            self._first.append(f"  row {number}: {reason}. It reads: {shown}")
        if self._file is not None:
            json.dump({"row": number, "reason": reason, "raw": raw}, self._file, ensure_ascii=False)
            self._file.write("\n")

    def refusal(self, source: Path) -> InputError:
        """The error that names the first bad rows, their number and the ways out."""
        more = [f"  … and {self.count - _SHOWN:,} more"] if self.count > _SHOWN else []
        where = f" All of them are in {self.path}." if self.path else ""
        head = (
            f"{source} has {self.count:,} bad row{'s' * (self.count != 1)}; nothing was built or published."
        )
        out = "Correct the file, or leave such rows out with --on-bad-row skip."
        return InputError("\n".join([head, *self._first, *more, out + where]))

    def __enter__(self) -> BadRows:
        if self.path is not None:
            try:
                self._file = self._temporary(self.path).open("w", encoding="utf-8")
            except OSError as exc:
                raise InputError(
                    f"bad rows cannot be written to {self.path}: {exc}; name another file"
                ) from exc
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None and self.path is not None:
            self._file.close()
            os.replace(self._temporary(self.path), self.path)
            self._file = None

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(path.name + TEMPORARY)


def read_titles(path: Path, *, columns: Columns, bad: BadRows) -> Iterator[Title]:
    """Stream the usable titles of a file; every other row goes to `bad`.

    A .txt has no ids: there the row number is the id. Memory grows by about 200 bytes a title, for the ids
    seen.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """
    seen: dict[str, int] = {}
    for number, row in _rows(path, bad):
        if not seen and not bad.count:
            _check_columns(path, row, columns)
        try:
            title = _title(row, columns, number=number if _kind(path) == ".txt" else None)
            if title.id in seen:
                raise InputError(f"the id {title.id!r} is already that of row {seen[title.id]}")
        except InputError as exc:
            bad.add(number, json.dumps(row, ensure_ascii=False, default=str), str(exc))
            continue
        seen[title.id] = number
        yield title


def _rows(path: Path, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        yield from read_rows(path, on_bad_row=bad.add)
    except InputError as exc:
        if not bad.count:
            raise
        raise InputError(f"{exc}\n{bad.refusal(path)}") from exc


def _kind(path: Path) -> str:
    """The extension that says the format, without a .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _check_columns(path: Path, row: dict[str, Any], columns: Columns) -> None:
    if _kind(path) in _TABLES:
        require_columns(path, row, [columns.id, columns.title, *(columns.kept or ())])


def _title(row: dict[str, Any], columns: Columns, *, number: int | None) -> Title:
    identifier = row.get(columns.id, number)
    wanted = [columns.title] if number is not None else [columns.id, columns.title]
    if missing := [name for name in wanted if name not in row]:
        raise InputError(f"no column {missing[0]!r} (it has {', '.join(map(repr, row)) or 'none'})")
    kept = [name for name in row if name not in (columns.id, columns.title)]
    if columns.kept is not None:
        kept = [name for name in columns.kept if name in row]
    fields = {name: _plain(row[name], name) for name in kept}
    return Title(
        id=_id_text(identifier, columns.id),
        title=_title_text(row[columns.title], columns.title),
        fields={name: value for name, value in fields.items() if value is not None},
    )


def _id_text(value: Any, column: str) -> str:
    if isinstance(value, float) and value.is_integer():
        # A data frame with a gap has its whole numbers as floats, and so has the parquet file made of it.
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"the id (column {column!r}) is {_said(value)}")
    size = len(quoted(value)) - 2
    if size > MAX_ID_BYTES:
        raise InputError(f"the id (column {column!r}) has {size} bytes, at most {MAX_ID_BYTES} can be used")
    return value


def _title_text(value: Any, column: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"the title (column {column!r}) is {_said(value)}")
    return value


def _said(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "empty"
    return f"{value!r}, expected text"


def _plain(value: Any, name: str) -> Any:
    """A kept value as JSON can hold it; None where there is nothing to keep."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        raise InputError(
            f"the field {name!r} holds bytes, which cannot be kept; choose the fields to keep with --fields"
        )
    return str(value)
