from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.train.pretraining.entities import EntityFinder
from towers.train.pretraining.segment import Segmenter

SEGMENTER = Segmenter()
BY_RULE = EntityFinder(SEGMENTER)


def found(text: str, finder: EntityFinder = BY_RULE) -> list[tuple[str, str]]:
    return [(text[start:end], kind) for start, end, kind in finder.find(text, SEGMENTER.words(text))]


def listed(*entities: str) -> EntityFinder:
    return EntityFinder(SEGMENTER, entities)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("the card is an RTX-4090 for $1,599.99", ["RTX-4090", "$1,599.99"]),
        ("on 2024-11-22 at 10:30", ["2024-11-22", "10:30"]),
        ("24 GB, 3.5kg, 50% off, 10/100", ["24 GB", "3.5kg", "50%", "10/100"]),
        ("a 4k60 tv within 3 hours", ["4k60", "3 hours"]),
        ("5 in the box", ["5"]),
        ("卖了35元，2023年底，iPhone15", ["35元", "2023年", "iPhone15"]),
        ("state-of-the-art and/or well-known", []),
    ],
)
def test_numbers_are_found_with_units_and_model_codes(text: str, numbers: list[str]) -> None:
    """A run with a digit is one number: amounts, dates, units glued to it or known ones behind a space, codes."""
    assert [word for word, kind in found(text) if kind == "number"] == numbers


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("We met Bill Gates in New York.", ["Bill Gates", "New York"]),
        ("Yesterday I saw it. Nothing there", []),  # capitals that sentences start with, and a single letter
        ('He said: "Never go to Paris"', ["Paris"]),
        ("Apple Mac Mini Silver Case", []),  # every word is capitalised, as in titles
        ("买Nike鞋和Nike Air", ["Nike", "Nike Air"]),  # Chinese sentences start with no capital
        ("我读《红楼梦》和〈呐喊〉", ["红楼梦", "呐喊"]),
        ("马云在北京大学", ["马云", "北京大学"]),
        ("请取消订单", []),
    ],
)
def test_names_are_found_by_rule(text: str, names: list[str]) -> None:
    """Capitalised words inside sentences, book titles in their marks, Chinese names by part of speech."""
    assert [word for word, kind in found(text) if kind == "entity"] == names


def test_listed_entities_are_found_whole_and_longest_first() -> None:
    """The user's list finds whole words in any case, in Chinese anywhere; the longest that starts at a place."""
    finder = listed("blue shoe", "blue", "红米", "红米 Note", "茶", " ", "x1")
    assert found("a BLUE shoe, blue shoes", finder) == [("BLUE shoe", "entity"), ("blue", "entity")]
    assert found("bluetooth", finder) == []
    assert found("买红米 note和茶", finder) == [("红米 note", "entity"), ("茶", "entity")]


def test_the_users_list_comes_before_the_rules() -> None:
    """What the list calls an entity is one, whatever a rule would say of a part of it."""
    assert found("an RTX-4090 card", listed("RTX-4090 card")) == [("RTX-4090 card", "entity")]


@given(
    st.text(alphabet="aBc 12.-,$《》北京马云İ", max_size=30), st.lists(st.text(alphabet="aB1北 ", max_size=4))
)
def test_entities_do_not_overlap(text: str, entities: list[str]) -> None:
    """Whatever the text and the list: entities stand in order, hold something and share no character."""
    spans = listed(*entities).find(text, SEGMENTER.words(text))
    assert all(0 <= start < end <= len(text) for start, end, _ in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
