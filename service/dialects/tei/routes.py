"""The routes of text-embeddings-inference."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.dialects.tei.failures import TEI
from service.errors import failure_for
from service.state import State


def add_routes(app: FastAPI, state: State) -> None:
    """Add them."""

    @app.get("/health", tags=[TEI.name], response_class=Response)
    async def health(request: Request) -> Response:
        """Should requests be sent here? 200 without a body, or 503."""
        reasons = state.not_ready()
        if reasons:
            return failure_for(request.url.path, 503, "; ".join(reasons), "NotReadyError")
        return Response()

    app.head("/health", include_in_schema=False)(health)
