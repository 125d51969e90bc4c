"""The page for people: a fixed list of files, each held in memory with its content type and its ETag."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

START = "index.html"
SCRIPTS = (
    "main.js", "theme.js", "words.js", "language.js", "storage.js", "dom.js", "api.js", "key.js", "box.js",
    "search.js", "match.js", "sentiment.js", "live.js", "docs.js", "scores.js", "shortcuts.js",
)  # fmt: skip
TYPES = {
    START: "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
} | dict.fromkeys(SCRIPTS, "text/javascript; charset=utf-8")


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str


def read_page() -> dict[str, PageFile]:
    """The files of the page by name, from the installed package."""
    folder = files("service") / "page"
    contents = {name: (folder / name).read_bytes() for name in TYPES}
    return {
        name: PageFile(content, TYPES[name], f'"{sha256(content).hexdigest()[:32]}"')
        for name, content in contents.items()
    }


def add_page(app: FastAPI) -> None:
    """Serve the page at `/` and its files under `/page/`."""
    page = read_page()

    async def start(request: Request) -> Response:
        """A page to type into."""
        return _sent(page[START], request)

    async def file(request: Request, name: str) -> Response:
        """A file of the page."""
        if name not in page:
            raise HTTPException(404, f"the page has no file of this name; it has {', '.join(page)}")
        return _sent(page[name], request)

    for path, route in (("/", start), ("/page/{name}", file)):
        app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)(route)


def _sent(file: PageFile, request: Request) -> Response:
    """The file, or 304 when the browser has it. No-cache: ask each time, so that nothing outlives an update."""
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    if file.etag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _tags(header: str) -> set[str]:
    """The ETags of an If-None-Match; proxies that compress mark theirs as weak with W/."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
