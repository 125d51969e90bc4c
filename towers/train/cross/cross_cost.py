"""What scoring titles costs: a cross-encoder, and towers with vectors cached and not.

So that methods are compared and not engines, the cross-encoder is timed in torch and, as the towers are, in int8 in
onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from towers.errors import InputError
from towers.train.cross.cross_graph import CrossGraphRunner

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from towers.bundle import Bundle

ROUNDS = 3  # of every way in turn: what else the machine does falls on all alike
_PER = 1000


def cost_per_thousand(
    bundle: Bundle, cross: CrossEncoder, query: str, titles: Sequence[str], *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Measure the seconds in which one query is scored against 1,000 titles.

    Each way is timed once a round, all ways in turn; the median of the rounds counts. All use every core.

    Args:
        bundle: Towers and scorer.
        cross: A cross-encoder.
        query: A query; its encoding is part of every time.
        titles: Real titles; from fewer than 1,000 the cost of all that grows with their number is scaled up.
        rounds: At least 1.

    Returns:
        Seconds by what was done, with the unit in the name.

    Raises:
        InputError: No titles.
    """
    if not titles or rounds < 1:
        raise InputError(
            f"found {len(titles)} titles and {rounds} rounds to measure a cost on, expected 1 or more"
        )
    reader = CrossGraphRunner(cross)
    vectors = np.resize(bundle.encode_titles(titles), (_PER, bundle.dim))
    pairs = [(query, title) for title in titles]
    query_vector = bundle.encode_queries([query])[0]
    calls: dict[str, Callable[[], object]] = {
        "query": lambda: bundle.encode_queries([query]),
        "score": lambda: bundle.score(query_vector, vectors),
        "titles": lambda: bundle.encode_titles(titles),
        "torch": lambda: cross.predict(pairs, show_progress_bar=False),
        "int8": lambda: reader.scores([query] * len(titles), titles),
    }
    seconds, scale = _medians(calls, rounds), _PER / len(titles)
    cached = seconds["query"] + seconds["score"]
    found = {
        "towers, vectors cached": cached,
        "towers, vectors not cached": cached + scale * seconds["titles"],
        "cross-encoder, int8": scale * seconds["int8"],
        "cross-encoder, torch": scale * seconds["torch"],
    }
    return {f"s per 1,000 titles, {name}": value for name, value in found.items()}


def _medians(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in taken.items()}
