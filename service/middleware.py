"""What surrounds every request: counting, timing, one log line, the API key, and the last line of defence."""

from __future__ import annotations

import hmac
import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import UnauthorizedError, failure_for, status_of
from service.state import State

log = logging.getLogger("service.requests")

OPEN_PATHS = ("/health", "/health/live", "/health/ready")  # probes have no keys


class Observe:
    """Counts, times and logs each request, and turns what nobody foresaw into a 500 without details."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state, self._metrics = app, state, state.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._state.draining:
                    # A kept connection would soon end under the client's next request.
                    message.setdefault("headers", []).append((b"connection", b"close"))
            await send(message)

        start = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        except Exception:
            log.exception("unforeseen error")
            if status:
                raise
            message = "an error that nobody foresaw; see the service's log"
            failure = failure_for(scope["path"], 500, message, "InternalError")
            await failure(scope, receive, watched)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, not the path: paths come from outside, and each would be another time series.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in OPEN_PATHS else logging.INFO
        log.log(
            level,
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status,
                "milliseconds": round(seconds * 1000, 2),
            },
        )


class RequireKey:
    """Refuses requests without the API key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._fits(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = UnauthorizedError(
            "this service asks for a key: send `Authorization: Bearer KEY` or `X-API-Key: KEY` with the key "
            "that it was started with"
        )
        failure = failure_for(scope["path"], status_of(error), str(error), type(error).__name__)
        await failure(scope, receive, send)

    def _fits(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(given.strip().encode(), self._key)  # takes as long wherever they differ
