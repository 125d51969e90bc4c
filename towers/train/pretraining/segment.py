"""Words of a text, Chinese and English mixed, with their places; how often each occurs; which Chinese ones are names.

Runs of Chinese characters are cut by jieba, which is loaded when the first such run comes. Everything else is cut as
BERT's own tokenizer does before it cuts words into pieces: letters and digits stay together, other characters stand
alone (Devlin et al. 2019).
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Span = tuple[int, int]
"""Start and end of a word in its text, in characters."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS = "\u0300-\u036f"  # accents written as characters of their own
_WORD = re.compile(rf"([{HAN}]+)|[^\W_{HAN}](?:[^\W_{HAN}]|[{_MARKS}])*|\S")
# jieba's tags (those of ICTCLAS) for persons, places, organisations and other proper names.
_NAME_TAGS = frozenset({"nr", "nrfg", "nrt", "ns", "nt", "nz"})


class Segmenter:
    """Cuts texts into words."""

    def __init__(self) -> None:
        self._tagger: Any = None
        self._guessed: dict[str, str] = {}  # tags of words that jieba's dictionary does not have

    def words(self, text: str) -> list[Span]:
        """Return the places of a text's words, in order and without overlap; white space belongs to none."""
        found: list[Span] = []
        for match in _WORD.finditer(text):
            if match.group(1) is None:
                found.append(match.span())
            else:
                at = match.start()
                cut = self._jieba().tokenizer.tokenize(match.group(1))
                found.extend((at + start, at + end) for _, start, end in cut)
        return found

    def is_name(self, word: str) -> bool:
        """Whether a Chinese word is a person, place, organisation or other proper name, by jieba's part of speech."""
        if len(word) < 2:
            return False
        tagger = self._jieba()
        tag = tagger.word_tag_tab.get(word) or self._guessed.get(word)
        if tag is None:
            # Tagging whole texts takes ten times as long as cutting them (0.9 ms for a news title), so the tagger sees
            # unknown words only, each once. A word that it cuts again is no single name.
            pieces = list(tagger.cut(word))
            tag = self._guessed[word] = pieces[0].flag if len(pieces) == 1 else "x"
        return tag in _NAME_TAGS

    def _jieba(self) -> Any:
        if self._tagger is None:
            self._tagger = _load_jieba()
        return self._tagger


@dataclass(frozen=True)
class WordCounts:
    """How often each word occurs in the user's own texts.

    Attributes:
        counts: Word in lower case -> occurrences.
        rare_below: Words that occur at most this often are rare.
    """

    counts: Mapping[str, int]
    rare_below: int

    def of(self, word: str) -> int:
        """Occurrences of a word; 0 for one that was never seen."""
        return self.counts.get(word.lower(), 0)


def count_words(texts: Iterable[str], segmenter: Segmenter, *, rare_share: float) -> WordCounts:
    """Count the words of texts.

    Args:
        texts: The user's texts.
        segmenter: Cuts them.
        rare_share: The least frequent words that together make up at most this share of the running words are rare;
            a word that occurs once always is.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text[start:end].lower() for start, end in segmenter.words(text))
    most = rare_share * counts.total()
    covered, rare_below = 0, 1
    for count, words in sorted(Counter(counts.values()).items()):
        covered += count * words
        if covered > most:
            break
        rare_below = count
    return WordCounts(counts, max(1, rare_below))


def _load_jieba() -> Any:
    """Load jieba's cutter and tagger without its chatter.

    Its source has escapes that newer Pythons warn of, it may import a deprecated pkg_resources, and it leaves its
    dictionary file to the garbage collector to close.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jieba
        import jieba.posseg

        logger = logging.getLogger("jieba")
        level = logger.level
        logger.setLevel(
            logging.CRITICAL
        )  # a cache file that cannot be written costs half a second, nothing else
        try:
            jieba.posseg.dt.initialize()
        finally:
            logger.setLevel(level)
    return jieba.posseg.dt
