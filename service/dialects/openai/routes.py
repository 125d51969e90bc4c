"""The routes of OpenAI's dialect."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.openai.embeddings import embeddings
from service.dialects.openai.failures import OPENAI
from service.dialects.openai.models import model, models
from service.dialects.openai.schemas import (
    OpenAIEmbeddingsAnswer,
    OpenAIEmbeddingsRequest,
    OpenAIErrorAnswer,
    OpenAIModel,
    OpenAIModelsAnswer,
)
from service.documentation import described, document, failures
from service.route import answered
from service.state import State


def add_routes(app: FastAPI, state: State) -> None:
    """Add them."""
    failed = failures(400, 401, 404, 408, 413, 415, 429, 503, model=OpenAIErrorAnswer)

    @app.post(
        "/v1/embeddings", **described(OPENAI.name, OpenAIEmbeddingsRequest, OpenAIEmbeddingsAnswer, failed)
    )
    async def embed(request: Request) -> Response:
        """Vectors of texts."""
        return await answered(state, embeddings, request)

    _add_models(app, state)
    document(app, OpenAIEmbeddingsRequest)


def _add_models(app: FastAPI, state: State) -> None:
    refused = failures(401, 404, 429, model=OpenAIErrorAnswer)

    @app.get(
        "/v1/models",
        tags=[OPENAI.name],
        responses=refused | {200: {"model": OpenAIModelsAnswer}},
        response_class=Response,
    )
    async def list_models() -> Response:
        """The names that /v1/embeddings takes as model."""
        return Response(models(state), media_type="application/json")

    @app.get(
        "/v1/models/{name:path}",  # names of models elsewhere have slashes: they get the same 404 as others
        tags=[OPENAI.name],
        responses=refused | {200: {"model": OpenAIModel}},
        response_class=Response,
    )
    async def show_model(name: str) -> Response:
        """One of them."""
        return Response(model(state, name), media_type="application/json")
