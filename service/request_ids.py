"""An id for each request: the client's own, when it can be used, else a new one. Answers and log lines carry it."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
# Anything else could break a log line, a header, or what people paste into a shell.
USABLE = re.compile(rb"[A-Za-z0-9._:/=+-]{1,128}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestIds:
    """Gives each request its id, for as long as it is answered, and names it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        mine = given if USABLE.fullmatch(given) else uuid.uuid4().hex.encode()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (HEADER, mine)]
            await send(message)

        token = request_id.set(mine.decode())
        try:
            await self._app(scope, receive, named)
        finally:
            request_id.reset(token)
