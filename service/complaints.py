"""Parsing a body, and plain words for when that fails: they name the field and never repeat the input."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from towers.errors import InputError

Request = TypeVar("Request", bound=BaseModel)

# By pydantic's names for what went wrong: https://docs.pydantic.dev/latest/errors/validation_errors/
WORDS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "holds a NUL character, which is not accepted",
    "string_unicode": "holds a lone surrogate, which is not a text",
    "int_type": "must be a whole number",
    "greater_than_equal": "must be at least {ge}",
    "list_type": "must be a list",
    "too_short": "must not be empty",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "extra_forbidden": "is not a field of this request",
}
SHOWN = 3  # complaints in one answer; the rest is counted
LONGEST_PLACE = 100  # characters; field names come from outside and may be as long as the body


def parse(model: type[Request], body: bytes) -> Request:
    """Turn a body into a request.

    Raises:
        InputError: The body is not JSON, or not such a request.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise InputError(_summary(exc.errors(include_url=False, include_input=False), model)) from exc


def _summary(errors: list[ErrorDetails], model: type[BaseModel]) -> str:
    lines = list(dict.fromkeys(_complaint(error) for error in errors))
    rest = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    if any(error["type"] == "extra_forbidden" and len(error["loc"]) == 1 for error in errors):
        rest.append(f"the fields are {', '.join(model.model_fields)}")
    return "; ".join(lines[:SHOWN] + rest)


def _complaint(error: ErrorDetails) -> str:
    kind, message = error["type"], error["msg"]
    if kind == "json_invalid":
        return f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}"
    if kind == "value_error":
        words = message.removeprefix("Value error, ")
        return f"{place(error['loc'])} {words}" if error["loc"] else words
    words = WORDS.get(kind, f"is wrong: {message[:1].lower()}{message[1:]}")
    return f"{place(error['loc'])} {words.format(**error.get('ctx', {}))}"


def place(loc: tuple[Any, ...]) -> str:
    """A place in the request as a person writes it: ("titles", 3, "object", "id") is titles[3].id."""
    text = ""
    for before, part in zip((None, *loc), loc, strict=False):
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (isinstance(before, int) and part in ("object", "text")) and not str(part).startswith("<"):
            # What is left out are tags of unions, not fields.
            text += f".{part}" if text else str(part)
    return text[:LONGEST_PLACE] or "the body"
