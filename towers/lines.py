"""Text files as numbered lines: decompression, UTF-8, and what becomes of a line that is not text."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from towers.errors import InputError

BadRow = Callable[[int, str, str], None]
"""Told of each broken row: (row number, the row as text, reason)."""

_SHOWN = 160  # characters of a broken row that an error repeats
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# surrogateescape writes each byte that is not UTF-8 as one of these, so that it stays in its line.
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text or .gz file with their ends.

    A leading byte order mark is dropped. A byte that is not UTF-8 becomes an escape that `byte_fault` finds,
    so that it costs its line and not the file.

    Raises:
        InputError: The file is UTF-16, or cannot be read to its end.
    """
    try:
        with _open(path) as file:
            if cast(io.BufferedReader, file).peek(2)[:2] in _UTF16_MARKS:
                raise InputError(f"{path}, line 1: byte 1 says UTF-16; save the file as UTF-8.")
            with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
                yield from text
    except (OSError, EOFError, zlib.error) as exc:
        raise InputError(f"{path} cannot be read to its end: {exc}") from exc


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def byte_fault(text: str) -> str | None:
    """Say which byte makes a line unusable as text whatever its format, or None."""
    if "\0" in text:
        return f"byte {_bytes_before(text, text.index(chr(0)))} is NUL, which is no text"
    if text.isascii() or (found := _ESCAPED_BYTE.search(text)) is None:
        return None
    return (
        f"byte {_bytes_before(text, found.start())} (0x{ord(found.group()) - 0xDC00:02x}) is not UTF-8; "
        "save the file as UTF-8, for example with `iconv -f GB18030 -t UTF-8`"
    )


def _bytes_before(text: str, index: int) -> int:
    """The position, from 1, of a character of the line, in bytes."""
    return len(text[:index].encode("utf-8", "surrogateescape")) + 1


def printable(text: str) -> str:
    r"""The line as text that can be written: its end removed, a byte that is not UTF-8 spelled as \xff."""
    return text.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def refusal(path: Path) -> BadRow:
    """For callers that accept no broken row: an InputError that names file, line, reason and content."""

    def refuse(number: int, raw: str, reason: str) -> None:
        shown = raw if len(raw) <= _SHOWN else raw[:_SHOWN] + "…"
        raise InputError(f"{row_name(path, number)}: {reason}. It reads: {shown!r}")

    return refuse


def row_name(path: Path, number: int) -> str:
    """A row as an error names it."""
    return f"{path}, {'row' if path.suffix.lower() == '.parquet' else 'line'} {number}"


def text_lines(path: Path, bad: BadRow) -> Iterator[tuple[int, str]]:
    """Yield (number, line without its end) of each line that is text; `bad` hears of the others."""
    for number, line in enumerate(read_lines(path), start=1):
        if fault := byte_fault(line):
            bad(number, printable(line), fault)
        else:
            yield number, line.rstrip("\r\n")


def listed(names: Iterable[str]) -> str:
    """Names as an error shows them."""
    return ", ".join(repr(name) for name in names)
