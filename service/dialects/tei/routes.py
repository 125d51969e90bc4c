"""The routes of text-embeddings-inference. GET /info is ours, with its fields added: see info.py."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.tei import handlers
from service.dialects.tei.failures import TEI
from service.dialects.tei.schemas import (
    TeiEmbedRequest,
    TeiError,
    TeiPrediction,
    TeiPredictRequest,
    TeiRank,
    TeiRerankRequest,
    TeiSimilarityRequest,
    TeiToken,
    TeiTokenizeRequest,
)
from service.documentation import described, document, failures
from service.errors import failure_for
from service.route import answered
from service.state import State

FAILURES = failures(400, 401, 408, 413, 415, 422, 424, 429, 503, model=TeiError)


def add_routes(app: FastAPI, state: State) -> None:
    """Add them, and their bodies to the document."""
    _add_vectors(app, state)
    _add_judgements(app, state)
    _add_health(app, state)
    document(
        app,
        TeiEmbedRequest,
        TeiSimilarityRequest,
        TeiRerankRequest,
        TeiPredictRequest,
        TeiTokenizeRequest,
    )


def _described(body: type[BaseModel], answer: Any) -> dict[str, Any]:
    return described(TEI.name, body, answer, FAILURES)


def _add_vectors(app: FastAPI, state: State) -> None:
    @app.post("/embed", **_described(TeiEmbedRequest, list[list[float]]))
    async def embed(request: Request) -> Response:
        """The vector of each text."""
        return await answered(state, handlers.embed, request)

    # Clients that know the server's address only ask there; GET / is the page, and the document has neither.
    app.post("/", include_in_schema=False)(embed)

    @app.post("/similarity", **_described(TeiSimilarityRequest, list[float]))
    async def similarity(request: Request) -> Response:
        """The cosine of a text and each of others."""
        return await answered(state, handlers.similarity, request)

    @app.post("/tokenize", **_described(TeiTokenizeRequest, list[list[TeiToken]]))
    async def tokenize(request: Request) -> Response:
        """The tokens of each text, also of those that would be cut."""
        return await answered(state, handlers.tokenize, request)


def _add_judgements(app: FastAPI, state: State) -> None:
    @app.post("/rerank", **_described(TeiRerankRequest, list[TeiRank]))
    async def rerank(request: Request) -> Response:
        """The texts by how well they match the query, best first."""
        return await answered(state, handlers.rerank, request)

    @app.post("/predict", **_described(TeiPredictRequest, list[TeiPrediction] | list[list[TeiPrediction]]))
    async def predict(request: Request) -> Response:
        """Is each text positive, neutral or negative?"""
        return await answered(state, handlers.predict, request)


def _add_health(app: FastAPI, state: State) -> None:
    @app.get("/health", tags=[TEI.name], responses=failures(503, model=TeiError), response_class=Response)
    async def health(request: Request) -> Response:
        """Should requests be sent here? 200 without a body, or 503."""
        reasons = state.not_ready(full=state.keys.trust(request.headers))
        if reasons:
            return failure_for(request.url.path, 503, "; ".join(reasons), "NotReadyError")
        return Response()

    app.head("/health", include_in_schema=False)(health)
