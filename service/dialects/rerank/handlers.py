"""Rankings in the words of Jina and of Cohere."""

from __future__ import annotations

import uuid
from typing import Any

from pydantic_core import to_json

from service.complaints import parse
from service.dialects.rerank.ranking import Ranking, ranked
from service.dialects.rerank.schemas import CohereRerankRequest, JinaRerankRequest, RerankRequest
from service.state import State

SEARCH_UNIT = 100  # documents that Cohere bills together: https://docs.cohere.com/docs/rerank


def jina(state: State, body: bytes) -> bytes:
    """Answer POST /v1/rerank."""
    request = parse(JinaRerankRequest, body)
    ranking = ranked(state, request)
    return _json(
        {
            "model": "dualtower",
            "object": "list",
            "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
            "results": _results(request, ranking, documents=request.return_documents is not False),
        }
    )


def cohere(state: State, body: bytes) -> bytes:
    """Answer POST /v2/rerank."""
    request = parse(CohereRerankRequest, body)
    ranking = ranked(state, request)
    units = -(-len(request.documents) // SEARCH_UNIT)
    return _json(
        {
            "id": str(uuid.uuid4()),
            "results": _results(request, ranking, documents=request.return_documents is True),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
        }
    )


def _json(answer: dict[str, Any]) -> bytes:
    """As JSON, which has no infinity: a client's own field of 1e999 comes back as null."""
    return to_json(answer, inf_nan_mode="null")


def _results(request: RerankRequest, ranking: Ranking, *, documents: bool) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [
        {"index": place, "relevance_score": score} for place, score in ranking.scores
    ]
    if documents:
        for result in results:
            result["document"] = request.documents[result["index"]].shown()
    return results
