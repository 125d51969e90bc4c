"""Evaluation: the reports against hand-worked numbers, the readers against every kind of bad label."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.errors import InputError
from towers.evaluate import (
    default_positive_from,
    evaluate_match,
    evaluate_search,
    evaluate_sentiment,
    match_report,
    score_pairs,
    sentiment_report,
)
from towers.exact import nearest
from towers.labelled import (
    Pairs,
    SearchColumns,
    Searches,
    Texts,
    read_beir,
    read_pairs,
    read_searches,
    read_texts,
)

law = settings(deadline=None)  # other work may slow this machine down: no law depends on a clock


class FakeBundle:
    """A bundle by hashes: equal words give equal directions, which is all that an evaluation asks of vectors.

    The score turns the cosine round, so that no test can take one for the other.
    """

    threshold = 0.5

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        vectors = np.array([sum(map(self._word, text.split()), self._word("")) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_titles(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        if progress:
            progress(len(texts))
        return self.encode_queries(texts)

    def score(self, query_vector: np.ndarray, title_vectors: np.ndarray) -> np.ndarray:
        return (1 - title_vectors @ query_vector) / 2

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return np.array([np.eye(3)[{"bad": 0, "good": 2}.get(text, 1)] for text in texts], dtype=np.float32)

    def _word(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        return np.random.default_rng(seed).standard_normal(16)


@pytest.fixture
def fake_bundle() -> FakeBundle:
    return FakeBundle()


def written(tmp_path: Path, name: str, *rows: object) -> Path:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# Pairs.


def test_match_report_by_hand() -> None:
    """Two queries of two titles: the scorer orders one rightly, cosine both."""
    report = match_report([1, 0, 1, 0], [0.9, 0.2, 0.3, 0.4], [0.8, 0.1, 0.7, 0.6], ["a", "a", "b", "b"], 0.5)
    assert report["pairs"] == 4
    assert report["queries"] == 2
    assert report["positives"] == 2
    assert report["positive_from"] == 1
    # Score: 0.9 beats both negatives, 0.3 beats 0.2 alone; 0.5 decides all but 0.3 rightly; in query b the
    # relevant title is second.
    assert report["score"]["auc"] == 3 / 4
    assert report["score"]["accuracy"] == 3 / 4
    assert report["score"]["threshold"] == 0.5
    assert report["score"]["threshold_from"] == "bundle"
    assert report["score"]["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    # Cosine: all right, at the best threshold for these pairs.
    assert report["cosine"]["auc"] == 1
    assert report["cosine"]["accuracy"] == 1
    assert report["cosine"]["threshold"] == pytest.approx(0.65)
    assert report["cosine"]["threshold_from"] == "these pairs"
    assert report["cosine"]["ndcg@10"] == 1
    assert report["cosine"]["calibration_error"] == pytest.approx((0.2 + 0.1 + 0.3 + 0.6) / 4)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 1], 1),
        ([1, 1], 1),
        ([0, 0], 1),
        ([1, 2, 3, 4], 3),
        ([0, 1, 2], 2),
        ([0.0, 2.4, 2.6, 5.0], 2.6),
        ([0.1, 0.4, 0.6, 0.9], 0.6),
        ([3, 3], 3),
        ([-1, 1], 1),
    ],
)
def test_positive_is_above_the_middle_of_the_label_range(labels: list[float], expected: float) -> None:
    """Binary labels mean themselves, also when one does not occur; others are cut in the middle."""
    assert default_positive_from(np.array(labels, dtype=np.float64)) == expected


def test_positive_from_can_be_chosen() -> None:
    """Grade 2 of 1 to 4 counts as positive on request."""
    report = match_report([1, 2, 3, 4], [0.1] * 4, [0.1] * 4, [0, 1, 2, 3], 0.5, positive_from=2)
    assert report["positives"] == 3


def test_the_lowest_grade_is_not_relevant() -> None:
    """Grades 1 to 4 count as relevances 0 to 3: shifting the labels does not change nDCG."""
    scores, groups = [0.1, 0.9, 0.5, 0.3], ["q"] * 4
    shifted = [
        match_report(np.arange(4) + by, scores, scores, groups, 0.5)["score"]["ndcg@10"] for by in (0, 1)
    ]
    assert shifted[0] == shifted[1]


def test_no_ranking_is_claimed_where_nothing_is_ranked() -> None:
    """With one title per query nDCG would be 1 whatever the scores: it is nan."""
    report = match_report([1, 0], [0.1, 0.9], [0.1, 0.9], ["a", "b"], 0.5)
    assert math.isnan(report["score"]["ndcg@10"])
    assert math.isnan(report["cosine"]["ndcg@10"])


@law
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 8), st.integers(0, 2)),
        min_size=1,
        max_size=20,
    )
)
def test_only_calibration_and_threshold_see_more_than_the_order(
    rows: list[tuple[int, int, int, int]],
) -> None:
    """A rising function of the cosine leaves all else in the report as it was."""
    labels, scores, cosines, groups = (np.array(column) for column in zip(*rows, strict=True))
    before = match_report(labels, scores / 8, cosines / 8, groups, 0.5)["cosine"]
    after = match_report(labels, scores / 8, np.exp(cosines / 8), groups, 0.5)["cosine"]
    for name in ("auc", "accuracy", "spearman", "ndcg@10"):
        assert after[name] == pytest.approx(before[name], nan_ok=True)


def test_each_text_is_encoded_once_and_each_pair_gets_its_own_score(fake_bundle: FakeBundle) -> None:
    """Scores and cosines come back in the order of the pairs, whatever the order of their queries."""
    queries, titles = ["b", "a", "b", "c", "a"], ["x", "y", "y", "x", "x y"]
    done: list[int] = []
    pairs = Pairs(queries, titles, np.array([1.0, 0, 1, 0, 1]))
    scores, cosines, groups = score_pairs(fake_bundle, pairs, progress=done.append)
    assert sorted(fake_bundle.encoded) == ["a", "b", "c", "x", "x y", "y"]
    assert sum(done) == 6
    for i, (query, title) in enumerate(zip(queries, titles, strict=True)):
        expected = float(
            (FakeBundle().encode_queries([query]) @ FakeBundle().encode_queries([title]).T)[0, 0]
        )
        assert cosines[i] == pytest.approx(expected, abs=1e-6)
        assert scores[i] == pytest.approx((1 - expected) / 2, abs=1e-6)
    assert groups.tolist() == [0, 1, 0, 2, 1]


def test_equal_texts_score_above_different_ones(fake_bundle: FakeBundle) -> None:
    """On the fake, cosine separates what is equal, and the scorer, turned round, gets it all wrong."""
    words = [f"word{i} word{i + 1}" for i in range(300)]
    pairs = Pairs(words * 2, words + words[1:] + words[:1], np.array([1.0] * 300 + [0.0] * 300))
    report = evaluate_match(fake_bundle, pairs)
    assert report["cosine"]["auc"] == pytest.approx(1)
    assert report["score"]["auc"] == pytest.approx(0)
    assert report["score"]["threshold"] == fake_bundle.threshold


@pytest.mark.parametrize("label", ["maybe", "", None, "nan", [1], "inf"])
def test_a_label_that_is_no_number_is_refused_with_its_row(tmp_path: Path, label: object) -> None:
    """The error names file, line, value and the way out."""
    good = {"query": "a", "title": "b", "label": 1}
    path = written(tmp_path, "p.jsonl", good, {**good, "label": label})
    with pytest.raises(
        InputError, match=r"p\.jsonl, line 2: found .* as label, expected a number\. Correct or"
    ):
        read_pairs(path)


def test_pairs_are_read_from_any_columns(tmp_path: Path) -> None:
    """Numbers as text or not, true and false, numbers that are titles; the columns can be named."""
    path = written(
        tmp_path,
        "p.jsonl",
        {"q": "a", "t": "b", "y": "0.5"},
        {"q": "c", "t": 1984, "y": True},
        {"q": "", "t": "d", "y": 2},
    )
    pairs = read_pairs(path, query="q", title="t", label="y")
    assert pairs.queries == ["a", "c", ""]
    assert pairs.titles == ["b", "1984", "d"]
    assert pairs.labels.tolist() == [0.5, 1.0, 2.0]
    with pytest.raises(InputError, match="no column 'query', 'title', 'label': found 'q', 't', 'y'"):
        read_pairs(path)


def test_a_missing_text_is_refused_with_its_row(tmp_path: Path) -> None:
    """A pair without a title is no pair."""
    path = written(tmp_path, "p.jsonl", {"query": "a", "title": None, "label": 1})
    with pytest.raises(InputError, match="line 1: found None as title, expected text"):
        read_pairs(path)


# Sentiment.


def test_sentiment_report_by_hand() -> None:
    """Found are one of two negative texts and the positive one; the others are taken for positive."""
    predicted = np.eye(3)[[0, 2, 2, 2]]
    report = sentiment_report([-1, -1, 0, 1], predicted)
    assert report["accuracy"] == 1 / 2
    assert report["macro_recall"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert report["macro_f1"] == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert report["confusion"] == [[1, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert report["recall"] == [1 / 2, 0, 1]
    assert math.isnan(sentiment_report([-1], predicted[:1])["recall"][1])


def test_texts_are_classified_in_their_own_order(fake_bundle: FakeBundle) -> None:
    """Sorting by length inside does not mix up the rows."""
    texts = [*["good", "so so", "bad"] * 200, "a longer text"]
    done: list[int] = []
    labels = np.array([*[1, 0, -1] * 200, 0])
    report = evaluate_sentiment(fake_bundle, Texts(texts, labels), progress=done.append)
    assert report["accuracy"] == 1
    assert sum(done) == len(texts)


def test_every_spelling_of_a_sentiment_is_read(tmp_path: Path) -> None:
    """Numbers, numbers as text, numbers as a data frame writes them, and names."""
    spellings = [-1, "0", 1.0, "-1.0", "Positive", " neutral ", "negative"]
    path = written(tmp_path, "s.jsonl", *[{"text": "t", "label": label} for label in spellings])
    assert read_texts(path).labels.tolist() == [-1, 0, 1, -1, 1, 0, -1]


@pytest.mark.parametrize("label", [2, "good", None, True, 0.5, ""])
def test_a_label_that_is_no_sentiment_is_refused_with_its_row(tmp_path: Path, label: object) -> None:
    """The error names file, line, value and all that is accepted."""
    path = written(tmp_path, "s.jsonl", {"text": "t", "label": 1}, {"text": "t", "label": label})
    with pytest.raises(
        InputError, match=r"s\.jsonl, line 2: found .* one of -1, negative, 0, neutral, 1, positive"
    ):
        read_texts(path)


# Searches.


@law
@given(st.integers(1, 6), st.integers(1, 30), st.data())
def test_exact_search_is_a_full_sort(queries: int, titles: int, data: st.DataObject) -> None:
    """The stupid twin: sort all cosines; equal ones in the order of the titles, whatever k is."""
    k = data.draw(st.integers(1, titles))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    query_vectors, title_vectors = (
        rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (queries, titles)
    )  # coarse, so that ties are common
    cosines, rows = nearest(query_vectors, title_vectors, k, hidden=[None] * queries)
    everything = query_vectors @ title_vectors.T
    assert (cosines == -np.sort(-everything, axis=1)[:, :k]).all()
    assert (np.take_along_axis(everything, rows, axis=1) == cosines).all()
    if k == titles:
        assert (rows == np.argsort(-everything, axis=1, kind="stable")).all()


def searches(**changes: object) -> Searches:
    values: dict[str, object] = {
        "title_ids": ["t1", "t2", "t3"],
        "titles": ["red shoe", "blue shoe", "green hat"],
        "query_ids": ["q1", "q2"],
        "queries": ["red shoe", "hat green"],
        "relevances": [{"t1": 1.0, "t2": 0.0}, {"t3": 2.0}],
    }
    return Searches(**{**values, **changes})  # type: ignore[arg-type]


def test_search_is_reported_by_cosine_and_by_score(fake_bundle: FakeBundle) -> None:
    """Cosine finds each title first; the fake's scorer, which turns cosine round, puts it last of three."""
    report = evaluate_search(fake_bundle, searches(), ks=[1, 3])
    assert report["titles"] == 3
    assert report["queries"] == 2
    assert report["candidates"] == 3
    assert report["cosine"] == {"ndcg@10": 1, "mrr@10": 1, "recall@1": 1, "recall@3": 1}
    assert report["score"]["mrr@10"] == pytest.approx(1 / 3)
    assert report["score"]["ndcg@10"] == pytest.approx(1 / math.log2(4))
    assert report["score"]["recall@1"] == 0
    assert report["score"]["recall@3"] == 1


