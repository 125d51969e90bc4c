"""From an id to its row, for millions of ids, without an object per id in memory.

`ids.npy` is int64 (2, count): in the first line the 64-bit hashes of all ids, ascending; in the second the
row of each. A lookup hashes, searches by bisection in the memory map, and then compares the id with the one
that stands in `titles.jsonl`, so that two ids with one hash can never be taken for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from json.encoder import encode_basestring
from pathlib import Path
from typing import Final

import numpy as np

from index.files import write_array

IDS_FILE: Final = "ids.npy"
MAX_ID_BYTES: Final = 512  # guess: longer ids are URLs gone wrong, and a lookup pads all ids to the longest
_NO_ID: Final = b'""'  # no title has an empty id
LINE_START: Final = b'{"id":'  # every line of titles.jsonl begins with this and the quoted id

# The multiplier is 2^64 / golden ratio, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4); the shift mixes the
# high half, which the multiplication has filled, back into the low half.
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)


def quoted(identifier: str) -> bytes:
    """An id as it stands in `titles.jsonl`: a JSON string in UTF-8, quotes included."""
    # A lone surrogate cannot have been stored, so its bytes only have to differ from every stored id.
    return encode_basestring(identifier).encode("utf-8", "surrogatepass")


def hash_ids(ids: Sequence[bytes]) -> np.ndarray:
    """Hash byte strings, eight bytes of all of them at a time.

    Four times faster than `hashlib` for 1,000 ids, which is what a match request sends, and the same in every
    process, unlike `hash()`.

    Returns:
        int64 (n,).
    """
    if not ids:
        return np.empty(0, np.int64)
    padded = np.array(ids, dtype=np.bytes_)
    words = -(-padded.dtype.itemsize // 8)
    columns = padded.astype(f"S{words * 8}").view("<u8").reshape(len(ids), words).T
    hashes = np.zeros(len(ids), np.uint64)
    for column in columns:
        # Words that are only padding change nothing, so that the longest id in the call does not matter.
        mixed = (hashes ^ column) * _MULTIPLIER
        mixed ^= mixed >> _HALF
        hashes = np.where(column == 0, hashes, mixed)
    return hashes.view(np.int64)


def write_ids(directory: Path, hashes: np.ndarray) -> None:
    """Write `ids.npy`.

    Args:
        directory: the directory of the release that is being made.
        hashes: int64 (count,), the hash of each row's quoted id, in row order.
    """
    rows = np.argsort(hashes, kind="stable")
    write_array(directory / IDS_FILE, np.stack([hashes[rows], rows.astype(np.int64)]))


class IdTable:
    """Finds the rows of ids.

    Args:
        directory: the release's directory.
        text: uint8 (bytes,), `titles.jsonl`, memory-mapped.
        offsets: int64 (count + 1,), where each line of it starts.
    """

    def __init__(self, directory: Path, *, text: np.ndarray, offsets: np.ndarray) -> None:
        # As a plain array: np.memmap adds its own cost to every operation.
        self._hashes, self._rows = np.asarray(
            np.load(directory / IDS_FILE, mmap_mode="r", allow_pickle=False)
        )
        self._text, self._offsets = text, offsets

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """The row of each id.

        Returns:
            int64 (n,), -1 where there is no such id.
        """
        # An id that is too long to have been stored becomes one that was not: a call pads all ids to the longest.
        names = [name if len(name) <= MAX_ID_BYTES + 2 else _NO_ID for name in map(quoted, ids)]
        hashes = hash_ids(names)
        return self._verified(names, hashes, np.searchsorted(self._hashes, hashes))

    def _verified(self, names: list[bytes], hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Go along the run of equal hashes, which is one long but for collisions, to the id itself."""
        rows = np.full(len(names), -1, np.int64)
        pending = self._in_run(np.arange(len(names)), hashes, places)
        while pending.size:
            found = self._rows[places[pending]]
            same = self._stands_at(found, [names[i] for i in pending])
            rows[pending[same]] = found[same]
            pending = pending[~same]
            places[pending] += 1
            pending = self._in_run(pending, hashes, places)
        return rows

    def _in_run(self, pending: np.ndarray, hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Those of the pending names whose place in the table still has their hash."""
        pending = pending[places[pending] < len(self._hashes)]
        kept: np.ndarray = pending[self._hashes[places[pending]] == hashes[pending]]
        return kept

    def _stands_at(self, rows: np.ndarray, names: list[bytes]) -> np.ndarray:
        """Whether the line of each row begins with the id, compared byte by byte for all rows at once."""
        lengths = np.array([len(name) for name in names])
        ends = np.cumsum(lengths)
        starts = self._offsets[rows] + len(LINE_START)
        places = np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1])
        found = self._text[np.minimum(places, len(self._text) - 1)]
        different = found != np.frombuffer(b"".join(names), np.uint8)
        return np.asarray(np.add.reduceat(different, ends - lengths, dtype=np.int64) == 0)
