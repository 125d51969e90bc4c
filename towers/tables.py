"""Reading tables: every file of rows that a user gives comes through here, with its row numbers.

Text formats are streamed, so a file may be larger than memory (a .json list, one document, is the exception).
A broken row is a row that the caller hears about, never one that is silently repaired or lost.
"""

from __future__ import annotations

import difflib
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from towers.delimited import read_csv, read_tsv
from towers.errors import InputError
from towers.lines import BadRow, byte_fault, listed, printable, read_lines, refusal, text_lines

Row = tuple[int, dict[str, Any]]

PARQUET_BATCH = 4096  # rows turned into Python objects at a time; guess, untested
_JSON_SPACE = re.compile(r"[ \t\n]*")


def read_rows(path: str | Path, *, on_bad_row: BadRow | None = None) -> Iterator[Row]:
    """Stream the rows of a .csv, .tsv, .jsonl, .ndjson, .json, .txt (each also .gz) or .parquet file.

    A .csv may hold line breaks inside quotes; a .tsv has one row per line, and no tab inside a field. A .txt
    has one field, "title". Blank lines are skipped. Values are str in these, elsewhere what the file says.

    Args:
        path: The file; its name says the format.
        on_bad_row: Called with (row number, the row as text, reason) for each broken row; reading then goes
            on. None: the first broken row is an error.

    Returns:
        An iterator of (row number, row). The number is the line as an editor shows it, with the header at 1
        and a row of several lines at its first; in parquet it is the position of the row, from 1.

    Raises:
        InputError: For a file that is missing, empty or of an unknown kind (at once) or unreadable (when
            reading comes to it), and for a broken row when `on_bad_row` is None.
    """
    path = Path(path)
    reader = _READERS[_kind(path)]
    _check_file(path)
    return _at_least_one(path, reader(path, on_bad_row or refusal(path)))


def require_columns(path: str | Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    """Check that a file's columns include the wanted ones.

    Raises:
        InputError: Names the columns found, those wanted and a likely misspelling.
    """
    found = list(found)
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    likely = [close for name in missing for close in difflib.get_close_matches(name, found, n=1)]
    raise InputError(
        f"{path} has no column {listed(missing)}: found {listed(found)}, expected {listed(wanted)}. "
        + (f"Did you mean {listed(likely)}? " if likely else "")
        + "Rename the column in the file, or name another with the command's --…-column option (see --help)."
    )


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    gzipped = suffixes[-1:] == [".gz"]
    kind = "".join(suffixes[-2:-1] if gzipped else suffixes[-1:])
    if kind not in _READERS or (gzipped and kind == ".parquet"):
        raise InputError(
            f"{path}: found {kind + path.suffix * gzipped or 'no extension'}, expected one of "
            f"{', '.join(_READERS)}, each but .parquet also with .gz."
        )
    return kind


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes).")


def _at_least_one(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    row: Row | None = None
    for row in rows:
        yield row
    if row is None:
        raise InputError(f"{path} holds no usable row.")


def _read_txt(path: Path, bad: BadRow) -> Iterator[Row]:
    for number, line in text_lines(path, bad):
        if line.strip():
            yield number, {"title": line}


# JSON.


def _read_jsonl(path: Path, bad: BadRow) -> Iterator[Row]:
    for number, line in text_lines(path, bad):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            bad(number, line, f"not JSON: {exc}")
            continue
        if fault := _object_fault(value, line):
            bad(number, line, fault)
        else:
            yield number, value


def _object_fault(value: Any, source: str) -> str | None:
    if not isinstance(value, dict):
        return f"expected a JSON object with the columns as keys, found {type(value).__name__}"
    if "\\ud" in source.lower():  # only such an escape can bring half a character: look closer
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            return f"{exc.object[exc.start]!a} is half of a surrogate pair, which is no character"
    return None


def _read_json(path: Path, bad: BadRow) -> Iterator[Row]:
    """Read one list of objects or, as several tools write under this name, one object per line."""
    first = next((line.lstrip() for line in read_lines(path) if line.strip()), "")
    return _read_jsonl(path, bad) if first.startswith("{") else _read_json_list(path, bad)


def _read_json_list(path: Path, bad: BadRow) -> Iterator[Row]:
    text = "".join(read_lines(path)).replace("\r\n", "\n").replace("\r", "\n")
    for number, value, source in _json_items(path, text):
        if fault := byte_fault(source) or _object_fault(value, source):
            bad(number, printable(source), fault)
        else:
            yield number, value


def _json_items(path: Path, text: str) -> Iterator[tuple[int, Any, str]]:
    """Yield (line number, value, its text) of each item; nothing can be read after broken JSON."""
    breaks = [found.start() for found in re.finditer("\n", text)]
    decode = json.JSONDecoder().raw_decode
    at, mark = _after_space(text, 0), "["
    while text[at : at + 1] == mark:
        at = _after_space(text, at + 1)
        if mark == "[" and text[at : at + 1] == "]":
            break
        number = bisect_left(breaks, at) + 1
        try:
            value, end = decode(text, at)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{path}, line {number}: not JSON: {exc}") from exc
        yield number, value, text[at:end]
        at, mark = _after_space(text, end), ","
    if text[at:].rstrip() != "]":
        line = bisect_left(breaks, at) + 1
        raise InputError(
            f"{path}, line {line}: expected a JSON list of objects, found {text[at : at + 20]!r}."
        )


def _after_space(text: str, at: int) -> int:
    return cast(re.Match[str], _JSON_SPACE.match(text, at)).end()


# Parquet.


def _read_parquet(path: Path, bad: BadRow) -> Iterator[Row]:
    number = 0
    for batch in _parquet_batches(path):
        for value in _batch_rows(batch):
            number += 1
            if isinstance(value, str):
                bad(number, "", value)
            else:
                yield number, value


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=PARQUET_BATCH)
    except (OSError, pa.ArrowException) as exc:
        raise InputError(f"{path} cannot be read as parquet to its end: {exc}") from exc


def _batch_rows(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Yield each row of a record batch, or the reason why it is none."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        # One bad string fails the whole batch: take its rows one by one to find it.
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as exc:
                yield f"not UTF-8: {exc}"


_READERS: dict[str, Callable[[Path, BadRow], Iterator[Row]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_txt,
    ".parquet": _read_parquet,
}
