"""Titles become vectors, block by block, so that a killed job goes on where it was.

The vector of a text depends a little on the texts that are encoded with it (int8 activations are scaled per
batch), so the unit of work is a block whose content depends on the titles alone: the different texts, sorted
by length, cut every `BLOCK_TITLES`. A finished block is one file, named after its content; a job that finds
the file takes it and encodes nothing. Encoding the same block again gives the same bytes, so it makes no
difference where the job was killed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from index.files import finished_file, write_array
from index.progress import Advance
from index.titles import TitleStore, WrittenTitles
from index.vectors import ROWS_AT_ONCE, VECTORS_FILE
from towers.errors import BundleError

BLOCK_TITLES: Final = 2048  # some 6 s of work with the default bundle on 2 cores: what a kill can cost
_LENGTH_TOLERANCE: Final = 1e-3


class TitleEncoder(Protocol):
    """What the job needs from a bundle."""

    @property
    def titles_id(self) -> str:
        """The id of the bundle whose title vectors it makes."""

    @property
    def dim(self) -> int:
        """The length of a vector."""

    def encode_titles(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """float32 (n, dim), rows of length 1; the same list gives the same bytes."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, dim), rows of length 1; the same text gives the same bytes."""


@dataclass(frozen=True)
class Reuse:
    """Vectors that an earlier release has already.

    Attributes:
        digests: S16 (n,), ascending, the texts it has.
        rows: int64 (n,), a row of each text in `stored`.
        stored: float16 (m, dim).
    """

    digests: np.ndarray
    rows: np.ndarray
    stored: np.ndarray

    @classmethod
    def of(cls, digests: np.ndarray, stored: np.ndarray) -> Reuse:
        """Prepare the reuse of a release's vectors.

        Args:
            digests: S16 (m,), the digest of each row's text.
            stored: float16 (m, dim).
        """
        different, rows = np.unique(digests, return_index=True)
        return cls(different, rows, stored)

    def find(self, digests: np.ndarray) -> np.ndarray:
        """int64 (n,), the row in `stored` of each digest, -1 where there is none."""
        places = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[places] == digests, self.rows[places], -1)


@dataclass(frozen=True)
class Plan:
    """Where the vector of each row will come from.

    Attributes:
        blocks: int64 arrays of rows, one for each different text that must be encoded.
        reused: int64 (n,), the rows whose text the earlier release has …
        reused_from: int64 (n,), … and its row there.
        first: int64 (count,), for each row the first row with the same text.
    """

    blocks: list[np.ndarray]
    reused: np.ndarray
    reused_from: np.ndarray
    first: np.ndarray

    @property
    def to_encode(self) -> int:
        """How many texts must be encoded."""
        return sum(len(block) for block in self.blocks)


def make_plan(titles: WrittenTitles, *, reuse: Reuse | None, block_titles: int = BLOCK_TITLES) -> Plan:
    """Decide which texts to encode together and which to copy."""
    digests, firsts, inverse = np.unique(titles.digests, return_index=True, return_inverse=True)
    earlier = np.full(len(digests), -1, np.int64) if reuse is None else reuse.find(digests)
    new = np.flatnonzero(earlier < 0)
    # By length, so that a batch pads little, then by digest, so that the order of the file does not matter.
    ordered = firsts[new[np.lexsort((digests[new], titles.lengths[firsts[new]]))]]
    blocks = [ordered[start : start + block_titles] for start in range(0, len(ordered), block_titles)]
    old = np.flatnonzero(earlier >= 0)
    return Plan(blocks, firsts[old], earlier[old], firsts[inverse])


def block_path(directory: Path, digests: np.ndarray) -> Path:
    """The file of a block: its name is its content, so that a file can never be taken for another block."""
    return directory / f"block-{hashlib.sha256(digests.tobytes()).hexdigest()[:24]}.npy"


def encode_blocks(
    titles: TitleStore,
    written: WrittenTitles,
    plan: Plan,
    *,
    encoder: TitleEncoder,
    directory: Path,
    advance: Advance,
) -> None:
    """Encode the blocks that have no file yet, and write each as one file.

    Args:
        titles: the texts.
        written: their digests.
        plan: the blocks.
        encoder: makes the vectors.
        directory: of the block files.
        advance: told of every few texts that are done.

    Raises:
        BundleError: the encoder gives something else than vectors of length 1.
    """
    # Blocks are sorted by length: in that order the rate would fall all the way and the time left be wrong.
    for number in np.random.default_rng(0).permutation(len(plan.blocks)):
        rows = plan.blocks[number]
        path = block_path(directory, written.digests[rows])
        if not path.exists():
            texts = [title.title for title in titles.titles(rows)]
            vectors = encoder.encode_titles(texts, progress=advance)
            _check(vectors, len(rows), encoder.dim)
            write_array(path, vectors.astype(np.float16))


def _check(vectors: np.ndarray, count: int, dim: int) -> None:
    if vectors.shape != (count, dim):
        raise BundleError(
            f"the bundle gave vectors of shape {vectors.shape} for {count} titles, expected {(count, dim)}"
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    worst = float(np.max(np.abs(lengths - 1.0)))
    if not worst <= _LENGTH_TOLERANCE:  # also true of NaN
        raise BundleError(
            f"the bundle gave a vector whose length differs from 1 by {worst:.3g}; export the bundle again, "
            "its graph must normalise"
        )


def finished_titles(written: WrittenTitles, plan: Plan, directory: Path) -> tuple[int, int]:
    """How many blocks an earlier run has finished, and how many texts they hold."""
    finished = [rows for rows in plan.blocks if block_path(directory, written.digests[rows]).exists()]
    return len(finished), sum(len(rows) for rows in finished)


def assemble(
    written: WrittenTitles, plan: Plan, *, reuse: Reuse | None, blocks: Path, dim: int, release: Path
) -> None:
    """Write `vectors.npy` from the blocks, the reused vectors and the copies for equal texts.

    Args:
        written: the titles' digests.
        plan: where each row comes from.
        reuse: the earlier release's vectors, when the plan uses them.
        blocks: the directory of the block files.
        dim: the length of a vector.
        release: where `vectors.npy` goes.
    """
    with finished_file(release / VECTORS_FILE) as temporary:
        vectors = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.float16, shape=(written.count, dim)
        )
        for rows in plan.blocks:
            vectors[rows] = np.load(block_path(blocks, written.digests[rows]), allow_pickle=False)
        if reuse is not None:
            _copy_rows(reuse.stored, plan.reused_from, vectors, plan.reused)
        copies = np.flatnonzero(plan.first != np.arange(written.count))
        _copy_rows(vectors, plan.first[copies], vectors, copies)
        vectors.flush()


def _copy_rows(source: np.ndarray, from_rows: np.ndarray, target: np.ndarray, to_rows: np.ndarray) -> None:
    for start in range(0, len(to_rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        target[to_rows[part]] = source[from_rows[part]]
