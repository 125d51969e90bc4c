"""Names and numbers in a text, by the user's list and by rule, so that masks can prefer them (ERNIE, Sun et al. 2019).

Rules, for those who have no list: numbers, dates and amounts with their units, model codes such as RTX-4090, Chinese
book titles in their marks, Chinese names by jieba's part of speech, and capitalised words inside sentences. Rules miss
names and take some words for names; that is harmless here, where they only say what is masked more often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from towers.train.pretraining.segment import HAN, Segmenter, Span

ENTITY, NUMBER = "entity", "number"

# A unit glued to its number ("3.5kg") is part of the word; these may also stand after a space.
_UNITS = (
    "kg|g|mg|lbs?|oz|km|cm|mm|nm|inch(?:es)?|ft|ml|l|gb|tb|mb|kb|ghz|mhz|hz|kwh?|w|mah|v|px|mp|fps|rpm|"
    "usd|eur|gbp|rmb|cny|percent|hours?|minutes?|seconds?|days?|weeks?|months?|years?|million|billion"
)
_CHINESE_UNITS = (
    "个月|小时|分钟|厘米|毫米|公里|千米|千克|公斤|毫升|英寸|美元|人民币|摄氏度|"
    "年代|年|月|日|号|点|分|秒|周|天|岁|元|块|万|亿|千|百|米|克|斤|升|寸|度|倍|折|集|季|期|代|届|楼|路"
)
_NUMBER = re.compile(
    r"[$€£¥￥]?(?<![A-Za-z0-9])"
    r"(?=[A-Za-z0-9._/-]*[0-9])"  # somewhere in the run there is a digit
    r"[A-Za-z0-9]+(?:[-_/.][A-Za-z0-9]+|(?<=[0-9])[,:][0-9]+)*"
    rf"(?:\s?[%‰°℃]|(?<=[0-9])\s(?:{_UNITS})(?![A-Za-z0-9])|(?<=[0-9])(?:{_CHINESE_UNITS})+)?",
    re.IGNORECASE,
)
_BOOK = re.compile(r"《([^《》\n]{1,40})》|〈([^〈〉\n]{1,40})〉")
_HAN = re.compile(f"[{HAN}]")
_HEADING = 0.7  # share of capitalised words from which a text is a heading; guess, untested
_SENTENCE_ENDS = ".!?;:。！？；：…\n"
_OPENING = "\"'“”‘’([（【「"
_JOINS = frozenset({" ", "-", "&", " & ", "'", "’"})


class EntityFinder:
    """Finds the entities of texts."""

    def __init__(self, segmenter: Segmenter, listed: Iterable[str] = ()) -> None:
        """Make a finder.

        Args:
            segmenter: Says which Chinese words are names.
            listed: The user's own entities; upper and lower case are the same.
        """
        self._segmenter = segmenter
        self._listed: dict[str, list[str]] = {}
        for entity in sorted({_folded(x.strip()) for x in listed} - {""}, key=len, reverse=True):
            self._listed.setdefault(entity[:2], []).append(entity)

    def find(self, text: str, words: Sequence[Span]) -> list[tuple[int, int, str]]:
        """Return (start, end, "entity" or "number") of a text's entities, in order and without overlap.

        Args:
            text: The text.
            words: Its words, from the segmenter.
        """
        taken = bytearray(len(text))
        found: list[tuple[int, int, str]] = []
        for start, end, kind in self._candidates(text, words):
            if not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found.append((start, end, kind))
        return sorted(found)

    def _candidates(self, text: str, words: Sequence[Span]) -> Iterator[tuple[int, int, str]]:
        """What may be an entity; where two overlap, the earlier of these counts."""
        yield from ((*span, ENTITY) for span in self._from_list(text))
        yield from ((*match.span(match.lastindex or 0), ENTITY) for match in _BOOK.finditer(text))
        yield from ((*match.span(), NUMBER) for match in _NUMBER.finditer(text))
        yield from ((*span, ENTITY) for span in _capitalised(text, words))
        for start, end in words:
            if _is_han(text[start]) and self._segmenter.is_name(text[start:end]):
                yield start, end, ENTITY

    def _from_list(self, text: str) -> Iterator[Span]:
        """Listed entities, the longest that starts at a place."""
        if not self._listed:
            return
        folded = _folded(text)
        for start in range(len(folded)):
            if _inside_word(folded, start):
                continue
            # an entity of one character is kept under that character
            likely = (*self._listed.get(folded[start : start + 2], ()), *self._listed.get(folded[start], ()))
            ends = (start + len(entity) for entity in likely if folded.startswith(entity, start))
            if end := next((end for end in ends if not _inside_word(folded, end)), 0):
                yield start, end


def _folded(text: str) -> str:
    """Lower case, of the same length: a few characters would become two."""
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _is_han(character: str) -> bool:
    return _HAN.match(character) is not None


def _inside_word(text: str, at: int) -> bool:
    """Whether a place is between two letters of a script that has spaces."""
    if not 0 < at < len(text):
        return False
    return all(x.isalnum() and not _is_han(x) for x in text[at - 1 : at + 1])


def _capitalised(text: str, words: Sequence[Span]) -> Iterator[Span]:
    """Runs of capitalised words that no sentence starts with.

    Where most words of a text are capitalised, as in headings and product titles, capitals say nothing and none is
    taken; in a text that is mostly Chinese every Latin word with a capital counts.
    """
    latin = [span for span in words if text[span[0]].isalpha() and not _is_han(text[span[0]])]
    chinese = len(_HAN.findall(text)) >= max(1, len(latin))  # a Latin word says as much as a character
    inside = latin if chinese else [span for span in latin if not _starts_sentence(text, span[0])]
    capital = [(start, end) for start, end in inside if any(x.isupper() for x in text[start:end])]
    if not chinese and len(capital) > _HEADING * len(inside):
        return
    names = [span for span in capital if span[1] - span[0] > 1]  # "I" is none
    while names:
        start, end = names.pop(0)
        while names and text[end : names[0][0]] in _JOINS:
            end = names.pop(0)[1]
        yield start, end


def _starts_sentence(text: str, at: int) -> bool:
    before = text[max(0, at - 20) : at].rstrip(" \t" + _OPENING)
    return not before or before[-1] in _SENTENCE_ENDS
