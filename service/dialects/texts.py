"""What dialects do with texts before they are encoded: bounds, cutting, and whose tower reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from service.cancel import while_wanted
from service.errors import EmptyError, TooLargeError
from service.lanes import QUICK, need_long_lane
from service.matcher import Clock
from service.state import State
from towers.errors import InputError

Tower = Literal["query", "title"]

# Other services and sentence-transformers call titles documents or passages.
TOWERS: dict[str, Tower] = {"query": "query", "title": "title", "document": "title", "passage": "title"}


def tower_of(name: str | None) -> Tower:
    """The tower that a client names; the title tower, which releases are made with, when it names none.

    Raises:
        InputError: It names something else.
    """
    if name is None:
        return "title"
    if name not in TOWERS:
        raise InputError(f"{name[:40]!r} is no tower of this bundle; give one of {', '.join(TOWERS)}")
    return TOWERS[name]


def check_texts(state: State, field: str, texts: Sequence[str]) -> None:
    """Refuse an empty list, an empty text, too many texts and too many characters.

    Raises:
        EmptyError: The list or one of its texts is empty.
        TooLargeError: There are more than `max_texts` texts, or one has more than `max_text_length` characters.
    """
    settings = state.settings
    if not texts or not all(texts):
        raise EmptyError(f"{field} {'holds an empty text' if texts else 'is an empty list'}; leave it out")
    if len(texts) > settings.max_texts:
        raise TooLargeError(
            f"{field} holds {len(texts)} texts, at most {settings.max_texts} are accepted; split the request"
        )
    longest = max(map(len, texts))
    if longest > settings.max_text_length:
        raise TooLargeError(
            f"{field} holds a text of {longest} characters, at most {settings.max_text_length} are accepted; "
            "shorten it"
        )


def in_turn(texts: Sequence[str], *, size: int = 1) -> Iterator[Sequence[str]]:
    """Texts that are to be tokenised, `size` at a time.

    Raises:
        LongError: They are too many for the quick lane, or too long.
        GoneError: Nobody waits for the rest of them.
    """
    need_long_lane(texts)
    look = while_wanted()
    for start in range(0, len(texts), size):
        look(start)
        yield texts[start : start + size]


def check_dimensions(state: State, dimensions: int | None) -> None:
    """Refuse a width that the bundle's vectors neither have nor were trained to be cut to.

    Raises:
        InputError: It is another one.
    """
    widths = (state.bundle.dim, *state.bundle.short_dims)
    if dimensions is not None and dimensions not in widths:
        offered = " or ".join(map(str, widths))
        raise InputError(
            f"dimensions is {dimensions}, but vectors of this bundle have {offered}; give that, or leave dimensions out"
        )


def shortened(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """Return vectors (n, dim) cut to their first numbers and stretched to length 1 again; whole ones as they are."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    first = vectors[:, :dimensions]
    return np.asarray(first / np.linalg.norm(first, axis=1, keepdims=True), np.float32)


def check_tokens(state: State, field: str, texts: Sequence[str], *, prefix: str, limit: int) -> None:
    """Refuse texts that would be cut.

    Raises:
        TooLargeError: One has more than `limit` tokens together with `prefix`.
    """
    for few in in_turn(texts, size=QUICK):
        longest = max(state.bundle.full_counts([prefix + text for text in few]))
        if longest > limit:
            raise TooLargeError(
                f"{field} holds a text of {longest} tokens, at most {limit} are read; shorten it, or have it cut with "
                '"truncate": true'
            )


def ends(state: State, texts: Sequence[str], *, prefix: str, limit: int) -> list[str]:
    """Cut off the beginnings of texts, so that each has at most `limit` tokens together with `prefix`."""
    kept = max(limit - state.bundle.full_counts([prefix])[0], 1)
    return [_end(state, text, kept) for (text,) in in_turn(texts)]


def _end(state: State, text: str, kept: int) -> str:
    tokens = [token for token in state.bundle.tokens(text) if not token.special]
    return text if len(tokens) <= kept else text[tokens[-kept].start :]


def prefix_of(state: State, tower: Tower) -> str:
    """What the bundle puts before each text of a tower."""
    manifest = state.bundle.manifest
    return manifest.query_prefix if tower == "query" else manifest.title_prefix


def encode(state: State, texts: Sequence[str], *, tower: Tower) -> np.ndarray:
    """Vectors (n, dim) of texts, rows of length 1. Those of queries come from the cache where it has them.

    Titles of a long list are split by tokens into batches for the cores by the bundle itself.
    """
    encoders: dict[Tower, Callable[[Sequence[str]], np.ndarray]] = {
        "query": state.queries.encode_queries,
        "title": state.queries.encode_titles,
    }
    clock = Clock()
    vectors = clock.lap("encode", encoders[tower](texts))
    state.metrics.observe_stages(clock.laps)
    return vectors
