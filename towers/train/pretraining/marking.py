"""Texts as tokens with what is known of each: its word, its entity, how often the word occurs, its class.

What masking needs to know is worked out once for each text, from the tokenizer's offsets, so that it holds for every
fast tokenizer: WordPiece, byte-level BPE, SentencePiece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.pretraining.entities import ENTITY, NUMBER, EntityFinder
from towers.train.pretraining.segment import Segmenter, Span, WordCounts

CLASSES = ("common", "piece", "rare", ENTITY, NUMBER, "punctuation")
"""Classes of masked tokens. The first that holds counts: part of an entity or a number; punctuation; part of a rare
word; "piece", one of several tokens of a word (in Chinese, of a word of several characters); a whole common word."""

Ints = NDArray[np.int32]
_CHUNK = 2000  # texts tokenised at a time


@dataclass(frozen=True)
class Marked:
    """A text, or one stretch of a long one.

    Attributes:
        ids: Token ids, special ones included, (n,).
        words: Number of the word that a token is of, (n,); -1: never masked (special tokens).
        entities: Number of the entity or number that a token is part of, (n,); -1: of none.
        counts: How often the token's word occurs in the user's texts, (n,).
        classes: Class as an index into `CLASSES`, (n,).
    """

    ids: Ints
    words: Ints
    entities: Ints
    counts: Ints
    classes: Ints

    def __len__(self) -> int:
        return len(self.ids)


class MarkedTexts(Sequence[Marked]):
    """Many marked texts in one array: of 200,000 short texts, some 100 MB instead of the objects' gigabyte."""

    def __init__(self, marked: Iterator[Marked]) -> None:
        parts = [np.stack([x.ids, x.words, x.entities, x.counts, x.classes]) for x in marked]
        self._table = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), np.int32)
        self.lengths = np.array([part.shape[1] for part in parts], np.int64)
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: Any) -> Any:
        end = self._ends[i]
        return Marked(*self._table[:, end - self.lengths[i] : end])

    def token_counts(self, vocabulary: int) -> NDArray[np.int64]:
        """How often each token occurs where it may be masked, (vocabulary,)."""
        ids, words = self._table[0], self._table[1]
        return np.bincount(ids[words >= 0], minlength=vocabulary)


@dataclass(frozen=True)
class Marker:
    """Marks texts.

    Attributes:
        tokenizer: A fast tokenizer of transformers with a mask token; see `check_tokenizer`.
        segmenter: Cuts texts into words.
        finder: Finds their entities.
        counts: Of the user's words.
        max_tokens: A longer text is cut into stretches of this length, special tokens included.
    """

    tokenizer: Any
    segmenter: Segmenter
    finder: EntityFinder
    counts: WordCounts
    max_tokens: int

    def mark(self, texts: Sequence[str]) -> MarkedTexts:
        """Return the texts as marked tokens; a long one gives several, one without a token that may be masked none."""
        check_tokenizer(self.tokenizer)
        return MarkedTexts(x for x in self._stretches(texts) if (x.words >= 0).any())

    def _stretches(self, texts: Sequence[str]) -> Iterator[Marked]:
        regular = np.ones(max(len(self.tokenizer), *self.tokenizer.all_special_ids) + 1, np.bool_)
        regular[self.tokenizer.all_special_ids] = False
        for first in range(0, len(texts), _CHUNK):
            chunk = list(texts[first : first + _CHUNK])
            encoded = self.tokenizer(
                chunk,
                truncation=True,
                max_length=self.max_tokens,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            tables: dict[int, _Characters] = {}
            for stretch, number in enumerate(encoded["overflow_to_sample_mapping"]):
                if number not in tables:
                    tables = {number: self._characters(chunk[number])}
                ids = np.array(encoded["input_ids"][stretch], np.int32)
                yield tables[number].at(ids, encoded["offset_mapping"][stretch], regular[ids])

    def _characters(self, text: str) -> _Characters:
        words = self.segmenter.words(text)
        found = self.finder.find(text, words)
        counts = np.array([self.counts.of(text[start:end]) for start, end in words], np.int32)
        classes = [
            self._class(text[start:end], count) for (start, end), count in zip(words, counts, strict=True)
        ]
        return _Characters(
            text=text,
            words=_owners(text, words),
            entities=_owners(text, [(start, end) for start, end, _ in found]),
            counts=counts,
            classes=np.array(classes, np.int32),
            kinds=np.array([CLASSES.index(kind) for _, _, kind in found], np.int32),
        )

    def _class(self, word: str, count: int) -> int:
        if not any(character.isalnum() for character in word):
            return CLASSES.index("punctuation")
        return CLASSES.index("rare" if count <= self.counts.rare_below else "common")


@dataclass(frozen=True)
class _Characters:
    """A text, character by character: numbers of its words and entities; and the facts by those numbers."""

    text: str
    words: Ints
    entities: Ints
    counts: Ints
    classes: Ints
    kinds: Ints

    def at(self, ids: Ints, offsets: Sequence[Span], regular: NDArray[np.bool_]) -> Marked:
        """The facts of tokens, each taken where the token starts."""
        places = np.array([self._start(start, end) for start, end in offsets], np.int64)
        known = regular & (places >= 0)
        words, entities = np.full(len(ids), -1, np.int32), np.full(len(ids), -1, np.int32)
        words[known] = self.words[places[known]]
        entities[known] = self.entities[places[known]]
        known = words >= 0
        counts, classes = np.zeros(len(ids), np.int32), np.zeros(len(ids), np.int32)
        counts[known] = self.counts[words[known]]
        classes[known] = self.classes[words[known]]
        of_several = np.bincount(words[known], minlength=1)[words] > 1
        classes[known & of_several & (classes == CLASSES.index("common"))] = CLASSES.index("piece")
        classes[entities >= 0] = self.kinds[entities[entities >= 0]]
        return Marked(ids, words, entities, counts, classes)

    def _start(self, start: int, end: int) -> int:
        """Where a token starts; some tokenizers count the space before a word as part of it. -1: nowhere."""
        while start < end and self.text[start].isspace():
            start += 1
        return start if start < end else -1


def check_tokenizer(tokenizer: Any) -> None:
    """Refuse a tokenizer that masks cannot be made with.

    Raises:
        InputError: It is no fast tokenizer, or has no mask token.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} does not say where in the text a token is; expected a fast tokenizer "
            "(one that is kept as tokenizer.json). Convert it with transformers' convert_slow_tokenizer."
        )
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"the checkpoint's tokenizer ({type(tokenizer).__name__}) has no mask token, as masked-LM needs; "
            "expected one like BERT's [MASK]. Choose a BERT-like checkpoint with --base."
        )


def _owners(text: str, spans: Sequence[Span]) -> Ints:
    """For each character the number of the span that it is in, -1 for none."""
    owners = np.full(len(text), -1, np.int32)
    for number, (start, end) in enumerate(spans):
        owners[start:end] = number
    return owners
