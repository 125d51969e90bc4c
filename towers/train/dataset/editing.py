"""One text, one edit: words left out, exchanged with their neighbours, mistyped or misheard, in English and Chinese.

Negations and words with digits never change, and no word is moved out of a negation's reach.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache

from towers.train.dataset.duplicates import normal_form
from towers.train.dataset.misspell import misheard, mistyped
from towers.train.dataset.negation import negation_spans, negations
from towers.train.dataset.pinyin import chinese_sounds
from towers.train.pretraining.segment import HAN, Segmenter, Span

DELETE, SWAP, TYPING, HOMOPHONE = "delete", "swap", "typing", "homophone"
OPERATIONS = (DELETE, SWAP, TYPING, HOMOPHONE)

_TRIES = 4  # draws for a text before it is given up: most that fail are too short
_CODE = re.compile(rf"[^\s{HAN}，。、]*\d[^\s{HAN}，。、]*")  # "128", "5.5mm" and the whole of "RTX-4090"
_HAN_CHARACTER = re.compile(f"[{HAN}]")


@cache
def shared_editor() -> Editor:
    """Return the one of this process: jieba's dictionary takes two seconds to load."""
    return Editor(Segmenter())


class Editor:
    """Changes words of texts; loads what Chinese needs when the first Chinese word comes."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def changed(self, text: str, operation: str, *, rate: float, rng: random.Random) -> str | None:
        """Return a text after one operation, or None if it is too short or nothing of it may change.

        Its negations are those of the text, in number and kind.
        """
        words = self._segmenter.words(text)
        free = _free(text, words)
        if sum(free) < 2:  # in a text of one word that word is the label
            return None
        count = max(1, round(rate * sum(free)))
        edit: dict[str, Callable[..., str | None]] = {DELETE: _deleted, SWAP: _swapped}
        for _ in range(_TRIES):
            if operation in edit:
                new = edit[operation](text, words, free, count, rng)
            else:
                new = self._respelt(text, words, free, count, operation, rng)
            if (
                new is not None
                and normal_form(new) != normal_form(text)
                and negations(new) == negations(text)
            ):
                return new
        return None

    def _respelt(
        self, text: str, words: list[Span], free: list[bool], count: int, operation: str, rng: random.Random
    ) -> str | None:
        new: dict[Span, str] = {}
        for i in _shuffled([i for i, is_free in enumerate(free) if is_free], rng):
            word = self._word(text[slice(*words[i])], operation, rng)
            if word is not None:
                new[words[i]] = word
            if len(new) == count:
                break
        return _replaced(text, new) if new else None

    def _word(self, word: str, operation: str, rng: random.Random) -> str | None:
        if not _HAN_CHARACTER.match(word):
            return (mistyped if operation == TYPING else misheard)(word, rng)
        at = rng.randrange(len(word))
        sounds = chinese_sounds()
        other = (sounds.slip if operation == TYPING else sounds.homophone)(word[at], rng)
        return None if other is None else word[:at] + other + word[at + 1 :]


def _deleted(text: str, words: list[Span], free: list[bool], count: int, rng: random.Random) -> str | None:
    """Leave words out, with the space before each; at least two words stay."""
    places = [i for i, is_free in enumerate(free) if is_free]
    count = min(count, len([i for i in words if text[i[0]].isalnum()]) - 2, len(places))
    if count < 1:
        return None
    new = _replaced(text, {words[i]: "\0" for i in rng.sample(places, count)})
    return re.sub(" *\0", "", new).strip()


def _swapped(text: str, words: list[Span], free: list[bool], count: int, rng: random.Random) -> str | None:
    """Let neighbours change places, where both are free and no protected word stands beside them."""
    padded = [
        True,
        *(is_free or not text[start].isalnum() for is_free, (start, _) in zip(free, words, strict=True)),
        True,
    ]
    places = [
        i
        for i in range(len(words) - 1)
        if free[i]
        and free[i + 1]
        and padded[i]
        and padded[i + 3]
        and not text[words[i][1] : words[i + 1][0]].strip()
    ]
    new: dict[Span, str] = {}
    for i in _shuffled(places, rng):
        if words[i] not in new and words[i + 1] not in new and len(new) < 2 * count:
            new[words[i]], new[words[i + 1]] = text[slice(*words[i + 1])], text[slice(*words[i])]
    return _replaced(text, new) if new else None


def _free(text: str, words: list[Span]) -> list[bool]:
    """Say which words may change: not negations, words with digits, single letters and signs."""
    taken = bytearray(len(text))
    for start, end in (*negation_spans(text), *(match.span() for match in _CODE.finditer(text))):
        taken[start:end] = b"\1" * (end - start)

    def may(start: int, end: int) -> bool:
        word = text[start:end]
        if any(taken[start:end]) or not word[0].isalnum():
            return False
        return len(word) > 1 or _HAN_CHARACTER.match(word) is not None

    return [may(*span) for span in words]


def _replaced(text: str, new: dict[Span, str]) -> str:
    return "".join(_pieces(text, new))


def _pieces(text: str, new: dict[Span, str]) -> Iterator[str]:
    at = 0
    for (start, end), word in sorted(new.items()):
        yield text[at:start]
        yield word
        at = end
    yield text[at:]


def _shuffled(places: list[int], rng: random.Random) -> list[int]:
    return rng.sample(places, len(places))
