from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.towers.train.made_up_data import sentences
from towers.train.dataset.duplicates import jaccard, near_leaders, normal_form, same_meaning, shingles


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Red  Shoe ", "red shoe"),
        ("ＵＳＢ－Ｃ 线", "usb-c 线"),
        ("STRASSE", "straße"),
    ],
)
def test_case_space_and_width_make_no_difference(a: str, b: str) -> None:
    """NFKC, case folded, spaces collapsed."""
    assert normal_form(a) == normal_form(b)


def leaders_slowly(texts: list[str], near: float) -> list[int]:
    """The stupid twin: hold every text against every leader before it."""
    leaders: list[int] = []
    for i, text in enumerate(texts):
        found = [
            (-jaccard(shingles(text), shingles(texts[j])), j)
            for j in range(i)
            if leaders[j] == j
            and jaccard(shingles(text), shingles(texts[j])) >= near
            and same_meaning(text, texts[j])
        ]
        leaders.append(min(found)[1] if found else i)
    return leaders


def test_hashing_finds_what_comparing_all_texts_finds() -> None:
    """Nearly all of it: a hash may miss a pair at the threshold, and never adds one."""
    texts = [normal_form(text) for text in sentences()[0][:150]]
    texts += [text.replace("the", "teh", 1) for text in texts] + [text + " really" for text in texts]
    texts = list(dict.fromkeys(texts))
    for near in (0.7, 0.8):
        slow, fast = np.array(leaders_slowly(texts, near)), near_leaders(texts, near=near)
        joined = slow != np.arange(len(texts))
        assert joined.sum() > 50
        assert (slow == fast).mean() > 0.98
        for i in np.flatnonzero(fast != np.arange(len(texts))):
            assert jaccard(shingles(texts[i]), shingles(texts[fast[i]])) >= near


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("velora x5 smartphone, 128 gb, midnight blue", "velora x5 smartphone, 256 gb, midnight blue"),
        ("hp 55x original black toner cartridge", "hp 55a original black toner cartridge"),
        (
            "the room was clean and i would come back here",
            "the room was not clean and i would come back here",
        ),
        (
            "nylon braided fast charging cable for phones, black",
            "nylon braided fast charging cable for phones, white",
        ),
        (
            "this running shirt for men dries within minutes",
            "this running shirt for women dries within minutes",
        ),
        ("what a day it was with all of you :)", "what a day it was with all of you :("),
        ("这家酒店的房间很干净，服务员的态度也很好", "这家酒店的房间不干净，服务员的态度也很好"),
        ("这家餐厅的菜味道很好，下次还会再来的", "这家餐厅的菜味道很坏，下次还会再来的"),
    ],
)
def test_what_changes_the_meaning_is_no_repeat(a: str, b: str) -> None:
    """A number, a model, a negation, a colour, a face or the one word that counts."""
    assert near_leaders([a, b], near=0.5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("how do i recieve my parcel at the station?", "how do i receive my parcel at the station"),
        ("lorell radio controlled black wall clock", "lorell black radio controlled wall clock"),
        ("where can i download the forms", "where can i download the forms please"),
        ("书店里买不到的书是什么书?", "书店里买不到的书是什么书！"),
        ("我们明天在火车站见面然后一起去吃饭", "我们明天再火车站见面然后一起去吃饭"),
    ],
)
def test_what_does_not_is_one(a: str, b: str) -> None:
    """A misspelling, another order, an added word, punctuation, a homophone."""
    assert near_leaders([a, b], near=0.6).tolist() == [0, 0]


@given(st.lists(st.text(max_size=30).map(normal_form), unique=True, max_size=12))
def test_a_leader_leads_itself_and_comes_first(texts: list[str]) -> None:
    """For any text at all, so no chain has to be followed."""
    leaders = near_leaders(texts, near=0.6)
    assert (leaders <= np.arange(len(texts))).all()
    assert (leaders[leaders] == leaders).all()


def test_one_switches_near_duplicates_off() -> None:
    """Then a text has nobody but itself."""
    assert near_leaders(["same text here", "same text here!"], near=1).tolist() == [0, 1]
