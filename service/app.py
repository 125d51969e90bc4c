"""The routes. Each reads a body, has a thread answer it, and hands back bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

from fastapi import FastAPI, Request
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import handlers, telemetry
from service.dialects.openai import routes as openai
from service.dialects.rerank import routes as rerank
from service.dialects.tei import routes as tei
from service.dialects.tei.info import info as tei_info
from service.docs_page import add_docs
from service.documentation import body_of, document, document_keys, failures
from service.errors import failure_for, status_of
from service.metrics import CONTENT_TYPE
from service.middleware import surroundings
from service.page_routes import add_page
from service.route import PlainRoute, answered
from service.schemas import (
    InfoAnswer,
    MatchAnswer,
    MatchRequest,
    ReadyAnswer,
    SearchAnswer,
    SearchRequest,
    SentimentAnswer,
    SentimentRequest,
    SentimentsAnswer,
)
from service.state import State, version
from towers.errors import DualtowerError

log = logging.getLogger(__name__)

# One for each package of service/dialects: adds its routes, and their bodies to the document.
ADD_DIALECTS: tuple[Callable[[FastAPI, State], None], ...] = (
    tei.add_routes,
    openai.add_routes,
    rerank.add_routes,
)


def create_app(state: State) -> FastAPI:
    """The application over a composed state."""
    app = FastAPI(
        title="dualtower",
        version=version(),
        summary="How well do titles match a query, and which titles match it best?",
        lifespan=partial(_lifespan, state),
        middleware=surroundings(state),
        telemetry=telemetry.config(),
        exception_handlers={DualtowerError: _ours, HTTPException: _starlettes, ClientDisconnect: _gone},
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.router.route_class = PlainRoute
    _add_questions(app, state)
    _add_health(app, state)
    add_docs(app)
    add_page(app)
    document_keys(app, wanted=state.keys.wanted)
    document(app, MatchRequest, SearchRequest, SentimentRequest)
    for add_routes in ADD_DIALECTS:
        add_routes(app, state)
    return app


def _add_questions(app: FastAPI, state: State) -> None:
    """The three questions that people ask."""
    failed = failures(401, 404, 408, 413, 415, 422, 429, 503)

    @app.post(
        "/v1/match", responses=failed | {200: {"model": MatchAnswer}}, openapi_extra=body_of(MatchRequest)
    )
    async def match(request: Request) -> Response:
        """How well do these titles match the query?"""
        return await answered(state, handlers.match, request)

    @app.post(
        "/v1/search", responses=failed | {200: {"model": SearchAnswer}}, openapi_extra=body_of(SearchRequest)
    )
    async def search(request: Request) -> Response:
        """Which titles match the query best?"""
        return await answered(state, handlers.search, request)

    @app.post(
        "/v1/sentiment",
        responses=failed | {200: {"model": SentimentAnswer | SentimentsAnswer}},
        openapi_extra=body_of(SentimentRequest),
    )
    async def sentiment(request: Request) -> Response:
        """Is this text positive, neutral or negative?"""
        return await answered(state, handlers.sentiment, request)


def _add_health(app: FastAPI, state: State) -> None:
    """What machines ask."""

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        """Does the process answer at all?"""
        return {"live": True}

    @app.get(
        "/health/ready",
        responses={200: {"model": ReadyAnswer}, 503: {"model": ReadyAnswer}},
        response_class=Response,
    )
    async def ready(request: Request) -> Response:
        """Should requests be sent here? Reasons name paths and addresses to whoever has a key."""
        found = state.ready(full=state.keys.trust(request.headers))
        status = HTTPStatus.OK if found["ready"] else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(to_json(found), status, media_type="application/json")

    for path, probe in (("/health/live", live), ("/health/ready", ready)):
        app.head(path, include_in_schema=False)(probe)  # some balancers probe with HEAD

    refused = failures(401, 429)

    @app.get("/metrics", responses=refused, response_class=Response)
    async def metrics() -> Response:
        """Counts and times for Prometheus."""
        text = await asyncio.to_thread(state.metrics.text)
        return Response(text, media_type=CONTENT_TYPE)

    @app.get("/info", responses=refused | {200: {"model": InfoAnswer}}, response_class=Response)
    async def info() -> Response:
        """Which versions and limits are in force?"""
        return Response(to_json(tei_info(state) | state.info()), media_type="application/json")


@asynccontextmanager
async def _lifespan(state: State, app: FastAPI) -> AsyncIterator[None]:
    """Follow CURRENT and Redis as long as the application lives."""
    for look, _ in state.watches():
        await asyncio.to_thread(look)
    tasks = [asyncio.create_task(_repeat(look, pause)) for look, pause in state.watches()]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(state.close)


async def _repeat(look: Callable[[], None], pause: float) -> None:
    while True:
        await asyncio.sleep(pause)
        try:
            await asyncio.to_thread(look)
        except Exception:  # a bug in one look must not end all later ones
            log.exception("a watch failed")


async def _ours(request: Request, error: Exception) -> Response:
    return failure_for(request.url.path, status_of(error), str(error), type(error).__name__)


async def _starlettes(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the shape of all other errors."""
    assert isinstance(error, HTTPException)
    name = HTTPStatus(error.status_code).phrase.title().replace(" ", "") + "Error"
    message = f"{request.method} {request.url.path}: {error.detail}; see /docs for what there is"
    return failure_for(request.url.path, error.status_code, message, name, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    """The client left before its body was complete: nobody reads this, but it is no failure of ours."""
    message = "the connection ended within the body"
    return failure_for(request.url.path, 400, message, "ClientDisconnectError")
