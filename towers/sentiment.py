"""Single texts to probabilities of -1, 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from towers.encoder import Progress, available_cores, run_on_all_cores
from towers.graph import Graph
from towers.tokens import TokenReader, batches_by_length, pad

LABELS = (-1, 0, 1)
NAMES = {-1: "negative", 0: "neutral", 1: "positive"}
BATCH_TOKENS = 512  # as in encoder.py


class SentimentHead:
    """The bundle's classifier. Softmax and temperature are inside its graph."""

    def __init__(self, tokens: TokenReader, graph: Graph, *, threads: int | None = None) -> None:
        self._tokens = tokens
        self._graph = graph
        self._threads = threads or available_cores()

    def probabilities(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Return probabilities, float32 (n, 3), columns -1, 0, 1, rows that sum to 1.

        Args:
            texts: n texts.
            progress: Called from worker threads with the number of texts that were just done; may raise to end it.
        """
        rows = self._tokens.ids(texts)
        probabilities = np.empty((len(rows), len(LABELS)), np.float32)

        def one(batch: list[int]) -> None:
            probabilities[batch] = self._graph.run(*pad([rows[i] for i in batch]))

        batches = batches_by_length(rows, tokens=BATCH_TOKENS)
        run_on_all_cores(one, batches, threads=self._threads, progress=progress)
        return probabilities
