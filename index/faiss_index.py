"""FAISS finds candidates, the memory-mapped vectors say how close they are.

The only file that imports faiss.

An index holds the vectors in fewer bits than the truth, so its order is approximate. `VectorSearch` asks it
for more candidates than wanted and compares those exactly, which is the last step of every kind, and
the reason why a cosine is the same in a search, in a filtered search and in a match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from index.files import finished_file
from index.progress import Advance
from index.vectors import TitleVectors, best, cosines_of
from towers.errors import InputError, ReleaseError

INDEX_FILE: Final = "titles.faiss"

# To look at all of 19,406 x 384 on one core takes 0.8 ms in float16. To look at 4-bit codes of pairs of numbers, and
# then at the best of them in float16, takes 0.3 ms, for 1.4 s more of building (docs/experiments.md, 2026-11-29). Up to
# 5,000 titles that saves less than 0.2 ms. From 50,000 on a graph (0.2 ms) pays for its building (5 s for 19,406).
FLAT_TO: Final = 5_000
CODES_TO: Final = 50_000
HNSW_TO: Final = 1_000_000
_TRAINING_ROWS: Final = 50_000  # enough for the range of each dimension (SQ8)
_TRAINING_ROWS_A_LIST: Final = 64  # FAISS asks for at least 39 per list; 256 would take four times as long

# The smallest number of candidates that are compared exactly. It takes 0.1 ms, and undoes the errors of SQ8.
_LEAST_CANDIDATES: Final = 128
_ROUNDING: Final = 2e-3  # twice what float16 (2^-11 of each product) can move two cosines apart
_IN_FLOAT16: Final = ("flat", "codes")  # kinds whose scores are off by no more than that


@dataclass(frozen=True)
class IndexKind:
    """What to build.

    Attributes:
        name: flat, codes, hnsw, ivf, or custom for a factory string of the user's.
        factory: FAISS's factory string.
        search: FAISS's search parameters, such as "nprobe=64".
    """

    name: str
    factory: str
    search: str = ""


def choose_kind(
    count: int, *, dim: int | None = None, factory: str | None = None, search: str | None = None
) -> IndexKind:
    """The kind that suits the number of titles, or the user's.

    Args:
        count: of titles.
        dim: the length of a vector; when it is odd or not known, there are no codes of pairs of numbers.
        factory: FAISS's factory string, if the user gives one.
        search: FAISS's search parameters, if the user gives some.
    """
    if factory is not None:
        return IndexKind("custom", factory, search or "")
    pairs = dim // 2 if dim is not None and dim % 2 == 0 else 0
    if count <= FLAT_TO or (count <= CODES_TO and not pairs):
        kind = IndexKind("flat", "SQfp16")
    elif count <= CODES_TO:
        # Three times as many as wanted are looked at in float16: that misses 2 in 10,000 of a query's nearest 100.
        kind = IndexKind("codes", f"PQ{pairs}x4fs,Refine(SQfp16)", "k_factor_rf=3")
    elif count <= HNSW_TO:
        kind = IndexKind("hnsw", "HNSW32_SQ8", "efSearch=256")
    else:
        # Between 4 and 8 sqrt(n) lists, as FAISS's guidelines say, and a power of two.
        lists = 1 << int(np.ceil(np.log2(4 * np.sqrt(count))))
        kind = IndexKind("ivf", f"IVF{lists},SQ8", "nprobe=128")
    return kind if search is None else IndexKind(kind.name, kind.factory, search)


def new_index(kind: IndexKind, dim: int) -> Any:
    """An empty index.

    Raises:
        InputError: FAISS knows no such factory string or search parameter, for this length of vectors.
    """
    try:
        index = faiss.index_factory(dim, kind.factory, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError) as exc:
        raise InputError(
            f"FAISS makes no index from {kind.factory!r} for vectors of {dim} numbers ({_reason(exc)}); see "
            "the FAISS guide to its index factory, or leave --index-factory out"
        ) from exc
    _set_search(index, kind)
    return index


def check_kind(kind: IndexKind, *, dim: int, count: int) -> None:
    """Find out before the titles are encoded what can be known then.

    Raises:
        InputError: FAISS cannot make this index, or not of so few titles.
    """
    ivf = faiss.try_extract_index_ivf(new_index(kind, dim))
    if ivf is not None and ivf.nlist > count:
        raise InputError(
            f"{kind.factory!r} has {ivf.nlist:,} lists for {count:,} titles, expected at least one title for each; "
            "choose fewer lists, or leave --index-factory out"
        )


def _set_search(index: Any, kind: IndexKind) -> None:
    if not kind.search:
        return
    try:
        space: Any = faiss.ParameterSpace()
        space.set_index_parameters(index, kind.search)
    except RuntimeError as exc:
        raise InputError(
            f"the index {kind.factory!r} has no search parameters {kind.search!r} ({_reason(exc)}); "
            "expected for example nprobe=64 for IVF or efSearch=128 for HNSW"
        ) from exc


def _reason(error: Exception) -> str:
    """The part of FAISS's message that is for people: before it stand a C++ function, a file and a line."""
    return re.split(r"\.cpp:\d+: ", str(error))[-1].strip()


