from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.train.pretraining.segment import Segmenter, WordCounts, count_words

SEGMENTER = Segmenter()
MIXED = st.text(alphabet="abZ9 .-'éß我在北京大学《》\n，", max_size=40)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in SEGMENTER.words(text)]


def test_chinese_is_cut_by_jieba_and_the_rest_as_bert_does() -> None:
    """Chinese words have one or more characters; letters and digits stay together, other characters stand alone."""
    assert words("我在北京大学买了iPhone15, don't") == [
        *("我", "在", "北京大学", "买", "了"),
        *("iPhone15", ",", "don", "'", "t"),
    ]
    assert words("cafe\u0301 x") == ["cafe\u0301", "x"]  # the accent is a character of its own
    assert words("") == words(" \n") == []


@given(MIXED)
def test_words_are_all_of_the_text_but_its_white_space(text: str) -> None:
    """Words stand in order, do not overlap, and leave out white space alone."""
    spans = SEGMENTER.words(text)
    assert all(start < end for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert "".join(words(text)) == "".join(text.split())


@pytest.mark.parametrize(
    ("word", "name"),
    [("北京大学", True), ("马云", True), ("俄罗斯", True), ("雷明登", True), ("手机", False), ("我", False)],
)
def test_names_are_told_by_part_of_speech(word: str, name: bool) -> None:
    """Known names by jieba's dictionary, unknown ones by its tagger, asked once or again."""
    assert SEGMENTER.is_name(word) is name
    assert SEGMENTER.is_name(word) is name


def test_counting_is_counting() -> None:
    """Counts are of words in lower case; what was never seen counts 0."""
    counts = count_words(["Red shoe, red hat", "RED 手机 手机"], SEGMENTER, rare_share=0.2)
    assert counts.counts == Counter({"red": 3, "shoe": 1, ",": 1, "hat": 1, "手机": 2})
    assert (counts.of("Red"), counts.of("blue")) == (3, 0)


def test_rare_words_make_up_their_share_of_the_text() -> None:
    """The least frequent words are rare up to the share of running words; words that occur once always are."""
    texts = ["a"] * 60 + ["b"] * 25 + ["c"] * 10 + ["d"] * 5
    for share, rare_below in ((0.0, 1), (0.04, 1), (0.05, 5), (0.15, 10), (0.39, 10), (0.4, 25), (1.0, 60)):
        assert count_words(texts, SEGMENTER, rare_share=share).rare_below == rare_below, share
    assert count_words(["a b c"], SEGMENTER, rare_share=0.1) == WordCounts({"a": 1, "b": 1, "c": 1}, 1)
    assert count_words([], SEGMENTER, rare_share=0.1).rare_below == 1


def test_jieba_loads_late_and_without_noise() -> None:
    """English needs no jieba; loading it prints nothing and passes with warnings as errors."""
    code = (
        "import sys; from towers.train.pretraining.segment import Segmenter; s = Segmenter(); s.words('red shoe');"
        "print('jieba' in sys.modules); s.words('红鞋子'); print('jieba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False\nTrue\n", "")
