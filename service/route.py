"""What every route that takes a body does: read it, have a thread answer it, hand back bytes."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from service.body import read_body
from service.state import State

Handler = Callable[[State, bytes], bytes]


async def answered(state: State, handler: Handler, request: Request) -> Response:
    """The handler's answer to the request's body."""
    body = await read_body(request, state.settings)
    return Response(await state.work.run(handler, state, body), media_type="application/json")
