"""Vectors of what rerankers call documents: from the release where it has them, else from the title tower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.dialects.texts import check_texts
from service.errors import UnknownTitleError
from service.serving import Serving
from service.state import State


def document_vectors(
    state: State, serving: Serving, texts: Sequence[str | None], *, ids: Sequence[str | None], field: str
) -> tuple[np.ndarray, list[str]]:
    """Vectors of documents, and the texts that had to be encoded for them.

    Args:
        state: Encodes.
        serving: The release that is asked for titles.
        texts: n texts; None where there is an id alone.
        ids: n ids; None where there is a text alone.
        field: What the client calls them.

    Returns:
        float32 (n, dim), rows of length 1; and m texts, m at most n.

    Raises:
        UnknownTitleError: A document has no text, and an id that the release does not have.
        TooLargeError: Too many texts had to be encoded, or one is too long.
    """
    vectors = np.empty((len(texts), state.bundle.dim), np.float32)
    known = np.zeros(len(texts), bool)
    _fill_by_id(vectors, known, serving, ids)
    _fill_by_text(vectors, known, serving, texts)
    places = np.flatnonzero(~known).tolist()
    encoded = [_text(texts[place], f"{field}[{place}]") for place in places]
    if encoded:
        check_texts(state, field, encoded)
        vectors[places] = serving.matcher.encoder.encode_titles(encoded)
    return vectors, encoded


def _fill_by_id(vectors: np.ndarray, known: np.ndarray, serving: Serving, ids: Sequence[str | None]) -> None:
    """Put the vectors of titles by id into their rows."""
    wanted = {place: one for place, one in enumerate(ids) if one is not None}
    if wanted:
        places = np.array(list(wanted))
        kept, found = serving.matcher.titles.vectors_of(list(wanted.values()))
        vectors[places[found]], known[places] = kept[found], found


def _fill_by_text(
    vectors: np.ndarray, known: np.ndarray, serving: Serving, texts: Sequence[str | None]
) -> None:
    """Put the vectors of texts that are published titles into their rows."""
    wanted = {place: one for place, one in enumerate(texts) if one is not None and not known[place]}
    if wanted and serving.texts is not None:
        places, rows = np.array(list(wanted)), serving.texts.rows_of(list(wanted.values()))
        found = rows >= 0
        vectors[places[found]], known[places] = serving.matcher.titles.vectors(rows[found]), found


def _text(text: str | None, place: str) -> str:
    if text is None:
        raise UnknownTitleError(f"{place}: the release has no title with this id; send its text")
    return text
