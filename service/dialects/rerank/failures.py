"""Errors as Jina, {detail}, and Cohere, {message}, show them."""

from __future__ import annotations

from pydantic_core import to_json

from service.dialects.dialect import Dialect


def jina_failure(status: int, message: str, error_type: str) -> tuple[int, bytes]:
    """One error in Jina's shape."""
    return status, to_json({"detail": message})


def cohere_failure(status: int, message: str, error_type: str) -> tuple[int, bytes]:
    """One error in Cohere's shape. What we call 422, a wrong field, is 400 there."""
    return (400 if status == 422 else status), to_json({"message": message})


JINA = Dialect("Jina", frozenset({"/v1/rerank"}), jina_failure)
COHERE = Dialect("Cohere", frozenset({"/v2/rerank"}), cohere_failure)
