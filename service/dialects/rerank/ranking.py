"""Documents in the order of their scores. Those that are known titles bring their vectors along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.answers import DIGITS
from service.asked import Asked
from service.dialects.documents import document_vectors
from service.dialects.rerank.schemas import RerankRequest
from service.limits import check_match
from service.matcher import Clock
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
        TooLargeError: Too many of them have to be encoded.
        UnknownTitleError: A document has no text, and an id that the release does not have.
    """
    _check(request, state.settings)
    clock = Clock()
    with state.in_use.use() as serving:
        query = clock.lap("encode", serving.matcher.query_vector(request.query))
        texts, ids = [one.text for one in request.documents], [one.id for one in request.documents]
        fetched = document_vectors(state, serving, texts, ids=ids, field="documents")
        vectors, encoded = clock.lap("fetch", fetched)
        scores, _ = clock.lap("score", serving.matcher.judge(query, vectors))
    state.metrics.observe_stages(clock.laps)
    best = np.argsort(-scores, kind="stable")[: request.top_n]
    rounded = scores[best].astype(np.float64).round(DIGITS).tolist()
    tokens = sum(map(state.bundle.count_tokens, [request.query, *encoded]))
    return Ranking(list(zip(best.tolist(), rounded, strict=True)), tokens)


def _check(request: RerankRequest, settings: Settings) -> None:
    """Refuse too many documents, and too long ones."""
    ids = [document.id for document in request.documents if document.id is not None]
    count = len(request.documents)
    check_match(Asked([request.query], ids, (), np.arange(count), np.zeros(count, int)), settings)
