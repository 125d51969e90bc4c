"""The opponent: sentence-transformers in fp32 with the checkpoint that the bundle was made from.

It runs as its users run it: its own default attention (sdpa) and as many torch threads as torch takes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

from towers import Bundle
from towers.train.base import resolve_checkpoint

Vectors = NDArray[np.float32]
BATCH_SIZE = 32  # sentence-transformers' default; titles.py also tries 64


class Original:
    """The fp32 tower, with the methods of a bundle that `towers.evaluate` needs."""

    threshold = 0.5

    def __init__(self, bundle: Bundle) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self.model = SentenceTransformer(checkpoint_of(bundle), device="cpu")

    def encode(self, texts: Sequence[str], *, batch_size: int = BATCH_SIZE) -> Vectors:
        """Vectors (n, dim) of length 1."""
        vectors = self.model.encode(
            list(texts), batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, dim) of length 1."""
        return self.encode(texts)

    def encode_titles(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors (n, dim) of length 1."""
        vectors = self.encode(texts)
        if progress is not None:
            progress(len(texts))
        return vectors

    def score(self, query_vector: Vectors, title_vectors: Vectors) -> Vectors:
        """Cosines, moved to 0..1."""
        return np.asarray((1 + title_vectors @ query_vector) / 2, np.float32)

    def matrix_weights(self) -> int:
        """How many weights each token is multiplied with: all matrices but the embeddings and the unused pooler."""
        named = self.model.named_parameters()
        matrices = [
            p for name, p in named if p.ndim == 2 and "embedding" not in name and "pooler" not in name
        ]
        return sum(p.numel() for p in matrices)


class CrossEncoder:
    """A model of the same size that reads query and title together. Its head is fresh: good for timing only."""

    def __init__(self, bundle: Bundle) -> None:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        logging.set_verbosity(40)  # errors only: that the head is fresh is said above
        checkpoint = checkpoint_of(bundle)
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1).eval()

    def score(self, query: str, titles: Sequence[str], *, batch_size: int = BATCH_SIZE) -> Vectors:
        """Scores (n,) of a query against titles, in batches of like length."""
        order = sorted(range(len(titles)), key=lambda i: -len(titles[i]))
        scores = np.empty(len(titles), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                pairs = [query] * len(rows), [titles[i] for i in rows]
                inputs = self.tokenizer(*pairs, padding=True, truncation=True, return_tensors="pt")
                scores[rows] = self.model(**inputs).logits[:, 0].numpy()
        return scores


def checkpoint_of(bundle: Bundle) -> str:
    """Where the checkpoint lies that a bundle was made from."""
    return resolve_checkpoint(str(bundle.manifest.base_model["name"]))
