"""Tables with a header line and fields between commas (.csv) or tabs (.tsv)."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from towers.errors import InputError
from towers.lines import BadRow, byte_fault, listed, printable, read_lines, refusal, text_lines

_Record = tuple[int, str, list[str]]  # line number, text, fields


def read_csv(path: Path, bad: BadRow) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream a .csv file: quotes as spreadsheets write them, and line breaks inside them."""
    return _with_header(path, bad, _csv_records)


def read_tsv(path: Path, bad: BadRow) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream a .tsv file: one row per line, and a tab always ends a field."""
    return _with_header(path, bad, _tsv_records)


def _with_header(
    path: Path, bad: BadRow, records: Callable[[Path, BadRow], Iterator[_Record]]
) -> Iterator[tuple[int, dict[str, str]]]:
    header: list[str] = []

    def report(number: int, raw: str, reason: str) -> None:
        # No row can be read without a header, so a broken one is not a row to skip.
        (bad if header else refusal(path))(number, raw, reason)

    for number, text, fields in records(path, report):
        if not header:
            header = _header(path, number, fields)
        elif len(fields) != len(header):
            reason = f"{len(fields)} columns, but the header has {len(header)} ({listed(header)})"
            bad(number, printable(text), reason)
        else:
            yield number, dict(zip(header, fields, strict=True))


def _header(path: Path, number: int, fields: list[str]) -> list[str]:
    names = [field.strip() or f"column {i}" for i, field in enumerate(fields, start=1)]
    if len(set(names)) < len(names):
        raise InputError(f"{path}, line {number}: a name occurs twice in the header: {listed(names)}.")
    return names


class _CsvLines:
    """Lines for `csv.reader` that knows which ones make the record at hand, and can take them back.

    An unclosed quote swallows the lines after it. Taking back all but the first makes it cost one row.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: deque[str] = deque()
        self._record: list[str] = []
        self._done = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._lines)
        self._record.append(line)
        return line

    def take(self) -> tuple[int, str]:
        """End the record: (number of its first line, its text)."""
        number, text = self._done + 1, "".join(self._record)
        self._done += len(self._record)
        self._record = []
        return number, text

    def take_first_line(self) -> tuple[int, str]:
        """End the record after its first line; the others will be read again."""
        self._returned.extendleft(reversed(self._record[1:]))
        del self._record[1:]
        return self.take()


def _csv_records(path: Path, bad: BadRow) -> Iterator[_Record]:
    lines = _CsvLines(read_lines(path))
    reader = csv.reader(lines, strict=True)  # not strict, an unclosed quote at the end would pass for a field
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            number, text = lines.take_first_line()
            bad(number, printable(text), byte_fault(text) or f"broken quoting ({exc})")
            continue
        number, text = lines.take()
        if fault := byte_fault(text):
            bad(number, printable(text), fault)
        elif fields:
            yield number, text, fields


def _tsv_records(path: Path, bad: BadRow) -> Iterator[_Record]:
    for number, line in text_lines(path, bad):
        if line:
            yield number, line, [_unquoted(field) for field in line.split("\t")]


def _unquoted(field: str) -> str:
    """Undo the quotes that a spreadsheet puts around a field; a quote that is part of the text stays."""
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', ""):
        return field[1:-1].replace('""', '"')
    return field
