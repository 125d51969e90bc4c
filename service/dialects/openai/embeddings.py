"""POST /v1/embeddings: parse, encode with the tower that was asked for, shape the answer."""

from __future__ import annotations

import base64

import numpy as np
from pydantic_core import to_json

from service.answers import vectors_json
from service.complaints import parse
from service.dialects.openai.models import tower_of_model
from service.dialects.openai.schemas import OpenAIEmbeddingsRequest
from service.dialects.texts import Tower, check_dimensions, check_texts, encode, shortened, tower_of
from service.state import State
from towers.errors import InputError


def embeddings(state: State, body: bytes) -> bytes:
    """Answer POST /v1/embeddings."""
    request = parse(OpenAIEmbeddingsRequest, body)
    tower = _tower(request)
    check_texts(state, "input", request.input)
    check_dimensions(state, request.dimensions)
    vectors = shortened(encode(state, request.input, tower=tower), request.dimensions)
    shown = _base64(vectors) if request.encoding_format == "base64" else vectors_json(vectors)
    tokens = sum(map(state.bundle.count_tokens, request.input))
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % numbered for numbered in enumerate(shown)
    )
    rest = to_json({"model": request.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    return b'{"object":"list","data":[%b],%b' % (data, rest[1:])


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


def _base64(vectors: np.ndarray) -> list[bytes]:
    """Each row as a JSON string of little-endian float32."""
    return [b'"%b"' % base64.b64encode(row.tobytes()) for row in np.asarray(vectors, "<f4")]
