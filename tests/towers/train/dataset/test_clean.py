"""Errors are planted in data that reads like real data, and have to be found; what is right has to stay."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.towers.train.made_up_data import sentences, word_vectors
from towers.errors import InputError
from towers.labelled import Pairs, Texts
from towers.train.data import make_pair_set, split_pairs
from towers.train.dataset.clean import (
    CONFLICT,
    EMPTY,
    ERROR,
    EXACT,
    NEAR,
    CleanRecipe,
    Sifted,
    clean_split,
    clean_texts,
    sift,
)
from towers.train.dataset.doubt import Signals

PLAIN = CleanRecipe(label_errors=False)


def reasons(sifted: Sifted) -> dict[int, str]:
    return {entry.row: entry.reason for entry in sifted.removed}


def share_found(sifted: Sifted, planted: list[int], *of: str) -> float:
    found = reasons(sifted)
    return sum(found.get(row) in of for row in planted) / len(planted)


def test_planted_errors_are_lost_and_good_rows_stay() -> None:
    """Of each kind at least 80% go, for their own reason; of 640 good rows at most 3% go with them."""
    texts, labels = sentences()
    rng = random.Random(5)
    drawn = rng.sample(range(len(texts)), 160)
    exact, near, conflict, flipped = (drawn[i : i + 40] for i in (0, 40, 80, 120))
    planted = [f"  {texts[i].upper()}" for i in exact]
    planted += [texts[i].replace("the ", "teh ", 1).rstrip(".。!") + "!!" for i in near]
    # Three people say so, one says otherwise.
    planted += [texts[i] for i in conflict for _ in range(3)]
    votes = [label for i in conflict for label in (labels[i], labels[i], -labels[i])]
    noisy = [-label if i in set(flipped) else label for i, label in enumerate(labels)]
    all_labels = [*noisy, *(labels[i] for i in (*exact, *near)), *votes]
    sifted = sift([(x,) for x in [*texts, *planted]], all_labels, encode=word_vectors)
    at = len(texts)
    assert share_found(sifted, list(range(at, at + 40)), EXACT) == 1
    assert share_found(sifted, list(range(at + 40, at + 80)), NEAR, EXACT) >= 0.8
    assert share_found(sifted, list(range(at + 82, at + 200, 3)), CONFLICT) == 1
    assert share_found(sifted, flipped, ERROR, CONFLICT, NEAR) >= 0.8
    good = [i for i in range(at) if i not in set(flipped)]
    assert sum(i in reasons(sifted) for i in good) <= 0.03 * len(good)


def test_nothing_is_lost() -> None:
    """Every row is kept or removed, in order, and never both."""
    texts, labels = sentences()
    rows = [(x,) for x in texts[:50] + texts[:20] + ["", " "]]
    sifted = sift(rows, labels[:50] + labels[5:25] + [1, 1], encode=word_vectors)
    assert sorted([*sifted.kept.tolist(), *(entry.row for entry in sifted.removed)]) == list(range(72))
    assert sifted.kept.tolist() == sorted(sifted.kept)
    assert sum(sifted.counts.values()) == len(sifted.removed)
    assert sifted.counts[EMPTY] == 2


def test_a_removed_row_says_why() -> None:
    """A repeat names the row that stays, a contradiction a row it contradicts, an error its label's probability."""
    rows = [("Red shoe",), ("Blue hat",), ("red  shoe",), ("BLUE hat",)]
    sifted = sift(rows, [1, 1, 1, -1], recipe=PLAIN)
    assert [(e.row, e.reason, e.partner) for e in sifted.removed] == [
        (1, CONFLICT, 3),
        (2, EXACT, 0),
        (3, CONFLICT, 1),
    ]
    texts, labels = sentences()
    labels = [-label if i % 20 == 7 else label for i, label in enumerate(labels)]
    errors = sift([(x,) for x in texts], labels, recipe=CleanRecipe(near=1), encode=word_vectors).removed
    (entry,) = [e for e in errors if e.row == 47]
    assert entry.reason == ERROR
    assert entry.suggested == -labels[47]
    assert entry.confidence is not None
    assert entry.confidence < 0.25


@pytest.mark.parametrize(("conflicts", "kept"), [("majority", [0, 3]), ("drop", [3]), ("keep", [0, 2, 3])])
def test_contradictions_are_settled_as_asked(conflicts: str, kept: list[int]) -> None:
    """By the majority, by nobody, or not at all; repeats go in any case."""
    rows = [("same thing", "a title")] * 3 + [("another", "a title")]
    recipe = CleanRecipe(label_errors=False, conflicts=conflicts)
    assert sift(rows, [1, 1, 0, 0], recipe=recipe).kept.tolist() == kept


def test_neighbouring_grades_are_no_contradiction() -> None:
    """Of the same pair graded 3 and 4 of 1..4 one stays; graded 1 and 4, none."""
    rows = [("q", "a"), ("q", "a"), ("q", "b"), ("q", "b")]
    sifted = sift(rows, [3, 4, 1, 4], recipe=PLAIN)
    assert sifted.kept.tolist() == [0]
    assert reasons(sifted) == {1: EXACT, 2: CONFLICT, 3: CONFLICT}


