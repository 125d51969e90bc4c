"""What surrounds every request, from outside in: id, headers, counting, CORS, key, rate limit."""

from __future__ import annotations

import logging
import math
import time
import traceback

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RateLimitError, UnauthorizedError, failure_for, status_of
from service.keys import given_key
from service.limiter import Limiter
from service.open_paths import is_health, is_open
from service.request_ids import RequestIds
from service.security_headers import SecurityHeaders
from service.state import State
from towers.errors import DualtowerError

log = logging.getLogger("service.requests")

KEY = "dualtower.key"  # where a request's scope keeps the name of its key
PREFLIGHT_S = 600  # how long a browser may keep the answer to a preflight; all of them allow that much


def surroundings(state: State) -> list[Middleware]:
    """What the settings ask for, outermost first."""
    settings = state.settings
    around = [Middleware(RequestIds), Middleware(SecurityHeaders), Middleware(Observe, state)]
    if settings.cors_origins:
        # Outside of the keys: a preflight has none, and a page should be able to read why it was refused.
        around.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
                expose_headers=["X-Request-ID", "Retry-After"],
                max_age=PREFLIGHT_S,
            )
        )
    if state.keys.wanted:
        around.append(Middleware(RequireKey, state))
    if settings.rate_limit is not None:
        limiter = Limiter(settings.rate_limit, settings.rate_burst, directory=state.common)
        around.append(Middleware(LimitRate, state, limiter))
    return around


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
        except Exception as exc:
            self._log_unforeseen(exc)
            if status:
                raise
            message = "an error that nobody foresaw; see the service's log"
            failure = failure_for(scope["path"], 500, message, "InternalError")
            await failure(scope, receive, watched)
        finally:
            self._metrics.in_flight.dec()
            self._note(scope, status, time.perf_counter() - start)

    def _log_unforeseen(self, error: Exception) -> None:
        if self._state.settings.log_texts:
            log.exception("unforeseen error")
            return
        where = "".join(
            traceback.format_tb(error.__traceback__)
        )  # without the message, which may quote a text
        log.error("unforeseen error", extra={"error_type": type(error).__name__, "traceback": where})

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, not the path: paths come from outside, and each would be another time series.
        route = getattr(scope.get("route"), "path", "other")
        key = scope.get(KEY, "")
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.key_requests.labels(key, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        facts = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
        }
        level = logging.DEBUG if is_health(route) else logging.INFO
        log.log(level, "request", extra=facts | ({"key": key} if key else {}))


class RequireKey:
    """Refuses requests without a key, and notes the name of the key of others."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._keys = app, state.keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or is_open(scope["path"], scope["method"]):
            await self._app(scope, receive, send)
            return
        name = self._keys.name_of(given_key(Headers(scope=scope)))
        if name is None:
            error = UnauthorizedError(
                "this service asks for a key: send `Authorization: Bearer KEY` or `X-API-Key: KEY` with a key "
                "that its operator gave you"
            )
            await _refuse(error, scope, receive, send)
            return
        scope[KEY] = name
        await self._app(scope, receive, send)


class LimitRate:
    """Refuses requests of a key that asks too often; where there are no keys, all requests share one bucket."""

    def __init__(self, app: ASGIApp, state: State, limiter: Limiter) -> None:
        self._app, self._limiter = app, limiter
        self._rate, self._metrics = state.settings.rate_limit, state.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or is_open(scope["path"], scope["method"]):
            await self._app(scope, receive, send)
            return
        key = scope.get(KEY, "")
        wait_s = self._limiter.wait_s(key)
        if wait_s == 0:
            await self._app(scope, receive, send)
            return
        self._metrics.rate_limited.labels(key).inc()
        seconds = math.ceil(wait_s)
        error = RateLimitError(
            f"more than {self._rate:g} requests per second of one key; try again in {seconds} s, and spread requests"
        )
        await _refuse(error, scope, receive, send, headers={"Retry-After": str(seconds)})


async def _refuse(
    error: DualtowerError,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    headers: dict[str, str] | None = None,
) -> None:
    failure = failure_for(scope["path"], status_of(error), str(error), type(error).__name__, headers)
    await failure(scope, receive, send)
