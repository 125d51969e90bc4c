"""Reading a request's body within bounds."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from service.errors import MediaTypeError, SlowClientError, TooLargeError
from service.settings import Settings


async def read_body(request: Request, settings: Settings) -> bytes:
    """The whole body.

    Raises:
        MediaTypeError: It is declared as something else than JSON.
        TooLargeError: It is, or says that it is, larger than `max_body`.
        SlowClientError: It did not arrive within `body_timeout_s`.
    """
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MediaTypeError(
            f"the body is declared as {media_type}; send JSON with `Content-Type: application/json`"
        )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_body:
        raise _too_large(declared, settings)
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _collect(request, settings)
    except TimeoutError as exc:
        raise SlowClientError(f"the body did not arrive within {settings.body_timeout_s:g} seconds") from exc


async def _collect(request: Request, settings: Settings) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > settings.max_body:
            raise _too_large(f"more than {settings.max_body}", settings)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(found: str, settings: Settings) -> TooLargeError:
    return TooLargeError(
        f"the body has {found} bytes, at most {settings.max_body} are accepted; split the request"
    )
