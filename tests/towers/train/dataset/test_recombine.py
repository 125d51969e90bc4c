from __future__ import annotations

import math

import numpy as np
import pytest

from tests.towers.train.made_up_data import word_vectors
from towers.errors import InputError
from towers.labelled import Pairs
from towers.train.data import PairSet, make_pair_set, split_pairs, text_key
from towers.train.dataset.augment import AugmentRecipe
from towers.train.dataset.recombine import bm25_matrices, recombine_split, recombined

THINGS = [
    "red shoe",
    "blue hat",
    "usb cable",
    "garden hose",
    "desk lamp",
    "蓝色的帽子",
    "手机充电器",
    "夏天的裙子",
]


def made_up(labels: tuple[float, ...] = (1, 0, 0)) -> PairSet:
    """Of each thing its title, that of the next thing and, for another query, a repair; labels in this order."""
    rows = []
    for i, thing in enumerate(THINGS):
        other = THINGS[(i + 1) % len(THINGS)]
        for title, label in zip(
            (f"{thing} in stock", f"{other} in stock", f"{thing} repair"), labels, strict=True
        ):
            query = f"who can repair my {thing}" if "repair" in title else f"is a {thing} in stock"
            rows.append((query, title, label))
    queries, titles, values = zip(*rows, strict=True)
    return make_pair_set(Pairs(list(queries), list(titles), np.array(values, float)), name="made up")


def same_thing(queries: list[str], titles: list[str]) -> np.ndarray:
    """A cross-encoder that knows the answer: 0.9 where both speak of one thing, 0.5 for repairs, else 0.05."""

    def score(query: str, title: str) -> float:
        if not any(thing in query and thing in title for thing in THINGS):
            return 0.05
        return 0.5 if "repair" in title else 0.9

    return np.array([score(q, t) for q, t in zip(queries, titles, strict=True)], np.float32)


def bm25_slowly(query: str, titles: list[str], title: str) -> float:
    """The formula, word by word, with k1 = 1.5 and b = 0.75."""
    words = [t.split() for t in titles]
    mean = sum(map(len, words)) / len(words)
    own, total = title.split(), 0.0
    for word in set(query.split()):
        n, f = sum(word in w for w in words), own.count(word)
        idf = math.log(1 + (len(titles) - n + 0.5) / (n + 0.5))
        total += idf * f * 2.5 / (f + 1.5 * (0.25 + 0.75 * len(own) / mean))
    return total


def test_bm25_is_the_formula() -> None:
    """Each value of the product of matrices is that of the formula; a word of no title counts nothing."""
    titles = ["red shoe red", "blue shoe", "garden hose for the blue garden", "lamp"]
    queries = ["red shoe", "blue garden garden", "unheard of"]
    a, b = bm25_matrices(queries, titles)
    found = (a @ b.T).toarray()
    wanted = [[bm25_slowly(q, titles, t) for t in titles] for q in queries]
    assert np.allclose(found, wanted, atol=1e-5)


def test_bm25_knows_chinese_words() -> None:
    """Cut by jieba: a title that shares a word is found though there are no spaces."""
    a, b = bm25_matrices(["充电器坏了"], ["手机充电器", "夏天的裙子"])
    assert (a @ b.T).toarray()[0, 0] > 0
    assert (a @ b.T).toarray()[0, 1] == 0


@pytest.mark.parametrize("sampling", ["bm25", "vectors"])
def test_new_pairs_are_new_and_labelled_by_the_cross_encoder(sampling: str) -> None:
    """None was labelled before, none twice; 1 and 0 only, and only where the cross-encoder is sure."""
    pairs = made_up((0, 1, 1))  # labels that nobody has to agree with
    recipe = AugmentRecipe(sampling=sampling, new_pairs=4)
    new = recombined(pairs, score=same_thing, recipe=recipe, encode=word_vectors)
    keys = [(text_key(q), text_key(t)) for q, t in zip(new.queries, new.titles, strict=True)]
    known = {(text_key(q), text_key(t)) for q, t in zip(pairs.queries, pairs.titles, strict=True)}
    assert new.queries
    assert len(set(keys)) == len(keys)
    assert not known & set(keys)
    assert set(new.titles) <= set(pairs.titles)
    assert (new.labels == (same_thing(new.queries, new.titles) > 0.5)).all()
    assert ((new.scores >= 0.8) | (new.scores <= 0.2)).all()
    assert new.candidates >= len(keys)


def test_matches_do_not_drown() -> None:
    """No more non-matches for a match than the set itself has, and no more candidates than asked for."""
    pairs = made_up()
    new = recombined(pairs, score=same_thing, recipe=AugmentRecipe(new_pairs=3))
    matches = int((new.labels > 0.5).sum())
    assert (new.labels == 0).sum() <= 2 * max(1, matches)
    assert new.candidates <= 3 * len(pairs)
    assert recombined(pairs, score=same_thing, recipe=AugmentRecipe(new_pairs=0.1)).candidates == 2


def test_grades_stay_grades_and_similarities_are_scores() -> None:
    """Labels are of the kind that the set has."""
    graded = recombined(made_up((4, 1, 2)), score=same_thing)
    assert set(graded.labels.tolist()) <= set(np.unique(made_up((4, 1, 2)).labels).tolist())
    similar = recombined(made_up((4.5, 0.25, 2)), score=same_thing)
    assert (similar.labels == similar.scores).all()


def test_new_pairs_join_the_training_side_and_know_no_other() -> None:
    """All their texts are of the training side; dev stays as it is."""
    pairs = made_up()
    (split,) = split_pairs([pairs], dev_share=0.3, seed=1)
    grown, new = recombine_split(pairs, split, score=same_thing, recipe=AugmentRecipe(new_pairs=3))
    assert len(grown) > len(pairs)
    assert (new.dev[: len(pairs)] == split.dev).all()
    assert new.train[len(pairs) :].all()
    own = {pairs.queries[i] for i in np.flatnonzero(split.train)} | {
        pairs.titles[i] for i in np.flatnonzero(split.train)
    }
    assert {*grown.queries[len(pairs) :], *grown.titles[len(pairs) :]} <= own


def test_what_cannot_be_used_is_told() -> None:
    """Scores outside 0..1, as logits are, and vectors that are asked for and not given."""
    with pytest.raises(InputError, match="in 0 to 1"):
        recombined(made_up(), score=lambda q, t: np.full(len(q), 3.5, np.float32))
    with pytest.raises(InputError, match="needs vectors"):
        recombined(made_up(), score=same_thing, recipe=AugmentRecipe(sampling="vectors"))
