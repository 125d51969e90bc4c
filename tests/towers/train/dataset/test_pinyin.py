from __future__ import annotations

import random

import pytest

from towers.train.dataset.pinyin import Sounds, chinese_sounds


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return chinese_sounds()


def test_homophones_sound_the_same(sounds: Sounds) -> None:
    """The same syllable, another character, and frequent ones more often than rare ones."""
    rng = random.Random(0)
    drawn = [sounds.homophone("再", rng) for _ in range(200)]
    assert {sounds.syllable_of[x] for x in drawn if x} == {"zai"}
    assert "再" not in drawn
    assert drawn.count("在") > 100


def test_slips_are_a_letter_or_a_fuzzy_sound_away(sounds: Sounds) -> None:
    """As those know who type pinyin: zh and z, n and l, in and ing, or the key beside."""
    assert {"zi", "shi", "chi", "zho", "zhu"} & set(sounds.slips["zhi"]) >= {"zi"}
    assert "lan" in sounds.slips["nan"]
    assert "xing" in sounds.slips["xin"]
    assert all(x in sounds.of_syllable for others in sounds.slips.values() for x in others)
    other = sounds.slip("南", random.Random(1))
    assert other is not None
    assert sounds.syllable_of[other] in sounds.slips["nan"]


def test_what_is_no_frequent_character_has_no_sound(sounds: Sounds) -> None:
    """Latin letters, signs and rare characters are left alone."""
    assert [sounds.homophone(x, random.Random(0)) for x in ("a", "，", "龘")] == [None] * 3
    assert sounds.slip("a", random.Random(0)) is None
