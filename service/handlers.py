"""The three questions, bytes in and bytes out: parse, ask the Matcher, shape the answer. Run in threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.answers import encoded, match_items, search_items, sentiment_items
from service.asked import Asked, QueryId, asked
from service.cancel import while_wanted
from service.complaints import parse
from service.errors import NoSentimentError, UnknownQueryError, error_body
from service.lanes import need_long_lane
from service.limits import check_match, check_search, check_sentiment
from service.matcher import Matcher
from service.query_vectors import query_id_of
from service.schemas import MatchRequest, SearchRequest, SentimentRequest
from service.state import State


def match(state: State, body: bytes) -> bytes:
    """Answer POST /v1/match."""
    request = parse(MatchRequest, body)
    wanted = asked(request)
    check_match(wanted, state.settings)
    with state.in_use.use() as serving:
        judge = _match_pairs if request.pairs is not None else _match_one
        answer = judge(state, serving.matcher, wanted)
        return encoded(answer | {"release": serving.version, "threshold": state.bundle.threshold})


def _match_one(state: State, matcher: Matcher, wanted: Asked) -> dict[str, Any]:
    query = wanted.queries[0]
    judged = matcher.match(_resolved(state, query), ids=wanted.ids, texts=wanted.texts)
    state.metrics.observe_stages(judged.milliseconds)
    return {
        "query_id": _query_id(query),
        "matches": match_items(judged, wanted.ids, wanted.order),
        "milliseconds": judged.milliseconds,
    }


def _match_pairs(state: State, matcher: Matcher, wanted: Asked) -> dict[str, Any]:
    queries: list[str | np.ndarray] = []
    need_long_lane([_text_of(query) for query in wanted.queries])
    numbers = np.full(len(wanted.queries), -1)  # of each query among those that are known
    for number, query in enumerate(wanted.queries):
        try:
            queries.append(_resolved(state, query))
        except UnknownQueryError as exc:
            unknown = error_body(str(exc), UnknownQueryError.__name__)
        else:
            numbers[number] = len(queries) - 1
    which = numbers[wanted.which]
    judged = matcher.match_pairs(queries, which, ids=wanted.ids, texts=wanted.texts)
    state.metrics.observe_stages(judged.milliseconds)
    items = match_items(judged, wanted.ids, wanted.order)
    for place in np.flatnonzero(which[wanted.order] < 0):
        items[place] = unknown
    return {"query_id": None, "matches": items, "milliseconds": judged.milliseconds}


def search(state: State, body: bytes) -> bytes:
    """Answer POST /v1/search."""
    request = parse(SearchRequest, body)
    candidates = check_search(request, state.settings)
    query = request.query if request.query is not None else QueryId(request.query_id or "")
    with state.in_use.use() as serving:
        found = serving.matcher.search(
            _resolved(state, query),
            k=request.k,
            candidates=candidates,
            rows=serving.rows_where(request.filter),
        )
        state.metrics.observe_stages(found.milliseconds)
        return encoded(
            {
                "query_id": _query_id(query),
                "release": serving.version,
                "threshold": state.bundle.threshold,
                "matches": search_items(found),
                "milliseconds": found.milliseconds,
            }
        )


def sentiment(state: State, body: bytes) -> bytes:
    """Answer POST /v1/sentiment."""
    request = parse(SentimentRequest, body)
    texts = check_sentiment(request, state.settings)
    need_sentiment(state)
    start = time.perf_counter()
    probabilities, layers = felt(state, texts)
    milliseconds = {"sentiment": round((time.perf_counter() - start) * 1000, 3)}
    state.metrics.observe_stages(milliseconds)
    items = sentiment_items(state.bundle.labels, probabilities, layers)
    answer = {"sentiments": items} if request.text is None else items[0]
    return encoded(answer | {"milliseconds": milliseconds})


def need_sentiment(state: State) -> None:
    """Refuse to go on without a sentiment head.

    Raises:
        NoSentimentError: The bundle has none.
    """
    if not state.bundle.has_sentiment:
        raise NoSentimentError(
            "the open bundle has no sentiment head; serve one that was made with `dualtower fit-sentiment`"
        )


def felt(state: State, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (n, 3) and, where the head has exits, the layers computed for each text (n,)."""
    need_long_lane(texts)
    if not state.bundle.exit_layers:
        return state.bundle.sentiment(texts, progress=while_wanted()), None
    probabilities, layers = state.bundle.sentiment_with_exits(texts, progress=while_wanted())
    state.metrics.observe_exits(layers.tolist())
    return probabilities, layers


def _resolved(state: State, query: str | QueryId) -> str | np.ndarray:
    return state.queries.by_id(query.value) if isinstance(query, QueryId) else query


def _text_of(query: str | QueryId) -> str:
    return query.value if isinstance(query, QueryId) else query


def _query_id(query: str | QueryId) -> str:
    return query.value if isinstance(query, QueryId) else query_id_of(query)
