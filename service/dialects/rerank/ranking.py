"""Documents in the order of their scores. Those that are known titles bring their vectors along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.answers import DIGITS
from service.asked import Asked
from service.dialects.rerank.schemas import RerankDocument, RerankRequest
from service.dialects.texts import check_texts
from service.errors import UnknownTitleError
from service.limits import check_match
from service.matcher import Clock
from service.serving import Serving
from service.settings import Settings
from service.state import State


@dataclass(frozen=True)
class Ranking:
    """The best documents of a request.

    Attributes:
        scores: Place in the request and score of each, best first.
        tokens: How many the towers read: of the query, and of the documents that are no known titles.
    """

    scores: list[tuple[int, float]]
    tokens: int


def ranked(state: State, request: RerankRequest) -> Ranking:
    """Judge the documents and keep the `top_n` best.

    Raises:
        InputError: Too many documents, or too long ones.
        UnknownTitleError: A document has no text, and an id that the release does not have.
    """
    _check(request, state.settings)
    clock = Clock()
    with state.in_use.use() as serving:
        query = clock.lap("encode", serving.matcher.query_vector(request.query))
        vectors, encoded = clock.lap("fetch", _vectors(serving, request.documents, state))
        scores, _ = clock.lap("score", serving.matcher.judge(query, vectors))
    state.metrics.observe_stages(clock.laps)
    best = np.argsort(-scores, kind="stable")[: request.top_n]
    rounded = scores[best].astype(np.float64).round(DIGITS).tolist()
    tokens = sum(map(state.bundle.count_tokens, [request.query, *encoded]))
    return Ranking(list(zip(best.tolist(), rounded, strict=True)), tokens)


def _vectors(
    serving: Serving, documents: Sequence[RerankDocument], state: State
) -> tuple[np.ndarray, list[str]]:
    """The vector of each document (n, dim), and the texts that had to be encoded for it."""
    vectors = np.empty((len(documents), state.bundle.dim), np.float32)
    known = _fill_known(vectors, serving, documents)
    places = np.flatnonzero(~known).tolist()
    texts = [_text(documents[place], place) for place in places]
    if texts:
        check_texts(state, "documents", texts)
        vectors[places] = serving.matcher.encoder.encode_titles(texts)
    return vectors, texts


def _fill_known(vectors: np.ndarray, serving: Serving, documents: Sequence[RerankDocument]) -> np.ndarray:
    """Put the vectors of known titles into their rows; returns which these are, bool (n,)."""
    known = np.zeros(len(documents), bool)
    titles = serving.matcher.titles
    if ids := {place: one.id for place, one in enumerate(documents) if one.id is not None}:
        places = np.array(list(ids))
        kept, found = titles.vectors_of(list(ids.values()))
        vectors[places[found]], known[places] = kept[found], found
    texts = {place: one.text for place, one in enumerate(documents) if not known[place] and one.text}
    if texts and serving.texts is not None:
        places, rows = np.array(list(texts)), serving.texts.rows_of(list(texts.values()))
        found = rows >= 0
        vectors[places[found]], known[places] = titles.vectors(rows[found]), found
    return known


def _text(document: RerankDocument, place: int) -> str:
    if document.text is None:
        raise UnknownTitleError(f"documents[{place}]: the release has no title with this id; send its text")
    return document.text


def _check(request: RerankRequest, settings: Settings) -> None:
    """Refuse too many documents, and too long ones."""
    ids = [document.id for document in request.documents if document.id is not None]
    count = len(request.documents)
    check_match(Asked([request.query], ids, (), np.arange(count), np.zeros(count, int)), settings)
