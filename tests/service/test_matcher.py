"""The smallest complete example: four small things, composed into a Matcher, and what it then answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from index.titles import Title
from service.matcher import Matcher

# A world of three titles in two dimensions: the first number says "sound", the second "light".
TITLES = [Title("t1", "headphones", {}), Title("t2", "lamp", {}), Title("t3", "radio with a lamp", {})]
VECTORS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]], np.float32)
MEANINGS = {"music": [1.0, 0.0], "light": [0.0, 1.0], "speaker": [0.96, 0.28]}


class Towers:
    """Encoder: looks texts up."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([MEANINGS[text] for text in texts], np.float32)

    encode_titles = encode_queries


class Shelf:
    """Searcher and titles: three rows in memory."""

    def search(self, query_vector, k, *, rows=None):
        rows = np.arange(len(TITLES)) if rows is None else rows
        cosines = VECTORS[rows] @ query_vector
        best = np.argsort(-cosines)[:k]
        return cosines[best], rows[best]

    def vectors(self, rows):
        return VECTORS[rows]

    def vectors_of(self, ids):
        places = [next((row for row, title in enumerate(TITLES) if title.id == id), -1) for id in ids]
        return VECTORS[places], np.array(places) >= 0

    def titles(self, rows):
        return [TITLES[row] for row in rows]


class Halves:
    """Scorer: half of what the cosine is above zero; except that lamps are always a good idea."""

    threshold = 0.4

    def score(self, query_vector, title_vectors):
        return np.maximum(title_vectors @ query_vector, title_vectors[:, 1]) / 2


@pytest.fixture
def matcher() -> Matcher:
    return Matcher(encoder=Towers(), searcher=Shelf(), titles=Shelf(), scorer=Halves())


def test_search_finds_candidates_by_cosine_and_orders_them_by_score(matcher: Matcher) -> None:
    """The nearest candidates are taken, then the scorer decides: the lamp overtakes the radio."""
    found = matcher.search("music", k=3, candidates=3)
    assert [title.id for title in found.titles] == ["t1", "t2", "t3"]
    assert found.scores.tolist() == pytest.approx([0.5, 0.5, 0.4])
    assert found.cosines.tolist() == pytest.approx([1.0, 0.0, 0.8])


def test_what_is_no_candidate_is_not_scored(matcher: Matcher) -> None:
    """With two candidates the lamp, farthest from music, has no chance."""
    found = matcher.search("music", k=3, candidates=2)
    assert [title.id for title in found.titles] == ["t1", "t3"]


def test_search_within_rows(matcher: Matcher) -> None:
    """A filter restricts the candidates."""
    found = matcher.search("music", k=3, candidates=3, rows=np.array([1, 2]))
    assert {title.id for title in found.titles} == {"t2", "t3"}


def test_match_judges_each_title_in_the_order_asked(matcher: Matcher) -> None:
    """Ids come first, then texts; a match is a score that reaches the threshold; unknown ids are marked."""
    judged = matcher.match("music", ids=["t3", "t9", "t1"], texts=["light"])
    assert judged.known.tolist() == [True, False, True, True]
    assert judged.scores[judged.known].tolist() == pytest.approx([0.4, 0.5, 0.5])
    assert judged.cosines[judged.known].tolist() == pytest.approx([0.8, 1.0, 0.0])
    assert judged.matches[judged.known].tolist() == [True, True, True]


def test_a_pair_is_judged_as_if_it_were_alone(matcher: Matcher) -> None:
    """Pairs give what one match request for each of them gives."""
    queries, ids, texts = ["music", "light"], ["t1", "t2"], ["speaker"]
    judged = matcher.match_pairs(queries, np.array([1, 0, 0]), ids=ids, texts=texts)
    alone = [
        matcher.match("light", ids=["t1"]),
        matcher.match("music", ids=["t2"]),
        matcher.match("music", texts=["speaker"]),
    ]
    assert judged.scores.tolist() == [float(one.scores[0]) for one in alone]
    assert judged.cosines.tolist() == [float(one.cosines[0]) for one in alone]


def test_a_query_may_be_its_vector(matcher: Matcher) -> None:
    """Whoever has the vector already need not have it made again."""
    by_text = matcher.search("speaker", k=3, candidates=3)
    by_vector = matcher.search(np.array(MEANINGS["speaker"], np.float32), k=3, candidates=3)
    assert by_text.scores.tolist() == by_vector.scores.tolist()


def test_every_stage_is_timed(matcher: Matcher) -> None:
    """The answer says where the time went."""
    assert set(matcher.search("music", k=1, candidates=1).milliseconds) == {
        "encode",
        "search",
        "score",
        "fetch",
    }
    assert set(matcher.match("music", ids=["t1"]).milliseconds) == {"encode", "fetch", "score"}
