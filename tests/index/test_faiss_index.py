from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.faiss_index import (
    CODES_TO,
    FLAT_TO,
    HNSW_TO,
    INDEX_FILE,
    IndexKind,
    VectorSearch,
    build_index,
    check_kind,
    choose_kind,
    new_index,
)
from index.files import write_array
from index.vectors import VECTORS_FILE, TitleVectors, cosines_of
from towers.errors import InputError, ReleaseError

DIM = 24
COUNT = 3000
KINDS = {
    "flat": choose_kind(1),
    "codes": choose_kind(FLAT_TO + 1, dim=DIM),
    "hnsw": choose_kind(CODES_TO + 1),
    "ivf": IndexKind("ivf", "IVF32,SQ8", "nprobe=16"),  # as above a million, with lists for a few thousand
    "custom": IndexKind("custom", "PCA12,IVF16,Flat", "nprobe=8"),
}


def vectors_in(directory: Path, count: int = COUNT) -> TitleVectors:
    """Clustered vectors with many exact ties: every fifth row repeats an earlier one."""
    directory.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, DIM))
    rows = centres[rng.integers(0, 40, count)] + 0.4 * rng.standard_normal((count, DIM))
    rows[5::5] = rows[: len(rows[5::5])]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    write_array(directory / VECTORS_FILE, rows.astype(np.float16))
    return TitleVectors(directory)


def built(directory: Path, kind: IndexKind, count: int = COUNT) -> tuple[VectorSearch, TitleVectors]:
    vectors = vectors_in(directory, count)
    done: list[int] = []
    build_index(vectors, kind, directory, advance=done.append)
    assert sum(done) == count
    return VectorSearch(directory, vectors=vectors, kind=kind), vectors


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[VectorSearch, TitleVectors]]:
    return {name: built(tmp_path_factory.mktemp(name), kind) for name, kind in KINDS.items()}


def query_of(seed: int) -> np.ndarray:
    query = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return np.asarray(query / np.linalg.norm(query))


def sorted_all(query: np.ndarray, vectors: TitleVectors) -> tuple[np.ndarray, np.ndarray]:
    """The stupid twin: compare with every title and sort."""
    cosines = cosines_of(query, vectors.rows(np.arange(vectors.count)))
    rows = np.lexsort((np.arange(vectors.count), -cosines))
    return cosines[rows], rows


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, COUNT + 10))
def test_flat_is_a_sort(searches: dict[str, tuple[VectorSearch, TitleVectors]], seed: int, k: int) -> None:
    """A flat index answers what a sort of all cosines answers, ties in row order, for every k."""
    search, vectors = searches["flat"]
    cosines, rows = search.search(query_of(seed), k)
    expected, expected_rows = sorted_all(query_of(seed), vectors)
    assert rows.tolist() == expected_rows[:k].tolist()
    assert np.array_equal(cosines, expected[:k])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 400))
def test_one_more_result_changes_none_before_it(
    searches: dict[str, tuple[VectorSearch, TitleVectors]], seed: int, k: int
) -> None:
    """search(k) is a prefix of search(k + 1)."""
    search, _ = searches["flat"]
    fewer, more = search.search(query_of(seed), k), search.search(query_of(seed), k + 1)
    assert fewer[1].tolist() == more[1][:k].tolist()
    assert np.array_equal(fewer[0], more[0][:k])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, COUNT + 10))
def test_codes_find_as_many_as_are_wanted(
    searches: dict[str, tuple[VectorSearch, TitleVectors]], seed: int, k: int
) -> None:
    """Codes propose different titles, as many as are wanted."""
    search, _ = searches["codes"]
    rows = search.search(query_of(seed), k)[1].tolist()
    assert len(rows) == len(set(rows)) == min(k, COUNT)


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_are_exact_and_sorted(
    searches: dict[str, tuple[VectorSearch, TitleVectors]], kind: str
) -> None:
    """Whatever the index knows of the vectors, the cosines are those of the stored ones, best first."""
    search, vectors = searches[kind]
    for seed in range(20):
        cosines, rows = search.search(query_of(seed), 20)
        assert len(rows) == len(set(rows.tolist())) == 20
        assert np.array_equal(cosines, cosines_of(query_of(seed), vectors.rows(rows)))
        assert np.all(np.diff(cosines) <= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_building_twice_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """An index is a function of the vectors, however many cores there are."""
    threads = faiss.omp_get_max_threads()
    built(tmp_path / "one", KINDS[kind])
    faiss.omp_set_num_threads(4)
    built(tmp_path / "two", KINDS[kind])
    assert faiss.omp_get_max_threads() == 4
    faiss.omp_set_num_threads(threads)
    assert (tmp_path / "one" / INDEX_FILE).read_bytes() == (tmp_path / "two" / INDEX_FILE).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_disturb_each_other(
    searches: dict[str, tuple[VectorSearch, TitleVectors]], kind: str
) -> None:
    """Many searches at once answer what they answer alone."""
    search, _ = searches[kind]
    alone = [search.search(query_of(seed), 10)[1].tolist() for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda seed: search.search(query_of(seed), 10)[1].tolist(), range(40))) == alone