def build_index(vectors: TitleVectors, kind: IndexKind, directory: Path, *, advance: Advance) -> None:
    """Write `titles.faiss`: the same bytes for the same vectors, by one core and fixed seeds.

    Args:
        vectors: of the release.
        kind: what to build.
        directory: of the release.
        advance: told of every few rows that are in.

    Raises:
        InputError: FAISS cannot build this kind from these vectors, for example from too few.
    """
    index = new_index(kind, vectors.dim)
    if kind.name == "hnsw":
        index.hnsw.efConstruction = 100  # guess: FAISS's default of 40 is meant for smaller sets than these
    with _one_core():
        try:
            if not index.is_trained:
                index.train(_training_rows(vectors, index))
            for _, rows in vectors.chunks():
                index.add(rows)
                advance(len(rows))
        except RuntimeError as exc:
            raise InputError(
                f"FAISS cannot build {kind.factory!r} from {vectors.count:,} titles ({_reason(exc)}); "
                "choose another --index-factory, or leave it out"
            ) from exc
    with finished_file(directory / INDEX_FILE) as temporary:
        faiss.write_index(index, str(temporary))


@contextmanager
def _one_core() -> Iterator[None]:
    """Let FAISS use one core in this thread.

    When building, one core keeps the order of insertions (HNSW) and of sums (k-means), hence the result. When searching
    for one query there is nothing to share, but FAISS would still wait for its other threads to be scheduled, which
    takes up to 25 ms on a busy machine.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _training_rows(vectors: TitleVectors, index: Any) -> np.ndarray:
    ivf = faiss.try_extract_index_ivf(index)
    wanted = max(_TRAINING_ROWS, _TRAINING_ROWS_A_LIST * ivf.nlist if ivf is not None else 0)
    if wanted >= vectors.count:
        return vectors.rows(np.arange(vectors.count))
    return vectors.rows(np.sort(np.random.default_rng(0).choice(vectors.count, wanted, replace=False)))


class VectorSearch:
    """Searches a release's titles; safe to use from many threads.

    Args:
        directory: of the release.
        vectors: its vectors.
        kind: how the index was built.

    Raises:
        ReleaseError: the index file is corrupt or belongs to other vectors.
    """

    def __init__(self, directory: Path, *, vectors: TitleVectors, kind: IndexKind) -> None:
        self._vectors = vectors
        self._exact = kind.name == "flat"
        self._in_float16 = kind.name in _IN_FLOAT16
        self._index = _read_index(directory / INDEX_FILE)
        found = (self._index.ntotal, self._index.d, self._index.metric_type)
        expected = (vectors.count, vectors.dim, faiss.METRIC_INNER_PRODUCT)
        if found != expected:
            raise ReleaseError(
                f"{directory / INDEX_FILE} holds (titles, dimensions, metric) {found}, the release's "
                f"vectors are {expected}; build the release again with `dualtower index`"
            )
        _set_search(self._index, kind)

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The titles closest to a query.

        Args:
            query: float32 (dim,), length 1.
            k: how many at most.

        Returns:
            cosines float32 (m,), exact; rows int64 (m,); best first, equal ones in the order of their rows.
        """
        rows = self._candidates(query, min(k, self._vectors.count))
        return best(cosines_of(query, self._vectors.rows(rows)), rows, k)

    def _candidates(self, query: np.ndarray, k: int) -> np.ndarray:
        """At least k rows, and where the index is exact all rows that could be among the k best.

        The number asked for grows in powers of two, so that one more result rarely changes the candidates. Of these,
        those that float16 already tells apart from the k best are left out: there is no need to compare them exactly.
        """
        wanted = max(_LEAST_CANDIDATES, 1 << (2 * k - 1).bit_length())
        while True:
            wanted = min(wanted, self._vectors.count)
            with _one_core():
                scores, rows = self._index.search(query[None, :], wanted)
            worst = scores[0, k - 1] - _ROUNDING
            if scores[0, -1] < worst or not self._exact or wanted == self._vectors.count:
                kept = rows[0] >= 0  # an approximate index fills up with -1
                if self._in_float16:
                    kept &= scores[0] >= worst
                return np.asarray(rows[0][kept], np.int64)
            wanted *= 2


def _read_index(path: Path) -> Any:
    """Read an index, memory-mapped where this FAISS can, so that several releases do not add up in memory."""
    try:
        return faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    except RuntimeError as exc:
        raise ReleaseError(
            f"{path} is no FAISS index that this FAISS ({faiss.__version__}) can read ({_reason(exc)}); "
            "build the release again with `dualtower index`"
        ) from exc
