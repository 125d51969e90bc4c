"""/docs: the OpenAPI document as one page of plain HTML, without scripts and without anything from outside.

FastAPI's own page loads its scripts from another host, which a machine without the internet does not reach and the
content security policy forbids. Who wants to click requests together can open /openapi.json in any such tool.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse

from service.security_headers import NOWHERE

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2.5rem 0 .5rem; border-top: 1px solid #8886; padding-top: 1rem }
code { font: .95em ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884 }
""".strip()
POLICY = f"default-src 'none'; style-src 'sha256-{{}}'; {NOWHERE}".format(
    base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
)
SCHEMAS = "#/components/schemas/"
Schema = dict[str, Any]


def add_docs(app: FastAPI) -> None:
    """Add the page to an application."""

    @app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()), headers={"Content-Security-Policy": POLICY})


def page(described: Schema) -> str:
    """The page of an OpenAPI document."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style><h1>{title}</h1>",
        f'<p>{escape(described["info"].get("summary", ""))} For tools: <a href="/openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    for name, schema in sorted(described.get("components", {}).get("schemas", {}).items()):
        parts += _schema(name, schema)
    return "\n".join(parts)


def _operation(name: str, operation: Schema) -> Iterator[str]:
    yield f"<h2><code>{escape(name)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
    body = operation.get("requestBody", {}).get("content", {})
    answers = {f"{status}": answer.get("content", {}) for status, answer in operation["responses"].items()}
    rows = [("body", body), *answers.items()] if body else list(answers.items())
    yield _table(("", "what"), [(escape(name), _content(content)) for name, content in rows])


def _content(content: Schema) -> str:
    return ", ".join(f"{_kind(one.get('schema', {}))} ({escape(media)})" for media, one in content.items())


def _schema(name: str, schema: Schema) -> Iterator[str]:
    yield f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{escape(schema.get("description", ""))}</p>'
    if "properties" not in schema:
        yield f"<p>{_kind(schema)}</p>"
        return
    needed = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(field)}</code>{'' if field in needed else ' (optional)'}",
            _kind(about),
            escape(about.get("description", "")),
        )
        for field, about in schema["properties"].items()
    ]
    yield _table(("field", "type", "meaning"), rows)


def _kind(schema: Schema) -> str:
    """A type in words, with links to the schemas that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(SCHEMAS))
        return f'<a href="#{name}">{name}</a>'
    for together, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if together in schema:
            return word.join(map(_kind, schema[together]))
    if "enum" in schema or "const" in schema:
        return " or ".join(
            f"<code>{escape(repr(v))}</code>" for v in schema.get("enum", [schema.get("const")])
        )
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_kind(values)}"
    return escape(str(schema.get("type", "anything")))


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{text}" for text in heads)
    return (
        f"<table><tr>{head}" + "".join("<tr>" + "".join(f"<td>{x}" for x in row) for row in rows) + "</table>"
    )
