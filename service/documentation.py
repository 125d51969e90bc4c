"""The OpenAPI document: bodies are parsed by hand for speed, so their schemas are put in by hand, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from service.open_paths import is_open
from service.schemas import ErrorAnswer

REF = "#/components/schemas/{model}"
# Either one opens; see `keys.given_key`.
KEYS: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes this model."""
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def failures(*statuses: int, model: type[BaseModel] = ErrorAnswer) -> dict[int | str, dict[str, Any]]:
    """The `responses` entries of the errors that a route may answer, in our shape or in a dialect's."""
    return {status: {"model": model} for status in statuses}


def described(
    tag: str, body: type[BaseModel], answer: Any, refused: Mapping[int | str, dict[str, Any]]
) -> dict[str, Any]:
    """What the document says of a dialect's route that takes a body: options of FastAPI's `post`."""
    return {
        "tags": [tag],
        "responses": {**refused, 200: {"model": answer}},
        "openapi_extra": body_of(body),
        "response_class": Response,
    }


def document(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Add the schemas of `bodies`, and of what they are made of, to the document of `app`.

    May be called several times. Schemas are told apart by the names of their classes alone, so a dialect's carry
    its name.
    """

    def add(content: dict[str, Any]) -> None:
        schemas = content.setdefault("components", {}).setdefault("schemas", {})
        for body in bodies:
            schema = body.model_json_schema(ref_template=REF)
            schemas |= schema.pop("$defs", {}) | {body.__name__: schema}

    _complete(app, add)


def document_keys(app: FastAPI, *, wanted: bool) -> None:
    """Add how a key is sent: to every route that is not open; where no key is wanted, it may be left out."""
    either: list[dict[str, list[str]]] = [{name: []} for name in KEYS]

    def add(content: dict[str, Any]) -> None:
        content.setdefault("components", {})["securitySchemes"] = KEYS
        content["security"] = either if wanted else [{}, *either]
        for path, methods in content["paths"].items():
            for method, operation in methods.items():
                if is_open(path, method.upper()):
                    operation["security"] = []

    _complete(app, add)


def _complete(app: FastAPI, add: Callable[[dict[str, Any]], None]) -> None:
    """Have the document of `app` go through `add`, too."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        content = plain()
        add(content)
        return content

    app.openapi = openapi  # type: ignore[method-assign]
