"""The routes of Jina's and Cohere's dialects."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.rerank import handlers
from service.dialects.rerank.failures import COHERE, JINA
from service.dialects.rerank.schemas import (
    CohereErrorAnswer,
    CohereRerankAnswer,
    CohereRerankRequest,
    JinaErrorAnswer,
    JinaRerankAnswer,
    JinaRerankRequest,
)
from service.documentation import described, document, failures
from service.route import answered
from service.state import State


def add_routes(app: FastAPI, state: State) -> None:
    """Add them."""
    _add_jina(app, state)
    _add_cohere(app, state)
    document(app, JinaRerankRequest, CohereRerankRequest)


def _add_jina(app: FastAPI, state: State) -> None:
    refused = failures(401, 404, 408, 413, 415, 422, 429, 503, model=JinaErrorAnswer)

    @app.post("/v1/rerank", **described(JINA.name, JinaRerankRequest, JinaRerankAnswer, refused))
    async def jina_rerank(request: Request) -> Response:
        """Which documents match the query best? Also understood by clients of Cohere's first version."""
        return await answered(state, handlers.jina, request)


def _add_cohere(app: FastAPI, state: State) -> None:
    refused = failures(400, 401, 404, 408, 413, 415, 429, 503, model=CohereErrorAnswer)

    @app.post("/v2/rerank", **described(COHERE.name, CohereRerankRequest, CohereRerankAnswer, refused))
    async def cohere_rerank(request: Request) -> Response:
        """Which documents match the query best?"""
        return await answered(state, handlers.cohere, request)
