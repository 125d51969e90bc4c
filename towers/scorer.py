"""One query vector and many title vectors to match probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.graph import Graph


class Scorer:
    """The bundle's small DNN: sigmoid(a * cosine + b + MLP(|u - v|, u * v)), or its first two terms alone."""

    def __init__(self, graph: Graph, *, dim: int) -> None:
        self._graph = graph
        self.dim = dim

    def score(self, query: NDArray[np.float32], titles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability, float32 (n,), that each title matches the query.

        Args:
            query: The query's vector, (dim,).
            titles: The titles' vectors, (n, dim); n may be 0.

        Raises:
            InputError: Shapes that do not fit the bundle.
        """
        query = np.ascontiguousarray(query, np.float32)
        titles = np.ascontiguousarray(titles, np.float32)
        if query.shape != (self.dim,) or titles.ndim != 2 or titles.shape[1] != self.dim:
            raise InputError(
                f"query vector of shape {query.shape} and title vectors of shape {titles.shape}, "
                f"expected ({self.dim},) and (n, {self.dim})"
            )
        if not len(titles):
            return np.empty(0, np.float32)
        return self._graph.run(query, titles)
