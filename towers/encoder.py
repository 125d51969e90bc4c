"""Texts to vectors: batches of like length, each core on a batch of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from towers.graph import Graph
from towers.tokens import Ids, TokenReader, batches_by_length, pad

Progress = Callable[[int], None]

# Padded tokens in one batch: the activations of 512 tokens (3 MB at width 1536) still leave the caches useful;
# benchmarks/titles.py compares 128 to 2048.
BATCH_TOKENS = 512


class Encoder:
    """One tower: a tokenizer and a graph from ids to vectors of length 1."""

    def __init__(self, tokens: TokenReader, graph: Graph, *, dim: int, threads: int | None = None) -> None:
        self._tokens = tokens
        self._graph = graph
        self.dim = dim
        self._threads = threads or available_cores()

    def encode_each(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Encode texts one by one: float32 (n, dim). A text's vector depends on the text alone.

        For queries. In an int8 graph the activations of a batch share one scale, so a text's vector would depend a
        little on its neighbours, and a cached query vector would differ from a fresh one.

        Args:
            texts: Any number of texts.
            progress: As of `encode_batched`.
        """
        rows = self._tokens.ids(texts)
        return self._run([[i] for i in range(len(rows))], rows, progress)

    def encode_batched(
        self, texts: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Encode many texts in batches of like length: float32 (n, dim). The same list gives the same bits.

        Args:
            texts: Any number of texts.
            progress: Called from worker threads with the number of texts that were just done. What it raises ends
                the encoding: batches that have not begun are dropped.
        """
        rows = self._tokens.ids(texts)
        return self._run(batches_by_length(rows, tokens=BATCH_TOKENS), rows, progress)

    def _run(
        self, batches: list[list[int]], rows: Sequence[Ids], progress: Progress | None
    ) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self.dim), np.float32)

        def one(batch: list[int]) -> None:
            vectors[batch] = self._graph.run(*pad([rows[i] for i in batch]))

        run_on_all_cores(one, batches, threads=self._threads, progress=progress)
        return vectors


def run_on_all_cores(
    work: Callable[[list[int]], None],
    batches: Sequence[list[int]],
    *,
    threads: int,
    progress: Progress | None = None,
) -> None:
    """Call `work` on each batch, on `threads` threads; a single batch runs on the caller's thread.

    Args:
        work: Does a batch.
        batches: Row numbers.
        threads: Threads at most.
        progress: Called after each batch with its length, on the thread that did it.

    Raises:
        Exception: What `work` or `progress` raise. Batches that have not begun by then are dropped.
    """

    def one(batch: list[int]) -> None:
        work(batch)
        if progress is not None:
            progress(len(batch))

    if threads == 1 or len(batches) < 2:
        for batch in batches:
            one(batch)
        return
    with ThreadPoolExecutor(min(threads, len(batches))) as pool:
        for _ in pool.map(one, batches):
            pass  # walking it is what surfaces a worker's error, and what then drops the batches behind it


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
