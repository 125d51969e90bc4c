"""Kept fields: what a filter can ask for.

All kept fields stand with their title in `titles.jsonl`. A field with few and short values can also be
filtered on: its values are numbered, `fields.json` lists them, and `fields.npy`, int32 (filterable fields,
count), holds the number of each row's value, or -1 where the row has none.
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any, Final

import numpy as np

from index.files import write_array, write_json
from towers.errors import InputError

VALUES_FILE: Final = "fields.json"
CODES_FILE: Final = "fields.npy"
# Guesses: the values of a filterable field are held in memory by the service, and these bound them to about 1
# MB a field.
MAX_VALUES: Final = 10_000
MAX_VALUE_CHARACTERS: Final = 100
NO_VALUE: Final = -1

_TYPES: Final = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "list",
    dict: "object",
}


def filter_text(value: Any) -> str | None:
    """The text that stands for a value in a filter, or None for a value that no filter can ask for."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return None


class _Column:
    """One field while rows are read: its type, and its values as long as they are few and short."""

    def __init__(self, rows_before: int) -> None:
        self.type = ""
        self.values: dict[str, int] = {}
        self.codes = array("i", [NO_VALUE]) * rows_before
        self.filterable = True

    def add(self, value: Any, row: int) -> None:
        kind = _TYPES[type(value)]
        self.type = kind if self.type in ("", kind) else "mixed"
        if self.filterable:
            self._number(filter_text(value), row)

    def _number(self, text: str | None, row: int) -> None:
        if text is not None and len(text) <= MAX_VALUE_CHARACTERS:
            self.fill(row)
            self.codes.append(self.values.setdefault(text, len(self.values)))
            if len(self.values) <= MAX_VALUES:
                return
        self.filterable, self.values, self.codes = False, {}, array("i")

    def fill(self, rows: int) -> None:
        """Note that the rows up to `rows` have no value."""
        self.codes.extend([NO_VALUE] * (rows - len(self.codes)))


class FieldWriter:
    """Collects the kept fields of all rows, then writes what filters need."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._rows = 0

    def add(self, fields: dict[str, Any]) -> None:
        """Take the fields of the next row."""
        for name, value in fields.items():
            if name not in self._columns:
                self._columns[name] = _Column(self._rows)
            self._columns[name].add(value, self._rows)
        self._rows += 1

    @property
    def types(self) -> dict[str, str]:
        """The kept fields and their types."""
        return {name: column.type for name, column in sorted(self._columns.items())}

    def write(self, directory: Path) -> None:
        """Write `fields.json` and, when there is a filterable field, `fields.npy`."""
        filterable = {name: column for name, column in sorted(self._columns.items()) if column.filterable}
        for column in filterable.values():
            column.fill(self._rows)
        write_json(
            directory / VALUES_FILE, {name: list(column.values) for name, column in filterable.items()}
        )
        if filterable:
            write_array(
                directory / CODES_FILE, np.array([column.codes for column in filterable.values()], np.int32)
            )


class FieldFilter:
    """Finds the rows that have a value in a field."""

    def __init__(self, directory: Path) -> None:
        listed: dict[str, list[str]] = json.loads((directory / VALUES_FILE).read_text(encoding="utf-8"))
        if listed:
            self._codes = np.asarray(np.load(directory / CODES_FILE, mmap_mode="r", allow_pickle=False))
        self._line = {name: line for line, name in enumerate(listed)}
        self._number = {name: {text: i for i, text in enumerate(texts)} for name, texts in listed.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that can be filtered on."""
        return tuple(self._line)

    def rows_where(self, field: str, value: Any) -> np.ndarray:
        """The rows whose field equals the value, compared as text.

        Returns:
            int64 (n,), ascending; empty when no row has the value.

        Raises:
            InputError: the field cannot be filtered on.
        """
        if field not in self._line:
            allowed = ", ".join(self.names) or "no field"
            raise InputError(
                f"cannot filter on {field!r}: this release filters on {allowed}; a field can be filtered on "
                f"when it was kept and has at most {MAX_VALUES:,} values of at most {MAX_VALUE_CHARACTERS} "
                "characters"
            )
        text = filter_text(value)
        number = None if text is None else self._number[field].get(text)
        if number is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self._codes[self._line[field]] == number).astype(np.int64)
