"""A stand-in for a bundle, and a process that indexes with it and can be killed.

It suffices because the offline job knows nothing of a bundle but its id, its dim and that the same list of texts gives
the same vectors. As in a real int8 bundle, a vector depends a little on the other texts of the call: a job that cuts
its blocks in another way on the second run gives other bytes.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

DIM = 24


class FakeEncoder:
    def __init__(
        self, *, bundle_id: str = "b" * 64, dim: int = DIM, seconds: float = 0.0, log: Path | None = None
    ) -> None:
        self.titles_id, self.dim = bundle_id, dim
        self.calls: list[list[str]] = []
        self._seconds, self._log = seconds, log

    def encode_titles(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        self.calls.append(list(texts))
        time.sleep(self._seconds)
        own = np.stack([self._of(text) for text in texts])
        together = own + 0.01 * self._of("\n".join(texts))
        if progress is not None:
            progress(len(texts))
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(" ".join(texts) + "\n")
        return (together / np.linalg.norm(together, axis=1, keepdims=True)).astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._of(text) for text in texts]).astype(np.float32)

    def _of(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self.dim)
        return vector / np.linalg.norm(vector)


def main(titles: str, releases: str, log: str, seconds: str, factory: str) -> None:
    from rich.console import Console

    from index.build import BuildOptions, index_titles
    from index.progress import Reporter
    from index.releases import Releases

    index_titles(
        Path(titles),
        Releases(Path(releases)),
        FakeEncoder(seconds=float(seconds), log=Path(log)),
        options=BuildOptions(block_titles=50, index_factory=factory or None),
        report=Reporter(Console(stderr=True, width=200)),
        publish=True,
        min_recall=0.0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
