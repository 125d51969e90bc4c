"""Errors that people make when they type Chinese by sound: characters of the same syllable or of one a slip away."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import cache

from towers.train.dataset.misspell import keyboard_neighbours
from towers.train.pretraining.segment import Segmenter

_FREQUENT = (
    3500  # the characters of China's standard list of common ones are as many; they are 99.5% of running text
)
# Sounds that many speakers do not tell apart and input methods therefore offer for each other ("fuzzy pinyin").
_FUZZY_STARTS = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("l", "n"), ("f", "h"), ("r", "l"))
_FUZZY_ENDS = (("ang", "an"), ("eng", "en"), ("ing", "in"))


@dataclass(frozen=True)
class Sounds:
    """Which characters have which sound.

    Attributes:
        of_syllable: Syllable without tone -> frequent characters and their frequencies.
        syllable_of: Frequent character -> its commonest syllable.
        slips: Syllable -> syllables that a slip of the finger or the ear makes of it.
    """

    of_syllable: dict[str, dict[str, int]]
    syllable_of: dict[str, str]
    slips: dict[str, tuple[str, ...]]

    def homophone(self, character: str, rng: random.Random) -> str | None:
        """Return another character of the same syllable, frequent ones more often; None if there is none."""
        return self._drawn(self.syllable_of.get(character), character, rng)

    def slip(self, character: str, rng: random.Random) -> str | None:
        """Return a character of a neighbouring syllable; None if there is none."""
        syllables = self.slips.get(self.syllable_of.get(character, ""), ())
        return self._drawn(rng.choice(syllables), character, rng) if syllables else None

    def _drawn(self, syllable: str | None, character: str, rng: random.Random) -> str | None:
        others = {x: n for x, n in self.of_syllable.get(syllable or "", {}).items() if x != character}
        return rng.choices(list(others), list(others.values()))[0] if others else None


@cache
def chinese_sounds() -> Sounds:
    """Make the table from jieba's word frequencies and pypinyin's readings; about a second, once a process."""
    from pypinyin import Style, lazy_pinyin

    counts = _character_counts()
    frequent = dict(counts.most_common(_FREQUENT))
    syllable_of = {x: lazy_pinyin(x, style=Style.NORMAL)[0] for x in frequent}
    of_syllable: dict[str, dict[str, int]] = {}
    for character, syllable in syllable_of.items():
        of_syllable.setdefault(syllable, {})[character] = frequent[character]
    return Sounds(of_syllable, syllable_of, {x: _slips(x, set(of_syllable)) for x in of_syllable})


def _character_counts() -> Counter[str]:
    Segmenter().words("汉字")  # loads jieba, without its chatter
    import jieba

    counts: Counter[str] = Counter()
    for word, count in jieba.dt.FREQ.items():
        if count and all("\u4e00" <= x <= "\u9fff" for x in word):
            for character in word:
                counts[character] += count
    return counts


def _slips(syllable: str, known: set[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for a, b in (*_FUZZY_STARTS, *((b, a) for a, b in _FUZZY_STARTS)):
        if syllable.startswith(a):
            found[b + syllable.removeprefix(a)] = None
    for a, b in (*_FUZZY_ENDS, *((b, a) for a, b in _FUZZY_ENDS)):
        if syllable.endswith(a):
            found[syllable.removesuffix(a) + b] = None
    for at, letter in enumerate(syllable):
        for hit in keyboard_neighbours().get(letter, ""):
            found[syllable[:at] + hit + syllable[at + 1 :]] = None
    return tuple(x for x in found if x in known and x != syllable)
