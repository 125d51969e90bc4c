"""Errors as OpenAI shows them: {error: {message, type, param, code}}."""

from __future__ import annotations

import re

from pydantic_core import to_json

from service.dialects.dialect import Dialect

# By our error types; what is not here has no code.
CODES = {
    "UnauthorizedError": "invalid_api_key",
    "UnknownModelError": "model_not_found",
    "BusyError": "rate_limit_exceeded",
    "RateLimitError": "rate_limit_exceeded",
}
# A message about one field begins with its name.
FIELD_STATUSES = (404, 413, 422)
PARAM = re.compile(r"(input_type|input|model|dimensions|encoding_format|user)\b")


def failure(status: int, message: str, error_type: str) -> tuple[int, bytes]:
    """One error in this shape. What we call 422, a wrong field, is 400 there."""
    param = PARAM.match(message) if status in FIELD_STATUSES else None
    error = {
        "message": message,
        "type": _type(status),
        "param": param[1] if param else None,
        "code": CODES.get(error_type),
    }
    return (400 if status == 422 else status), to_json({"error": error})


def _type(status: int) -> str:
    if status == 429:
        return "requests"  # as opposed to "tokens", which are not limited here
    return "server_error" if status >= 500 else "invalid_request_error"


OPENAI = Dialect("OpenAI", frozenset({"/v1/embeddings", "/v1/models", "/v1/models/*"}), failure)