def test_a_judged_title_that_does_not_exist_counts_as_missed(fake_bundle: FakeBundle) -> None:
    """Its query cannot be answered in full, and the report says how many such titles there are."""
    report = evaluate_search(
        fake_bundle, searches(relevances=[{"t1": 1.0, "gone": 1.0}, {"t3": 1.0}]), ks=[10]
    )
    assert report["unknown_titles"] == 1
    assert report["cosine"]["recall@10"] == pytest.approx((1 / 2 + 1) / 2)


def test_only_the_first_candidates_are_re_ranked(fake_bundle: FakeBundle) -> None:
    """With 12 titles and 10 candidates, what cosine puts last cannot come back."""
    titles = [f"word{i}" for i in range(11)] + ["red shoe"]
    several = searches(
        title_ids=[str(i) for i in range(12)],
        titles=titles,
        query_ids=["q"],
        queries=["red shoe"],
        relevances=[{str(i): 1.0 for i in range(12)}],
    )
    report = evaluate_search(fake_bundle, several, ks=[5], candidates=2)
    assert report["candidates"] == 10
    assert report["score"]["recall@5"] == pytest.approx(5 / 12)


def test_a_title_with_the_querys_own_id_can_be_left_out(fake_bundle: FakeBundle) -> None:
    """As in collections whose queries are documents too; a judged one stays."""
    own = searches(query_ids=["t1", "t3"], relevances=[{"t2": 1.0}, {"t3": 1.0}])
    kept = evaluate_search(fake_bundle, own, ks=[1])
    assert kept["cosine"]["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    skipping = searches(query_ids=["t1", "t3"], relevances=[{"t2": 1.0}, {"t3": 1.0}], skip_own=True)
    report = evaluate_search(fake_bundle, skipping, ks=[1])
    assert report["cosine"]["mrr@10"] == 1
    assert report["score"]["mrr@10"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_searches_are_read_from_three_tables(tmp_path: Path) -> None:
    """The usual column names are found; ids may be numbers; unknown queries are counted."""
    titles = written(tmp_path, "t.csv", "id,title", "1,red shoe", "2,hat")
    qrels = written(tmp_path, "r.tsv", "query-id\tcorpus-id\tscore", "a\t1\t2", "a\t2\t-1", "zz\t1\t1")
    queries = written(tmp_path, "q.jsonl", {"_id": "a", "text": "shoe"}, {"_id": "b", "text": "hat"})
    read = read_searches(titles, qrels, queries)
    assert read.title_ids == ["1", "2"]
    assert read.queries == ["shoe"]
    assert read.relevances == [{"1": 2.0, "2": 0.0}]
    assert read.unknown_queries == 1


def test_searches_are_read_without_a_queries_file_and_from_named_columns(tmp_path: Path) -> None:
    """The queries then stand in the judgements themselves; a .txt of titles counts its lines."""
    titles = written(tmp_path, "t.txt", "red shoe", "hat")
    qrels = written(tmp_path, "r.csv", "query,line,grade", "shoe,1,1", "shoe,2,0", "cap,2,1")
    read = read_searches(titles, qrels, columns=SearchColumns(title_id="line", relevance="grade"))
    assert read.query_ids == read.queries == ["shoe", "cap"]
    assert read.relevances == [{"1": 1.0, "2": 0.0}, {"2": 1.0}]


@pytest.mark.parametrize(
    ("titles", "qrels", "message"),
    [
        (["id,title", "1,a", "1,b"], ["query,id,score", "q,1,1"], r"t\.csv, line 3: the id '1' occurs twice"),
        (["id,title", ",a"], ["query,id,score", "q,1,1"], r"t\.csv, line 2: found '' as id, expected an id"),
        (
            ["id,title", "1,a"],
            ["query,id,score", "q,1,1", "q,1,0"],
            r"r\.csv, line 3: the title '1' occurs twice",
        ),
        (["id,title", "1,a"], ["query,id,score", "q,1,high"], r"r\.csv, line 2: found 'high' as relevance"),
        (
            ["id,title", "1,a"],
            ["query,id,score", "q,x,1"],
            "none of its titles is known: found 1 such as 'x'",
        ),
        (["sku,title", "1,a"], ["query,id,score", "q,x,1"], "no column 'id': found 'sku', 'title'"),
    ],
)
def test_searches_that_cannot_be_joined_are_refused(
    tmp_path: Path, titles: list[str], qrels: list[str], message: str
) -> None:
    """Every error names the row, or both sides."""
    with pytest.raises(InputError, match=message):
        read_searches(written(tmp_path, "t.csv", *titles), written(tmp_path, "r.csv", *qrels))


def beir(tmp_path: Path, *splits: str) -> Path:
    written(
        tmp_path,
        "corpus.jsonl",
        {"_id": "d1", "title": "Shoe", "text": "A red shoe."},
        {"_id": "d2", "title": "", "text": "Hat"},
    )
    written(tmp_path, "queries.jsonl", {"_id": "d1", "text": "red"}, {"_id": "q2", "text": "hat"})
    for split in splits:
        written(tmp_path, f"qrels/{split}.tsv", "query-id\tcorpus-id\tscore", f"q2\td2\t{len(split)}")
    return tmp_path


def test_a_beir_directory_is_read(tmp_path: Path) -> None:
    """Title and text are joined, and the test judgements are taken unless others are named."""
    read = read_beir(beir(tmp_path, "train", "test"))
    assert read.titles == ["Shoe A red shoe.", "Hat"]
    assert read.queries == ["hat"]
    assert read.relevances == [{"d2": 4.0}]
    assert read.skip_own
    assert read_beir(tmp_path, tmp_path / "qrels/train.tsv").relevances == [{"d2": 5.0}]


def test_unclear_judgements_of_a_beir_directory_are_refused(tmp_path: Path) -> None:
    """Neither of two splits is guessed; no file at all is named as such."""
    with pytest.raises(InputError, match=r"found dev\.tsv, train\.tsv, expected test\.tsv or one file"):
        read_beir(beir(tmp_path, "train", "dev"))
    with pytest.raises(InputError, match=r"found no \.tsv file"):
        read_beir(beir(tmp_path / "other"))
