"""From arrays to the bytes of an answer, without an object per match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic_core import to_json

from service.errors import error_body
from service.matcher import Found, Matches
from towers.sentiment import NAMES

DIGITS = 6  # of a score: float32 has about seven


def match_items(judged: Matches, ids: Sequence[str], order: np.ndarray) -> list[dict[str, Any]]:
    """One entry per title in the order of the request. In `judged` the titles by id come first."""
    numbers = zip(_plain(judged.scores), _plain(judged.cosines), judged.matches.tolist(), strict=True)
    items: list[dict[str, Any]] = [
        {"score": score, "cosine": cosine, "match": match} for score, cosine, match in numbers
    ]
    for number, title_id in enumerate(ids):
        items[number] = {"id": title_id, **items[number]}
    for place in np.flatnonzero(~judged.known).tolist():
        items[place] = unknown_title(ids[place])
    return items if _in_order(order) else [items[place] for place in order]


def unknown_title(title_id: str) -> dict[str, Any]:
    """The entry of a title that the release does not have."""
    return {"id": title_id} | error_body("the release has no title with this id", "UnknownTitleError")


def search_items(found: Found) -> list[dict[str, Any]]:
    """One entry per found title, best first."""
    numbers = zip(
        found.titles, _plain(found.scores), _plain(found.cosines), found.matches.tolist(), strict=True
    )
    return [
        {"id": t.id, "title": t.title, "score": score, "cosine": cosine, "match": match, "fields": t.fields}
        for t, score, cosine, match in numbers
    ]


def sentiment_items(
    labels: Sequence[int], probabilities: np.ndarray, layers: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One entry per text from probabilities (n, 3), whose columns are `labels`, and the exits' layers (n,), if any."""
    names = [NAMES[label] for label in labels]
    items: list[dict[str, Any]] = [
        {"label": labels[best], "name": names[best], "probabilities": dict(zip(names, row, strict=True))}
        for best, row in zip(probabilities.argmax(axis=1).tolist(), _plain(probabilities), strict=True)
    ]
    if layers is not None:
        for item, layer in zip(items, layers.tolist(), strict=True):
            item["exit_layer"] = layer
    return items


def encoded(answer: dict[str, Any]) -> bytes:
    """The answer as JSON bytes."""
    return to_json(answer)


def vectors_json(vectors: np.ndarray) -> list[bytes]:
    """Each row of float32 (n, dim) as a JSON list; nine digits are all that float32 can hold.

    Row by row: one call for a thousand rows would keep the interpreter, and with it every other request, for 100 ms.
    """
    row_format = f"[{','.join(['%.9g'] * vectors.shape[1])}]"
    return [(row_format % tuple(row.tolist())).encode() for row in vectors]


def _plain(numbers: np.ndarray) -> list[Any]:
    """Rounded Python floats; float32 first becomes float64, or the rounding would show as 0.30000001192."""
    rounded: list[Any] = numbers.astype(np.float64).round(DIGITS).tolist()
    return rounded


def _in_order(order: np.ndarray) -> bool:
    return bool((order == np.arange(len(order))).all())
