"""Titles on disk: one line of JSON each, found by row or by id without holding them in memory.

`titles.jsonl` has one object per row, `{"id": …, "title": …, "fields": {…}}`, and `titles.npy`, int64 (count
+ 1,), says where each line starts. Both are memory-mapped. See `ids.py` for the way from an id to its row and
`fields.py` for filters.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from index.fields import FieldWriter
from index.files import finished_file, write_array
from index.ids import IdTable, hash_ids, quoted, write_ids
from towers.errors import InputError

TITLES_FILE: Final = "titles.jsonl"
OFFSETS_FILE: Final = "titles.npy"
_ROWS_AT_ONCE: Final = 10_000  # titles held as objects in a pass over all of them
DIGEST_BYTES: Final = 16  # 128 bits: no two texts of any catalogue will ever share one


@dataclass(frozen=True)
class Title:
    """One title with its id and the further fields that came with it."""

    id: str
    title: str
    fields: dict[str, Any]


def digest_of(text: bytes) -> bytes:
    """What two titles share exactly when their texts are equal."""
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class WrittenTitles:
    """What the next steps of the job need to know about the titles that were just written.

    Attributes:
        sha256: of `titles.jsonl`: it names the titles, their ids, their fields and their order.
        digests: S16 (count,), the digest of each row's text.
        lengths: int64 (count,), the bytes of each row's text.
        field_types: the kept fields and their types.
    """

    sha256: str
    digests: np.ndarray
    lengths: np.ndarray
    field_types: dict[str, str]

    @property
    def count(self) -> int:
        """The number of titles."""
        return len(self.digests)


def write_titles(directory: Path, titles: Iterable[Title]) -> WrittenTitles:
    """Write all files of this module, `ids.py` and `fields.py` in one pass over the titles.

    Memory grows by about 40 bytes a title, and 4 for each filterable field.

    Args:
        directory: where the files go; files from an earlier, interrupted run are overwritten.
        titles: with different ids and with texts that can be written as UTF-8.
    """
    sha256, digests, lengths, offsets = hashlib.sha256(), bytearray(), array("q"), array("q", [0])
    ids, fields = _IdHasher(), FieldWriter()
    with finished_file(directory / TITLES_FILE) as temporary, temporary.open("wb") as file:
        for title in titles:
            line = _line(title)
            file.write(line)
            sha256.update(line)
            offsets.append(offsets[-1] + len(line))
            text = title.title.encode("utf-8")
            lengths.append(len(text))
            digests += digest_of(text)
            ids.add(title.id)
            fields.add(title.fields)
    write_array(directory / OFFSETS_FILE, np.array(offsets, np.int64))
    write_ids(directory, ids.hashes())
    fields.write(directory)
    return WrittenTitles(
        sha256.hexdigest(),
        np.frombuffer(bytes(digests), f"S{DIGEST_BYTES}"),
        np.array(lengths, np.int64),
        fields.types,
    )


def _line(title: Title) -> bytes:
    row = {"id": title.id, "title": title.title, "fields": title.fields}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8") + b"\n"


class _IdHasher:
    """Hashes ids some thousands at a time, because a call pads them all to its longest."""

    _AT_ONCE: Final = 4096

    def __init__(self) -> None:
        self._done: list[np.ndarray] = []
        self._waiting: list[bytes] = []

    def add(self, identifier: str) -> None:
        self._waiting.append(quoted(identifier))
        if len(self._waiting) == self._AT_ONCE:
            self._hash()

    def hashes(self) -> np.ndarray:
        """int64 (count,)."""
        self._hash()
        return np.concatenate(self._done)

    def _hash(self) -> None:
        self._done.append(hash_ids(self._waiting))
        self._waiting = []


def existing_rows(rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Rows as int64 (n,), once all are found to exist.

    Raises:
        InputError: names the first that does not.
    """
    asked = np.asarray(rows, np.int64)
    if asked.size and (asked.min() < 0 or asked.max() >= count):
        wrong = asked[(asked < 0) | (asked >= count)][0]
        raise InputError(f"there is no row {wrong}: rows go from 0 to {count - 1}")
    return asked


class TitleStore:
    """Reads titles by row or by id from the memory map; safe to use from many threads."""

    def __init__(self, directory: Path) -> None:
        self._offsets = np.asarray(np.load(directory / OFFSETS_FILE, mmap_mode="r", allow_pickle=False))
        with (directory / TITLES_FILE).open("rb") as file:
            self._text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ids = IdTable(directory, text=np.frombuffer(self._text, np.uint8), offsets=self._offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def title(self, row: int) -> Title:
        """The title in a row.

        Raises:
            InputError: there is no such row.
        """
        return self.titles([row])[0]

    def titles(self, rows: Sequence[int] | np.ndarray) -> list[Title]:
        """The titles in some rows, in the order of the rows.

        Raises:
            InputError: there is no such row.
        """
        asked = existing_rows(rows, len(self))
        places = zip(self._offsets[asked].tolist(), self._offsets[asked + 1].tolist(), strict=True)
        return [Title(**json.loads(self._text[start:end])) for start, end in places]

    def row_of(self, identifier: str) -> int | None:
        """The row of an id, or None."""
        return self.rows_of([identifier])[0]

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """The row of each id, None where there is no such id."""
        return [None if row < 0 else row for row in self._ids.rows_of(ids).tolist()]

    def digests(self) -> np.ndarray:
        """S16 (count,), the digest of each row's text, as in `WrittenTitles`."""
        digests = bytearray()
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = range(start, min(start + _ROWS_AT_ONCE, len(self)))
            digests += b"".join(digest_of(title.title.encode("utf-8")) for title in self.titles(rows))
        return np.frombuffer(bytes(digests), f"S{DIGEST_BYTES}")
