from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from towers.train.dataset.misspell import confused_words, keyboard_neighbours, misheard, mistyped


def test_neighbours_touch() -> None:
    """As on a QWERTY keyboard, in both directions."""
    near = keyboard_neighbours()
    assert set(near["g"]) == set("rtyfhvb") - {"r"}
    assert set(near["p"]) == set("ol")
    assert set(near["a"]) == set("qwsz")
    assert all(a in near[b] for a, others in near.items() for b in others)


@given(st.text("abcdefghijklmnopqrstuvwxyzABC", min_size=4, max_size=12), st.integers(0, 100))
def test_a_typing_error_is_one_error(word: str, seed: int) -> None:
    """The first letter stays; the length changes by one at most; all is letters."""
    wrong = mistyped(word, random.Random(seed))
    assert wrong is not None
    assert wrong[0] == word[0]
    assert abs(len(wrong) - len(word)) <= 1
    assert wrong.isalpha()


def test_short_words_and_codes_are_left_alone() -> None:
    """They too easily become another word."""
    rng = random.Random(0)
    assert [mistyped(word, rng) for word in ("cat", "x6", "don’t", "rtx-4090", "")] == [None] * 5


def test_homophones_keep_their_capitals() -> None:
    """And words without any are misspelt by rule, or left alone."""
    rng = random.Random(0)
    assert misheard("Their", rng) in ("There", "They're")
    assert misheard("BRAKE", rng) == "BREAK"
    assert misheard("receive", rng) == "recieve"
    assert misheard("thief", rng) == "theif"
    assert misheard("comfortable", rng) == "comfortible"
    assert misheard("xylem", rng) is None


def test_the_lists_are_clean() -> None:
    """Nothing is confused with itself, and no negation is in them."""
    for word, others in confused_words().items():
        assert word not in others
        assert not {"not", "no", "knot", "know"} & {word, *others}
