"""FAISS finds candidates, the memory-mapped vectors say how close they are.

The only file that imports faiss.

An index holds the vectors in fewer bits than the truth, so its order is approximate. `VectorSearch` asks it
for more candidates than wanted and compares those exactly, which is the refinement step of every kind, and
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

# 19,406 x 384 on one core of a desktop processor: float16 0.7 ms, float32 1.1 ms, with half the memory.
# 50,000 titles then take about 2 ms, where the graph starts to pay for its 8 s (19,406 titles) to 20 min (a
# million) of building.
FLAT_TO: Final = 50_000
HNSW_TO: Final = 1_000_000
_TRAINING_ROWS: Final = 50_000  # enough for the range of each dimension (SQ8)
_TRAINING_ROWS_A_LIST: Final = 64  # FAISS asks for at least 39 per list; 256 would take four times as long

# The smallest number of candidates compared exactly: 0.1 ms, and the quantisation errors of SQ8 are gone at k
# = 10.
_LEAST_CANDIDATES: Final = 128
_ROUNDING: Final = 2e-3  # twice what float16 (2^-11 of each product) can move two cosines apart


@dataclass(frozen=True)
class IndexKind:
    """What to build.

    Attributes:
        name: flat, hnsw, ivf, or custom for a factory string of the user's.
        factory: FAISS's factory string.
        search: FAISS's search parameters, such as "nprobe=64".
    """

    name: str
    factory: str
    search: str = ""


def choose_kind(count: int, *, factory: str | None = None, search: str | None = None) -> IndexKind:
    """The kind that suits the number of titles, or the user's."""
    if factory is not None:
        return IndexKind("custom", factory, search or "")
    if count <= FLAT_TO:
        kind = IndexKind("flat", "SQfp16")
    elif count <= HNSW_TO:
        kind = IndexKind("hnsw", "HNSW32_SQ8", "efSearch=128")
    else:
        # Between 4 and 8 sqrt(n) lists, as FAISS's guidelines say, and a power of two.
        lists = 1 << int(np.ceil(np.log2(4 * np.sqrt(count))))
        kind = IndexKind("ivf", f"IVF{lists},SQ8", "nprobe=64")
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

        The number asked for grows in powers of two, so that one more result rarely changes the candidates.
        """
        wanted = max(_LEAST_CANDIDATES, 1 << (2 * k - 1).bit_length())
        while True:
            wanted = min(wanted, self._vectors.count)
            with _one_core():
                scores, rows = self._index.search(query[None, :], wanted)
            settled = scores[0, -1] < scores[0, k - 1] - _ROUNDING
            if settled or not self._exact or wanted == self._vectors.count:
                return np.asarray(rows[0][rows[0] >= 0], np.int64)  # an approximate index fills up with -1
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


def measure_recall(search: VectorSearch, vectors: TitleVectors, *, k: int = 10, queries: int = 200) -> float:
    """How many of the true k best titles the index finds.

    Stored vectors as queries would flatter an approximate index: each lies on a point of its graph or in the
    very list that is probed first. A query here is the middle of two random titles, which is text-like in
    every dimension (noise is not), lies near no stored vector and often between two lists of an IVF index:
    harder than real queries.

    Args:
        search: what is measured, as the service uses it.
        vectors: the truth.
        k: how many results.
        queries: how many queries.

    Returns:
        The mean share of results that are as close as the true k-th best, 0 to 1, rounded to 4 digits.
    """
    pairs = np.random.default_rng(0).integers(0, vectors.count, (2, queries))
    middles = vectors.rows(pairs[0]) + vectors.rows(pairs[1])
    middles /= np.maximum(np.linalg.norm(middles, axis=1, keepdims=True), 1e-6)
    k = min(k, vectors.count)
    bounds = _true_kth_best(middles, vectors, k)
    # Equally close titles are equally right; the tolerance is float32's.
    hits = [
        np.sum(search.search(query, k)[0] >= bound - 1e-6)
        for query, bound in zip(middles, bounds, strict=True)
    ]
    return round(float(np.sum(hits)) / (k * queries), 4)


def _true_kth_best(queries: np.ndarray, vectors: TitleVectors, k: int) -> np.ndarray:
    """float32 (queries,), the cosine of each query's k-th best title, by comparing with all."""
    top = np.full((len(queries), k), -np.inf, np.float32)
    for _, rows in vectors.chunks():
        together = np.concatenate([top, queries @ rows.T], axis=1)
        top = np.partition(together, together.shape[1] - k, axis=1)[:, -k:]
    return np.asarray(top.min(axis=1))