def test_an_older_flat_index_of_many_titles_is_exact(tmp_path: Path) -> None:
    """A release says which kind it has: those that are flat beyond today's bound are searched as they always were."""
    search, vectors = built(tmp_path, KINDS["flat"], FLAT_TO + 1)
    for seed in range(20):
        assert (
            search.search(query_of(seed), 100)[1].tolist()
            == sorted_all(query_of(seed), vectors)[1][:100].tolist()
        )


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_very_few_titles(tmp_path: Path, kind: str, count: int) -> None:
    """Asking for more than there is gives what there is."""
    search, _ = built(tmp_path, KINDS[kind], count)
    assert sorted(search.search(query_of(0), 50)[1].tolist()) == list(range(count))


@pytest.mark.parametrize(
    ("count", "name", "factory"),
    [
        (1, "flat", "SQfp16"),
        (FLAT_TO, "flat", "SQfp16"),
        (FLAT_TO + 1, "codes", "PQ192x4fs,Refine(SQfp16)"),
        (CODES_TO, "codes", "PQ192x4fs,Refine(SQfp16)"),
        (CODES_TO + 1, "hnsw", "HNSW32_SQ8"),
        (HNSW_TO, "hnsw", "HNSW32_SQ8"),
        (HNSW_TO + 1, "ivf", "IVF4096,SQ8"),
        (10_000_000, "ivf", "IVF16384,SQ8"),
    ],
)
def test_the_count_chooses_the_kind(count: int, name: str, factory: str) -> None:
    """Small: exact. Middling: codes. Large: a graph. Very large: lists. Each is one that FAISS can make."""
    kind = choose_kind(count, dim=384)
    assert (kind.name, kind.factory) == (name, factory)
    new_index(kind, 384)


@pytest.mark.parametrize("dim", [None, 7])
def test_codes_are_of_pairs_of_numbers(dim: int | None) -> None:
    """Vectors of an odd or unknown length get the exact kind instead, as they did before there were codes."""
    assert choose_kind(CODES_TO, dim=dim) == IndexKind("flat", "SQfp16")


def test_the_user_chooses_the_kind() -> None:
    """A factory string and search parameters of the user's go first."""
    assert choose_kind(10, factory="IVF4,Flat", search="nprobe=2") == IndexKind(
        "custom", "IVF4,Flat", "nprobe=2"
    )
    assert choose_kind(CODES_TO + 1, search="efSearch=7") == IndexKind("hnsw", "HNSW32_SQ8", "efSearch=7")


@pytest.mark.parametrize(
    ("factory", "search", "message"),
    [
        ("Falt", "", "FAISS makes no index from 'Falt'.*could not parse index string Falt"),
        ("PQ7", "", "FAISS makes no index from 'PQ7' for vectors of 24 numbers"),
        ("IVF4,Flat", "efSearch=8", "no search parameters 'efSearch=8'"),
        ("IVF4,Flat", "nonsense", "no search parameters 'nonsense'"),
    ],
)
def test_what_faiss_does_not_know_is_an_input_error(factory: str, search: str, message: str) -> None:
    """A wrong factory string or search parameter is named, with FAISS's reason."""
    with pytest.raises(InputError, match=message):
        new_index(IndexKind("custom", factory, search), DIM)


def test_more_lists_than_titles_is_an_input_error_before_any_work() -> None:
    """What can be known before encoding is said before encoding."""
    kind = IndexKind("custom", "PCA12,IVF64,Flat")
    check_kind(kind, dim=DIM, count=64)
    with pytest.raises(InputError, match="has 64 lists for 63 titles"):
        check_kind(kind, dim=DIM, count=63)


@pytest.mark.parametrize("factory", ["IVF64,Flat", "IDMap,Flat"])
def test_what_faiss_cannot_build_is_an_input_error(tmp_path: Path, factory: str) -> None:
    """Too few titles for an index, or an index that cannot take rows, is named."""
    with pytest.raises(InputError, match=f"FAISS cannot build '{factory}' from 20 titles"):
        built(tmp_path, IndexKind("custom", factory), 20)
    assert not (tmp_path / INDEX_FILE).exists()


def test_a_corrupt_index_is_a_release_error(tmp_path: Path) -> None:
    """Bytes that are no index, half an index, and another release's index are refused."""
    _, vectors = built(tmp_path / "one", KINDS["flat"], 50)
    built(tmp_path / "two", KINDS["flat"], 51)
    path = tmp_path / "one" / INDEX_FILE
    whole = path.read_bytes()
    for content in (b"nonsense", whole[: len(whole) // 2], (tmp_path / "two" / INDEX_FILE).read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ReleaseError, match=r"titles\.faiss"):
            VectorSearch(tmp_path / "one", vectors=vectors, kind=KINDS["flat"])
