from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.train.dataset.mine import MineRecipe, hard_negatives, known_positives, mine_titles


def unit(rows: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def mine_slowly(queries, titles, cosines, known, count, share):
    """The stupid twin: look at every title of every query."""
    found = []
    for i, query in enumerate(queries):
        ceiling = cosines[i] - (1 - share) * abs(cosines[i])
        rows = [
            (-float(query @ t), j) for j, t in enumerate(titles) if j not in known[i] and query @ t < ceiling
        ]
        found.append([j for _, j in sorted(rows)[:count]])
    return found


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(0, 8), st.integers(1, 4))
def test_it_finds_what_looking_at_every_title_finds(seed: int, q: int, t: int, count: int) -> None:
    """The closest titles below the margin, known matches left out, best first."""
    rng = np.random.default_rng(seed)
    queries, titles = unit(q, seed), unit(t, seed + 1)
    cosines = rng.uniform(-1, 1, q).astype(np.float32)
    known = [np.flatnonzero(rng.random(t) < 0.3) for _ in range(q)]
    found = hard_negatives(
        queries, titles, positive_cosines=cosines, known=known, count=count, share_of_positive=0.9
    )
    slow = mine_slowly(queries, titles, cosines, known, count, 0.9)
    assert [rows.tolist() for rows in found] == slow


@pytest.mark.parametrize("positive", [0.9, 0.0, -0.5])
def test_a_title_as_close_as_the_match_is_left_alone(positive: float) -> None:
    """It may be a match that nobody labelled; the margin holds for cosines below 0 as well."""
    query = np.array([[1, 0]], np.float32)
    titles = np.array([[c, np.sqrt(1 - c * c)] for c in (positive, positive - 0.2)], np.float32)
    (rows,) = hard_negatives(
        query,
        titles,
        positive_cosines=np.array([positive], np.float32),
        known=[np.empty(0, np.int64)],
        count=2,
    )
    assert rows.tolist() == [1]


def test_matches_are_known_in_both_directions() -> None:
    """A pair's query is a match of its title; a text is always a match of itself; case makes no difference."""
    known = known_positives(["A", "a", "c"], ["b", "X", "B"], np.array([True, False, True]))
    assert known["a"] == {"a", "b"}
    assert known["b"] == {"a", "b", "c"}
    assert known["x"] == {"x"}


# The whole: texts in, pairs out.

SPACE = {
    "red shoe": (1.0, 0.0, 0.0),
    "red running shoe": (0.95, 0.3122, 0.0),
    "RED running SHOE": (0.95, 0.3122, 0.0),
    "scarlet running shoe": (0.949, 0.3150, 0.01),  # the match in other words
    "red boot": (0.8, 0.0, 0.6),
    "blue shoe": (0.7, 0.0, -0.7141),
    "usb cable": (0.0, 1.0, 0.0),
    "charging cable": (0.1, 0.995, 0.0),
}


def placed(texts):
    vectors = np.array([SPACE[text] for text in texts], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mine(rows, **settings):
    queries, titles, labels = zip(*rows, strict=True)
    more = {name: settings.pop(name) for name in ("candidates", "score") if name in settings}
    return mine_titles(
        list(queries),
        list(titles),
        np.array(labels, bool),
        encode=placed,
        recipe=MineRecipe(**{"count": 9, **settings}),
        **more,
    )


def test_matches_copies_of_them_and_titles_too_close_are_left_out() -> None:
    """Known matches in any case, their copies under other words, what is as close as the match, what has a label."""
    rows = [
        ("red shoe", "red running shoe", 1),
        ("red shoe", "blue shoe", 0),
        ("usb cable", "charging cable", 1),
    ]
    found = mine(rows, candidates=["RED running SHOE", "scarlet running shoe", "red boot", "usb cable"])
    of_shoe = [entry.title for entry in found if entry.query == "red shoe"]
    assert of_shoe == ["red boot", "charging cable", "usb cable"]
    assert "usb cable" not in [entry.title for entry in found if entry.query == "usb cable"]
    assert found[0].cosine == pytest.approx(0.8, abs=1e-4)
    # 0.8 is more than 0.7 of the match's 0.95
    strict = mine(rows, candidates=["red boot"], share_of_positive=0.7)
    assert "red boot" not in [entry.title for entry in strict if entry.query == "red shoe"]
    # nor is anything left out for being a copy when copies are said to be the same vector only
    loose = mine(rows, candidates=["scarlet running shoe"], copy=1.0, share_of_positive=1.0)
    assert "scarlet running shoe" in [entry.title for entry in loose]


def test_a_match_in_the_other_direction_is_none() -> None:
    """A title whose query is asked for elsewhere."""
    rows = [("red shoe", "red running shoe", 1), ("red boot", "red shoe", 1)]
    assert [e.title for e in mine(rows) if e.query == "red shoe"] == []


def test_queries_without_a_match_get_none_and_count_limits() -> None:
    """There is no margin to keep where nothing is known to match."""
    rows = [("red shoe", "red running shoe", 1), ("blue shoe", "usb cable", 0)]
    found = mine(rows, candidates=["charging cable", "red boot"], count=1)
    assert [(entry.query, entry.title) for entry in found] == [("red shoe", "red boot")]
    assert mine([("blue shoe", "usb cable", 0)]) == []


def test_the_cross_encoder_has_a_say() -> None:
    """What it takes for a match is not mined; its score is kept."""
    rows = [("red shoe", "red running shoe", 1)]

    def score(queries, titles):
        return np.array([0.7 if "boot" in title else 0.05 for title in titles], np.float32)

    found = mine(rows, candidates=["red boot", "usb cable"], score=score)
    assert [(entry.title, round(entry.score, 2)) for entry in found] == [("usb cable", 0.05)]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"copy": 0}, {"share_of_positive": 1.2}, {"most_score": 0}])
def test_nonsense_is_refused(wrong) -> None:
    """With what was found and what is expected."""
    with pytest.raises(InputError, match=f"found {next(iter(wrong))}.*expected"):
        MineRecipe(**wrong)
