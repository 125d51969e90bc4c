"""Texts that are the same, and texts that are nearly the same.

Near duplicates are found by MinHash and locality-sensitive hashing over character n-grams (Broder 1997, "On the
resemblance and containment of documents"), and each find is then checked exactly: the Jaccard index of the n-grams, and
that nothing differs which changes the meaning. Two titles that differ in a number, a negation or a colour have nearly
the same n-grams and are not the same.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.train.dataset.negation import negations

_HAN = re.compile("[\u3400-\u9fff]")
_WORD = re.compile("[\u3400-\u9fff]|[^\\W_\u3400-\u9fff]+")
# a word with a digit in it: sizes, prices, model names; "2.4" and "55X" are one each
_NUMBER = re.compile("[^\\W_\u3400-\u9fff]*\\d(?:[.,]?[^\\W_\u3400-\u9fff])*")
_FACE = re.compile(r"[:;=8][-^o']?[)(\[\]dp/\\|]|[)(]:|<3|\^_\^")
# A latin letter says about half as much as a Chinese character.
_LATIN_NGRAM, _HAN_NGRAM = 3, 2
# Hashing only proposes; proposing from a lower similarity on misses fewer (MinHash of 128 errs by about 0.04).
_SLACK = 0.15
_ALIKE = (
    0.78  # of difflib, between the words that differ: "recieve" passes for "receive", "women" not for "men"
)


def normal_form(text: str) -> str:
    """Return what two texts have in common that differ only in case, spaces or the width of characters (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingles(text: str) -> frozenset[str]:
    """Return the character n-grams of a text's letters and digits: of 3, or of 2 where most are Chinese.

    Args:
        text: A normal form.
    """
    words = _WORD.findall(text)
    han = len(_HAN.findall(text))
    chinese = 2 * han > sum(map(len, words))
    size = _HAN_NGRAM if chinese else _LATIN_NGRAM
    line = "".join(words) if chinese else f" {' '.join(words)} "
    if len(line) < size or not words:
        return frozenset((text,))
    return frozenset(line[i : i + size] for i in range(len(line) - size + 1))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard index of two sets, 1 for two empty ones."""
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def same_meaning(a: str, b: str) -> bool:
    """Whether nothing differs between two near duplicates that is known to change what they say.

    Numbers, negations and faces must be the same. Words may be added, or written otherwise, but not be others.

    Args:
        a: A normal form.
        b: Another.
    """
    if _signs(a) != _signs(b):
        return False
    words_a, words_b = _WORD.findall(a), _WORD.findall(b)
    only_a = _without(words_a, Counter(words_b))
    only_b = _without(words_b, Counter(words_a))
    return not only_a or not only_b or _alike("".join(only_a), "".join(only_b))


def near_leaders(
    texts: Sequence[str], *, near: float, permutations: int = 128, seed: int = 1
) -> NDArray[np.int64]:
    """Return, int64 (n,), for each text the first text that it is a near duplicate of; itself where there is none.

    Every text is compared with leaders only, so a chain of small changes does not join what has little in common.

    Args:
        texts: n different normal forms.
        near: Least Jaccard index of the n-grams, in 0..1; 1 and above joins none.
        permutations: Of the MinHash.
        seed: Of the MinHash.
    """
    leaders = np.arange(len(texts), dtype=np.int64)
    if near >= 1:
        return leaders
    from datasketch import MinHash, MinHashLSH

    grams = [shingles(text) for text in texts]
    index = MinHashLSH(threshold=max(0.1, near - _SLACK), num_perm=permutations)
    settings: dict[str, Any] = {"num_perm": permutations, "seed": seed, "hashfunc": zlib.crc32}
    hashes = MinHash.generator(([gram.encode() for gram in sorted(x)] for x in grams), **settings)
    for i, minhash in enumerate(hashes):
        found = [(jaccard(grams[i], grams[j]), -j) for j in index.query(minhash)]
        close = [
            (likeness, j) for likeness, j in found if likeness >= near and same_meaning(texts[i], texts[-j])
        ]
        if close:
            leaders[i] = -max(close)[1]
        else:
            index.insert(i, minhash)
    return leaders


def _signs(text: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    faces = Counter(_FACE.findall(text))
    faces.update(character for character in text if unicodedata.category(character) == "So")
    return Counter(_NUMBER.findall(text)), negations(text), faces


def _without(words: list[str], others: Counter[str]) -> list[str]:
    left = Counter(words) - others
    kept = []
    for word in words:
        if left[word]:
            left[word] -= 1
            kept.append(word)
    return kept


def _alike(a: str, b: str) -> bool:
    """Whether two strings are one word in two spellings; Chinese ones must sound the same, with their tones."""
    if _HAN.search(a) or _HAN.search(b):
        return _sounds(a) == _sounds(b)
    exchanged = sorted(a) == sorted(b)  # "teh" for "the"
    return exchanged or difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() >= _ALIKE


def _sounds(text: str) -> list[str]:
    from pypinyin import Style, lazy_pinyin

    return lazy_pinyin(text, style=Style.TONE3)
