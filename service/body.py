"""Reading a request's body within bounds."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from service.errors import MediaTypeError, SlowClientError, TooLargeError
from service.settings import Settings

PATIENCE = 16  # times the limit; what is sent beyond that meets a closed connection


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body.

    Raises:
        MediaTypeError: It is declared as something else than JSON.
        TooLargeError: It is larger than `max_body`.
        SlowClientError: It did not arrive within `body_timeout_s`.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MediaTypeError(
            f"the body is declared as {media_type}; send JSON with `Content-Type: application/json`"
        )
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _collect(request, settings.max_body)
    except TimeoutError as exc:
        raise SlowClientError(f"the body did not arrive within {settings.body_timeout_s:g} seconds") from exc


async def _collect(request: Request, limit: int) -> bytes:
    """The body; of one that is too large the rest is read, too, and thrown away.

    Most clients look for an answer only when they have sent everything: closing the connection before that would
    show them a reset connection instead of the refusal.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > PATIENCE * limit:
            break
        else:
            chunks.clear()
    if size > limit:
        found = f"{size}" if size <= PATIENCE * limit else f"more than {PATIENCE * limit}"
        raise TooLargeError(f"the body has {found} bytes, at most {limit} are accepted; split the request")
    return b"".join(chunks)
