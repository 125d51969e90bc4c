"""What GET /info says in the words of text-embeddings-inference, beside our own."""

from __future__ import annotations

from typing import Any

from service.state import State
from towers.encoder import BATCH_TOKENS


def info(state: State) -> dict[str, Any]:
    """Its fields that ours do not have; `version` is in both, and is ours."""
    bundle, settings = state.bundle, state.settings
    precision = bundle.manifest.recipe.get("precision", {})
    return {
        "model_id": "dualtower",
        "model_sha": bundle.bundle_id,
        "model_dtype": precision.get("matmul", "float32"),
        "model_type": {"embedding": {"pooling": "mean"}},  # inside the graph; clients want to see some name
        "max_concurrent_requests": settings.processes * (settings.workers + settings.queue),
        "max_input_length": bundle.max_tokens,
        "max_batch_tokens": BATCH_TOKENS,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_texts,
        "auto_truncate": False,
        "tokenization_workers": settings.processes * settings.workers,
        "sha": None,
        "docker_label": None,
    }