def test_a_grade_in_the_middle_of_a_contradiction_goes_with_it() -> None:
    """Nobody can say which of 1, 2 and 3 is right where 1 and 3 contradict each other; none names itself."""
    sifted = sift([("q", "a")] * 3, [2, 1, 3], recipe=CleanRecipe(label_errors=False, gap=0.6))
    assert [(e.row, e.reason, e.partner) for e in sifted.removed] == [
        (0, CONFLICT, 1),
        (1, CONFLICT, 2),
        (2, CONFLICT, 1),
    ]


def test_a_pair_repeats_only_if_both_sides_do() -> None:
    """Another title for the same query is another pair."""
    rows = [
        ("where is my parcel today", "track a parcel"),
        ("where is my parcel today?", "Track a parcel!"),
        ("where is my parcel today", "send a parcel abroad"),
    ]
    assert reasons(sift(rows, [1, 1, 0], recipe=PLAIN)) == {1: NEAR}


def wrong_pairs() -> tuple[list[tuple[str, str]], list[int], list[int]]:
    """400 pairs of a sentence with itself, reworded, or with another one; of 20 the label is wrong."""
    texts, _ = sentences(seed=3)
    rng = random.Random(0)
    rows = [(text, f"{text[:-1]}, they say.") for text in texts[:200]]
    rows += [(text, rng.choice(texts[400:])) for text in texts[200:400]]
    labels = [1] * 200 + [0] * 200
    flipped = rng.sample(range(400), 20)
    return rows, [1 - x if i in flipped else x for i, x in enumerate(labels)], flipped


def test_wrong_pairs_are_found() -> None:
    """At least 80% of the flipped labels, and few others; a scorer's word counts as well."""
    rows, labels, flipped = wrong_pairs()
    scored = Signals(word_vectors, score=lambda u, v: (0.5 + 0.5 * (u * v).sum(axis=1)).astype(np.float32))
    for encode in (word_vectors, scored):
        sifted = sift(rows, labels, recipe=CleanRecipe(near=1), encode=encode)
        assert share_found(sifted, flipped, ERROR) >= 0.8
        assert len(sifted.removed) <= 20 + 12


def test_the_same_seed_gives_the_same() -> None:
    """Cleaning twice removes the same rows."""
    rows, labels, _ = wrong_pairs()
    first, second = (sift(rows, labels, encode=word_vectors) for _ in range(2))
    assert first.removed == second.removed


def test_too_few_rows_of_a_label_are_left_alone_and_told() -> None:
    """Nothing can be said of a label that occurs three times; the others are judged."""
    texts, labels = sentences()
    labels[:3] = [0, 0, 0]
    sifted = sift([(x,) for x in texts], labels, recipe=CleanRecipe(near=1), encode=word_vectors)
    assert not {0, 1, 2} & set(reasons(sifted))
    assert any("3 rows" in note for note in sifted.notes)
    few = sift([("a b",), ("c d",)], [1, 0], encode=word_vectors)
    assert few.kept.tolist() == [0, 1]
    assert any("not looked for" in note for note in few.notes)


def test_only_the_training_side_of_a_set_is_cleaned() -> None:
    """Dev stays what it was; a 1/0 set's merged contradiction, whose label is between, goes."""
    rows, labels, _ = wrong_pairs()
    rows.append(rows[0])
    queries, titles = [a for a, _ in rows], [b for _, b in rows]
    pairs = make_pair_set(Pairs(queries, titles, np.array([*labels, 1 - labels[0]], float)), name="made up")
    (split,) = split_pairs([pairs], dev_share=0.2, seed=0)
    cleaned = clean_split(pairs, split, encode=word_vectors)
    assert (cleaned.kept.dev == split.dev).all()
    assert not (cleaned.kept.train & ~split.train).any()
    assert set(cleaned.sifted.kept) == set(np.flatnonzero(cleaned.kept.train))
    gone = {entry.row for entry in cleaned.sifted.removed}
    assert gone == set(np.flatnonzero(split.train & ~cleaned.kept.train))
    assert all(split.train[e.partner] for e in cleaned.sifted.removed if e.partner is not None)


def test_texts_come_back_as_texts() -> None:
    """What is kept, with its labels."""
    texts, labels = sentences()
    data = Texts([*texts[:60], texts[0]], np.array([*labels[:60], labels[0]]))
    cleaned = clean_texts(data, recipe=PLAIN)
    assert cleaned.kept.texts == [data.texts[i] for i in cleaned.sifted.kept]
    assert cleaned.kept.labels.tolist() == [data.labels[i] for i in cleaned.sifted.kept]
    assert 60 not in cleaned.sifted.kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"conflicts": "both"},
        {"near": 0.1},
        {"near": 1.2},
        {"ratio": -1},
        {"gap": 0},
        {"folds": 1},
        {"permutations": 2},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    """With what was found and what is expected."""
    with pytest.raises(InputError, match=f"found.*{next(iter(wrong))}.*expected"):
        CleanRecipe(**wrong)  # type: ignore[arg-type]


def test_label_errors_need_vectors() -> None:
    """The error says how to do without."""
    with pytest.raises(InputError, match="label_errors = false"):
        sift([("a",)], [1])
