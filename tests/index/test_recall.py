from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.recall import measure_recall, sample_queries
from index.titles import Title, TitleStore, write_titles
from tests.index.test_faiss_index import DIM, KINDS, built, sorted_all


def queries_of(count: int) -> np.ndarray:
    queries = np.random.default_rng(7).standard_normal((count, DIM)).astype(np.float32)
    return np.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_recall_is_that_of_an_independent_count(tmp_path: Path, kind: str) -> None:
    """The measured recall agrees with one counted from sorts of all titles, perfect for flat, nearly so for codes."""
    search, vectors = built(tmp_path, KINDS[kind], 1000)
    hits = 0
    for query in queries_of(50):
        tenth = sorted_all(query, vectors)[0][9]
        hits += int(np.sum(search.search(query, 10)[0] >= tenth - 1e-6))
    recall = measure_recall(search, vectors, queries_of(50))
    assert recall == round(hits / 500, 4)
    assert recall > 0.5
    assert kind != "flat" or recall == 1.0
    assert kind != "codes" or recall > 0.98


def test_fewer_titles_than_results(tmp_path: Path) -> None:
    """With fewer than ten titles, finding all of them is perfect."""
    search, vectors = built(tmp_path, KINDS["hnsw"], 3)
    assert measure_recall(search, vectors, queries_of(5)) == 1.0


def test_queries_are_parts_of_titles(tmp_path: Path) -> None:
    """Half of the words in their order, or half of the characters where there are few words; always the same ones."""
    texts = ["HP black toner cartridge for LaserJet", "红色连衣裙夏季新款", "x"]
    write_titles(tmp_path, [Title(f"{i}", text, {}) for i, text in enumerate(texts)])
    queries = sample_queries(TitleStore(tmp_path))
    assert queries == sample_queries(TitleStore(tmp_path))
    words, characters, single = sorted(queries, key=lambda query: texts.index(_title_with(query, texts)))
    assert (len(words.split()), len(characters), single) == (3, 5, "x")


def _title_with(query: str, texts: list[str]) -> str:
    """The title that a query is a part of; the shortest, because "x" is in no other."""
    return next(text for text in texts if query in text)


def test_a_large_release_is_sampled(tmp_path: Path) -> None:
    """The measurement asks a bounded number of queries."""
    write_titles(tmp_path, [Title(f"{i}", f"title number {i}", {}) for i in range(1000)])
    assert len(sample_queries(TitleStore(tmp_path))) == 300
