"""The words of a bilingual tower: English word pieces that are kept, Chinese characters, and frequent Chinese words.

Chinese words are added tokens, which the tokenizer library finds from the left, the longest first, before anything else
sees the text; what they leave is split into characters, as BERT does. A word costs one place in the sequence instead of
two or three, and it can start from its own translation rather than from those of its characters.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from towers.train.bilingual.dictionary import Entry

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_HAN_WORD = re.compile(r"[\u4e00-\u9fff]{2,4}")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tower, in the order of their ids.

    Attributes:
        pieces: Special tokens and word pieces that stay.
        characters: Chinese characters.
        words: Chinese words of two characters and more.
    """

    pieces: tuple[str, ...]
    characters: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """All of them; a token's place is its id."""
        return (*self.pieces, *self.characters, *self.words)


def is_han(text: str) -> bool:
    """Say whether a token is one Chinese character."""
    return len(text) == 1 and bool(_HAN.match(text))


def kept_pieces(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Return the special tokens, and the pieces in Latin letters, digits and signs.

    What goes are places that were never used, single letters of other scripts, and Chinese characters, which are
    chosen anew.
    """
    return (*SPECIAL, *(piece for piece in vocabulary if piece not in SPECIAL and _is_latin(piece)))


def _is_latin(piece: str) -> bool:
    body = piece.removeprefix("##")
    if body.startswith("[unused"):
        return False
    return all(
        not unicodedata.category(letter).startswith("L") or unicodedata.name(letter, "").startswith("LATIN")
        for letter in body
    )


def chosen_characters(texts: Iterable[str], *, at_least: int) -> tuple[str, ...]:
    """Return the Chinese characters that occur often enough, the most frequent first."""
    counts = Counter(letter for text in texts for letter in text if is_han(letter))
    return tuple(letter for letter, count in counts.most_common() if count >= at_least)


def chosen_words(texts: Iterable[str], *, most: int, at_least: int) -> tuple[str, ...]:
    """Return the most frequent Chinese words of two to four characters, as jieba cuts the texts."""
    import jieba

    jieba.setLogLevel(60)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word in jieba.cut(text) if _HAN_WORD.fullmatch(word))
    return tuple(word for word, count in counts.most_common(most) if count >= at_least)


def chosen_vocabulary(
    texts: Sequence[str],
    dictionary: Sequence[Entry],
    old_ids: Mapping[str, int],
    *,
    words: int,
    least_word: int,
    least_character: int,
) -> Vocabulary:
    """Return the word pieces of a tower, and the Chinese characters and words of some texts.

    Args:
        texts: In any languages.
        dictionary: Names the traditional forms of the characters that are taken, which come in as well.
        old_ids: Word pieces of the tower.
        words: At most so many words.
        least_word: How often a word must occur.
        least_character: How often a character must occur.
    """
    characters = chosen_characters(texts, at_least=least_character)
    simplified = set(characters)
    traditional = [
        entry.traditional
        for entry in dictionary
        if len(entry.simplified) == 1 and entry.simplified in simplified
    ]
    return Vocabulary(
        pieces=kept_pieces(sorted(old_ids, key=old_ids.__getitem__)),
        characters=tuple(dict.fromkeys([*characters, *traditional])),
        words=chosen_words(texts, most=words, at_least=least_word),
    )


def tokenizer_with(vocabulary: Vocabulary, base: str) -> str:
    """Return a tokenizer.json that cuts texts into these tokens.

    Args:
        vocabulary: The tokens.
        base: tokenizer.json of a BERT with word pieces; its way of normalising and cutting stays.
    """
    content: dict[str, Any] = json.loads(base)
    ids = {token: place for place, token in enumerate(vocabulary.tokens)}
    words = set(vocabulary.words)
    content["model"]["vocab"] = {token: place for token, place in ids.items() if token not in words}
    special = [_added(ids[token], token, special=True) for token in SPECIAL]
    content["added_tokens"] = [
        *special,
        *(_added(ids[word], word, special=False) for word in vocabulary.words),
    ]
    for name, entry in content["post_processor"].get("special_tokens", {}).items():
        entry["ids"] = [ids[name]]
    for side in ("cls", "sep"):  # the form of older files
        if side in content["post_processor"]:
            token = content["post_processor"][side][0]
            content["post_processor"][side] = [token, ids[token]]
    content["padding"] = content["truncation"] = None
    return json.dumps(content, ensure_ascii=False)


def _added(number: int, token: str, *, special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
    return {"id": number, "content": token, **flags}
