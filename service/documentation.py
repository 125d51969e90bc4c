"""The OpenAPI document: bodies are parsed by hand for speed, so their schemas are put in by hand, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response

from service.schemas import ErrorAnswer

REF = "#/components/schemas/{model}"


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
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        content = plain()
        schemas = content.setdefault("components", {}).setdefault("schemas", {})
        for body in bodies:
            schema = body.model_json_schema(ref_template=REF)
            schemas |= schema.pop("$defs", {}) | {body.__name__: schema}
        return content

    app.openapi = openapi  # type: ignore[method-assign]
