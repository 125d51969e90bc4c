"""Text to token ids: the one place where a tokenizer file is read and used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from towers.errors import BundleError, InputError

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        id: Its number in the vocabulary.
        text: What it stands for in the input; its name, when it is special.
        special: Whether it was added around the text.
        start: Its first character in the input; None when it is special.
        stop: The character after its last one.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TokenReader:
    """A bundle's tokenizer: special tokens on, cut at `max_tokens`, padding left to `pad`. Safe to use from threads."""

    def __init__(self, path: Path, *, max_tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:  # the Rust library raises plain Exception
            raise BundleError(
                f"{path} is no tokenizer file: {exc}. Install or build the bundle again."
            ) from exc
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens

    def ids(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Ids]:
        """Return the token ids of each text, or of each text with its second one, int64 (length,).

        They are cut at `max_tokens`; of a pair, the longer text is cut.

        Raises:
            InputError: An item is no str or holds half a surrogate pair, which no encoding of Unicode allows.
        """
        for position, text in enumerate((*texts, *(pairs or ()))):
            _check_text(text, position)
        inputs: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._tokenizer.encode_batch_fast(inputs)
        return [np.asarray(encoding.ids, np.int64) for encoding in encodings]

    def count(self, text: str) -> int:
        """Return how many tokens the encoder sees of a text, special ones included."""
        return len(self.ids([text])[0])

    def full_counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each whole text has, special ones included, also where the encoder would cut it.

        Raises:
            InputError: As of `ids`.
        """
        for position, text in enumerate(texts):
            _check_text(text, position)
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        return [
            len(first) + sum(len(rest) - special for rest in first.overflowing)
            for first in self._tokenizer.encode_batch_fast(list(texts))
        ]

    def tokens(self, text: str) -> list[Token]:
        """Return all tokens of a whole text, also where the encoder would cut it, the special ones around them.

        Raises:
            InputError: As of `ids`.
        """
        _check_text(text, 0)
        first = self._tokenizer.encode(text)
        # What is cut off comes in pieces, each with special tokens of its own; the last ones of the first stay last.
        parts = [_tokens_of(text, part) for part in (first, *first.overflowing)]
        inner = [token for part in parts for token in part if not token.special]
        special = [token for token in parts[0] if token.special]
        leading = next((i for i, token in enumerate(parts[0]) if not token.special), len(special))
        return special[:leading] + inner + special[leading:]


def pad(rows: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Stack rows of ids: `(input_ids, attention_mask)`, both int64 (rows, longest), zeros where a row is shorter."""
    longest = max(len(row) for row in rows)
    input_ids = np.zeros((len(rows), longest), np.int64)
    attention_mask = np.zeros_like(input_ids)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = row
        attention_mask[i, : len(row)] = 1
    return input_ids, attention_mask


def batches_by_length(rows: Sequence[Ids], *, tokens: int) -> list[list[int]]:
    """Group row numbers into batches of like length, longest first, of at most `tokens` padded tokens each.

    Longest first, so that a progress bar's time left errs on the safe side and the last batches are short.
    """
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    batches: list[list[int]] = []
    for i in order:
        # rows come longest first: the batch's first row says how wide it is
        if batches and (len(batches[-1]) + 1) * len(rows[batches[-1][0]]) <= tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _tokens_of(text: str, encoding: Any) -> list[Token]:
    entries = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [
        Token(number, name, True, None, None) if special else Token(number, text[a:b], False, a, b)
        for number, name, special, (a, b) in entries
    ]


def _check_text(text: object, position: int) -> None:
    if not isinstance(text, str):
        raise InputError(f"text {position} is {type(text).__name__}, expected str")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise InputError(
                f"text {position} holds {text[exc.start]!r} at character {exc.start}: half of a surrogate pair is no "
                "Unicode text. Decode the source with the right encoding."
            ) from exc
