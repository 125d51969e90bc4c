"""Refusals that exist only over HTTP, and the one table from errors to statuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from service.dialects import DIALECTS, dialect_of
from towers.errors import (
    BundleError,
    DualtowerError,
    InputError,
    RedisUnavailableError,
    ReleaseError,
)


class UnauthorizedError(DualtowerError):
    """The request carries no key, or another one."""


class UnknownQueryError(DualtowerError):
    """No vector is kept under this query id."""


class UnknownTitleError(DualtowerError):
    """The release has no title with this id, where an answer needs all of them."""


class UnknownModelError(DualtowerError):
    """No model goes under this name."""


class NoSentimentError(DualtowerError):
    """The open bundle cannot classify."""


class EmptyError(DualtowerError):
    """A list or text that must hold something is empty."""


class TooLargeError(DualtowerError):
    """The body, or a text or list in it, is larger than the service takes."""


class MediaTypeError(DualtowerError):
    """The body is declared as something else than JSON."""


class SlowClientError(DualtowerError):
    """The body did not arrive in time."""


class BusyError(DualtowerError):
    """All workers are taken and the queue is full."""


class GoneError(DualtowerError):
    """The client has closed the connection; nobody reads the answer."""


class RateLimitError(DualtowerError):
    """The key has asked too often."""


class NoReleaseError(DualtowerError):
    """Nothing is published that could be searched."""


# The most specific class wins. What is not here is our own fault: 500, without details.
STATUSES: dict[type[Exception], int] = {
    EmptyError: 400,
    UnauthorizedError: 401,
    UnknownQueryError: 404,
    UnknownTitleError: 404,
    UnknownModelError: 404,
    NoSentimentError: 404,
    SlowClientError: 408,
    TooLargeError: 413,
    MediaTypeError: 415,
    InputError: 422,
    BusyError: 429,
    RateLimitError: 429,
    GoneError: 499,  # of no standard, but proxies log it for this, too
    NoReleaseError: 503,
    ReleaseError: 503,
    BundleError: 503,
    RedisUnavailableError: 503,
}

HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "2"},  # about two looks at CURRENT
}


def status_of(error: Exception) -> int:
    """The HTTP status for an error: that of its nearest class in the table, else 500."""
    return next((STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES), 500)


def error_body(message: str, error_type: str) -> dict[str, Any]:
    """The shape of every error, whole answers and single items alike."""
    return {"error": message, "error_type": error_type}


def failure_for(
    path: str, status: int, message: str, error_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """One error as a JSON answer, in the shape of the dialect that the path belongs to, else in our own."""
    dialect = dialect_of(path, DIALECTS)
    if dialect is None:
        body = to_json(error_body(message, error_type))
    else:
        status, body = dialect.failure(status, message, error_type)
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers=HEADERS.get(status, {}) | dict(headers or {}),
    )
