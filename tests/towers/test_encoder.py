"""Laws of encoding: unit rows, batches that hide nothing, calls that repeat to the bit."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from towers import Bundle, open_bundle
from towers.encoder import run_on_all_cores
from towers.tokens import TokenReader, batches_by_length, pad

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=60), min_size=1, max_size=8)
bundle = open_bundle(TINY)


@settings(max_examples=40)
@given(texts)
def test_rows_have_unit_length(some: list[str]) -> None:
    """Whatever the text, its vector is finite and of length 1."""
    for vectors in (bundle.encode_queries(some), bundle.encode_titles(some)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@settings(max_examples=40)
@given(texts)
def test_a_query_does_not_know_its_neighbours(some: list[str]) -> None:
    """A query's vector is the same alone and in any list, bit for bit."""
    together = bundle.encode_queries(some)
    alone = np.concatenate([bundle.encode_queries([text]) for text in some])
    np.testing.assert_array_equal(together, alone)


@settings(max_examples=40)
@given(texts, st.randoms())
def test_a_permuted_list_gives_permuted_rows(some: list[str], random: object) -> None:
    """Titles keep their rows; int8 rounding in other company stays small."""
    order = list(range(len(some)))
    random.shuffle(order)  # type: ignore[attr-defined]
    vectors = bundle.encode_titles(some)
    shuffled = bundle.encode_titles([some[i] for i in order])
    assert (vectors[order] * shuffled).sum(axis=1).min() > 0.97


def test_padding_changes_little() -> None:
    """A short text beside a long one keeps its direction: the mask hides the padding."""
    short, long = (
        "red shoes",
        "the quick delivery of a large blue winter coat to the store in black leather with wool",
    )
    alone = bundle.encode_titles([short])[0]
    ids, mask = pad(TokenReader(TINY / "tokenizer.json", max_tokens=32).ids([short, long]))
    padded = bundle._titles._graph.run(ids, mask)[0]
    assert float(alone @ padded) > 0.97


def test_a_call_repeats_to_the_bit() -> None:
    """The same list gives the same bits, whatever the number of threads."""
    many = [f"order {i} red shoes " + "blue " * (i % 17) for i in range(300)]
    one, four = open_bundle(TINY, threads=1), open_bundle(TINY, threads=4)
    np.testing.assert_array_equal(one.encode_titles(many), four.encode_titles(many))


def test_progress_counts_every_text(tiny_bundle: Bundle) -> None:
    for encode in (tiny_bundle.encode_titles, tiny_bundle.encode_queries, tiny_bundle.sentiment):
        done: list[int] = []
        encode(["red shoes"] * 250, progress=done.append)
        assert sum(done) == 250


def test_threads_may_share_a_bundle(tiny_bundle: Bundle) -> None:
    """Concurrent calls give what calls in turn give."""
    queries = [f"order {i}" for i in range(64)]
    expected = tiny_bundle.encode_queries(queries)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: tiny_bundle.encode_queries([text])[0], queries))
    np.testing.assert_array_equal(np.stack(rows), expected)


def test_long_texts_are_cut(tiny_bundle: Bundle) -> None:
    """Tokens behind max_tokens have no part in the vector."""
    base = "red " * 40
    assert tiny_bundle.count_tokens(base) == tiny_bundle.max_tokens == 32
    np.testing.assert_array_equal(
        tiny_bundle.encode_queries([base]), tiny_bundle.encode_queries([base + "coat"])
    )


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_batches_hold_each_row_once_and_respect_the_budget(lengths: list[int], tokens: int) -> None:
    rows = [np.zeros(length, np.int64) for length in lengths]
    batches = batches_by_length(rows, tokens=tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


def test_pad_is_zero_where_the_mask_is() -> None:
    ids, mask = pad([np.array([5, 6, 7]), np.array([8])])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_worker_errors_reach_the_caller(tiny_bundle: Bundle) -> None:
    """An exception in a worker thread is not swallowed."""

    def burst(_count: int) -> None:
        raise RuntimeError("burst")

    with pytest.raises(RuntimeError, match="burst"):
        tiny_bundle.encode_titles(["red"] * 500, progress=burst)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_progress_raises_drops_the_batches_that_have_not_begun(threads: int) -> None:
    """Of a hundred batches only those are done that a thread had already taken."""
    begun: list[int] = []
    never = threading.Event()

    def work(batch: list[int]) -> None:
        begun.extend(batch)
        if batch != [0]:
            never.wait(0.2)  # keeps threads from taking the next one before it is known that the first failed

    def ends(_count: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        run_on_all_cores(work, [[i] for i in range(100)], threads=threads, progress=ends)
    assert len(begun) <= (1 if threads == 1 else 4)
