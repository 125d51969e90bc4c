"""POST /v1/embeddings: parse, encode with the tower that was asked for, shape the answer."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from pydantic_core import to_json

from service.complaints import parse
from service.dialects.openai.models import tower_of_model
from service.dialects.openai.schemas import OpenAIEmbeddingsRequest
from service.dialects.texts import Tower, check_dimensions, check_texts, encode, tower_of
from service.state import State
from towers.errors import InputError

# Of a float: rows have length 1, so nine digits keep what float32 can hold, and are written three times as fast
# as the seventeen of an unrounded one.
DIGITS = 9


def embeddings(state: State, body: bytes) -> bytes:
    """Answer POST /v1/embeddings."""
    request = parse(OpenAIEmbeddingsRequest, body)
    tower = _tower(request)
    check_texts(state, "input", request.input)
    check_dimensions(state, request.dimensions)
    vectors = encode(state, request.input, tower=tower)
    shown = _base64(vectors) if request.encoding_format == "base64" else _floats(vectors)
    tokens = sum(map(state.bundle.count_tokens, request.input))
    return to_json(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(shown)],
            "model": request.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _tower(request: OpenAIEmbeddingsRequest) -> Tower:
    named = tower_of_model(request.model)
    if request.input_type is None:
        return named
    wanted = tower_of(request.input_type)
    if wanted != named and ":" in request.model:
        raise InputError(
            f"input_type asks for the {wanted} tower and model for the {named} tower; leave one of them out"
        )
    return wanted


def _base64(vectors: np.ndarray) -> list[str]:
    """Each row as little-endian float32."""
    return [base64.b64encode(row.tobytes()).decode() for row in np.asarray(vectors, "<f4")]


def _floats(vectors: np.ndarray) -> list[Any]:
    rows: list[Any] = vectors.astype(np.float64).round(DIGITS).tolist()
    return rows
