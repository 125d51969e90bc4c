"""Answers of text-embeddings-inference, bytes in and bytes out. Run in threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from index.vectors import cosines_of
from service.answers import vectors_json
from service.complaints import parse
from service.dialects.documents import document_vectors
from service.dialects.tei.schemas import (
    PredictItem,
    TeiCut,
    TeiEmbedRequest,
    TeiPredictRequest,
    TeiRerankRequest,
    TeiSimilarityParameters,
    TeiSimilarityRequest,
    TeiTokenizeRequest,
)
from service.dialects.texts import (
    Tower,
    check_dimensions,
    check_texts,
    check_tokens,
    encode,
    ends,
    in_turn,
    prefix_of,
    shortened,
    tower_of,
)
from service.handlers import felt, need_sentiment
from service.matcher import Clock
from service.state import State
from towers.errors import InputError
from towers.sentiment import NAMES

# float32 has no number between this and 1, so a probability of 1 becomes the largest logit that can be told apart.
CERTAIN = 1 - 2.0**-24


def embed(state: State, body: bytes) -> bytes:
    """Answer POST /embed."""
    request = parse(TeiEmbedRequest, body)
    tower = tower_of(request.prompt_name)
    check_dimensions(state, request.dimensions)
    texts = _fitting(state, "inputs", _listed(request.inputs), tower, request)
    vectors = shortened(encode(state, texts, tower=tower), request.dimensions)
    return b"[%b]" % b",".join(vectors_json(vectors))


def similarity(state: State, body: bytes) -> bytes:
    """Answer POST /similarity: cosines."""
    request = parse(TeiSimilarityRequest, body)
    how = request.parameters or TeiSimilarityParameters.model_validate({})
    tower = tower_of(how.prompt_name)
    check_texts(state, "inputs.source_sentence", [request.inputs.source_sentence])
    sentences = _fitting(state, "inputs.sentences", request.inputs.sentences, tower, how)
    source = _fitting(state, "inputs.source_sentence", [request.inputs.source_sentence], tower, how)
    vectors = encode(state, source + sentences, tower=tower)
    return to_json(np.clip(cosines_of(vectors[0], vectors[1:]), -1, 1).tolist())


def rerank(state: State, body: bytes) -> bytes:
    """Answer POST /rerank: the scorer's probabilities, best first."""
    request = parse(TeiRerankRequest, body)
    (query,) = _fitting(state, "query", [request.query], "query", request)
    texts = _fitting(state, "texts", request.texts, "title", request)
    clock = Clock()
    with state.in_use.use() as serving:
        vector = clock.lap("encode", serving.matcher.query_vector(query))
        fetched = document_vectors(state, serving, texts, ids=[None] * len(texts), field="texts")
        vectors, _ = clock.lap("fetch", fetched)
        scores, _ = clock.lap("score", serving.matcher.judge(vector, vectors))
    state.metrics.observe_stages(clock.laps)
    if request.raw_scores:
        scores = logits(scores)
    order = np.argsort(-scores, kind="stable").tolist()
    numbers = scores.tolist()
    return to_json([_rank(index, numbers[index], request) for index in order])


def _rank(index: int, score: float, request: TeiRerankRequest) -> dict[str, Any]:
    text = {"text": request.texts[index]} if request.return_text else {}
    return {"index": index, **text, "score": score}


def predict(state: State, body: bytes) -> bytes:
    """Answer POST /predict: sentiments, likeliest first; a list of answers for a batch."""
    request = parse(TeiPredictRequest, body)
    need_sentiment(state)
    texts, is_batch = _sequences(request.inputs)
    check_texts(state, "inputs", texts)
    start = time.perf_counter()
    texts = _cut(state, "inputs", texts, "", request, limit=state.bundle.manifest.sentiment_max_tokens)
    probabilities, _ = felt(state, texts)
    state.metrics.observe_stages({"sentiment": (time.perf_counter() - start) * 1000})
    scores = np.log(np.clip(probabilities, 1e-30, 1)) if request.raw_scores else probabilities
    names = [NAMES[label] for label in state.bundle.labels]
    answers = [_predictions(row, names) for row in scores.tolist()]
    return to_json(answers if is_batch else answers[0])


def _predictions(scores: Sequence[float], names: Sequence[str]) -> list[dict[str, Any]]:
    best_first = sorted(zip(scores, names, strict=True), reverse=True)
    return [{"score": score, "label": name} for score, name in best_first]


def tokenize(state: State, body: bytes) -> bytes:
    """Answer POST /tokenize."""
    request = parse(TeiTokenizeRequest, body)
    texts = _listed(request.inputs)
    check_texts(state, "inputs", texts)
    named = request.prompt_name is not None
    prefix = prefix_of(state, tower_of(request.prompt_name)) if named else ""
    shown = []
    for (text,) in in_turn(texts):
        tokens = state.bundle.tokens(prefix + text)
        shown.append(to_json([t for t in tokens if request.add_special_tokens or not t.special]))
    return b"[%b]" % b",".join(shown)


def logits(probabilities: np.ndarray) -> np.ndarray:
    """What the sigmoid makes `probabilities` of."""
    clipped = np.clip(probabilities.astype(np.float64), 1 - CERTAIN, CERTAIN)
    return np.log(clipped / (1 - clipped))


def _listed(inputs: str | list[str]) -> list[str]:
    return [inputs] if isinstance(inputs, str) else inputs


def _sequences(inputs: str | list[PredictItem]) -> tuple[list[str], bool]:
    """The texts, and whether they are a batch. A list of two strings is one pair there, not two texts."""
    if isinstance(inputs, str):
        return [inputs], False
    if all(isinstance(item, str) for item in inputs):
        return [_single(inputs)], False
    if any(isinstance(item, str) for item in inputs):
        raise InputError('inputs mixes texts and lists; put each text of a batch in a list: [["…"], ["…"]]')
    return [_single(item) for item in inputs], True


def _single(sequence: Sequence[Any]) -> str:
    if len(sequence) > 1:
        raise InputError(
            f"inputs holds a list of {len(sequence)} texts, which is one pair and no batch; the sentiment head takes "
            'one text; put each text of a batch in a list of its own: [["…"], ["…"]]'
        )
    return str(sequence[0]) if sequence else ""


def _fitting(state: State, field: str, texts: Sequence[str], tower: Tower, how: TeiCut) -> list[str]:
    check_texts(state, field, texts)
    return _cut(state, field, texts, prefix_of(state, tower), how, limit=state.bundle.max_tokens)


def _cut(
    state: State, field: str, texts: Sequence[str], prefix: str, how: TeiCut, *, limit: int
) -> list[str]:
    """The texts as they may be encoded; on the right the encoder cuts by itself."""
    if not how.truncate:
        check_tokens(state, field, texts, prefix=prefix, limit=limit)
    elif how.truncation_direction == "left":
        return ends(state, texts, prefix=prefix, limit=limit)
    return list(texts)
