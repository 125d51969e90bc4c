"""What every answer tells browsers: guess no types, load nothing, be in no frame, keep nothing."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.open_paths import is_page

NOWHERE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The page has its own scripts, styles and pictures, and asks this service. Nothing inline, nothing from outside.
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    + NOWHERE
)
DATA = "default-src 'none'; " + NOWHERE
ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
# Unless the route says otherwise. Answers depend on the release and on the key; the page may change with the version.
UNLESS_SET = {
    True: ((b"content-security-policy", PAGE.encode()), (b"cache-control", b"no-cache")),
    False: ((b"content-security-policy", DATA.encode()), (b"cache-control", b"no-store")),
}


class SecurityHeaders:
    """Adds the headers to every answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        page = is_page(scope["path"], scope["method"])

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *ALWAYS]
                given = {name for name, _ in headers}
                headers += [pair for pair in UNLESS_SET[page] if pair[0] not in given]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, guarded)
