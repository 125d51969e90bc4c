"""Errors as text-embeddings-inference shows them: {error, error_type}, the latter one of six names."""

from __future__ import annotations

from pydantic_core import to_json

from service.dialects.dialect import Dialect

# Its clients may know these names only. What it has no name for (a wrong key, an unknown method) is the request's
# fault, so it goes under Validation and keeps its own status.
NAMES = {
    400: "Empty",
    422: "Tokenizer",
    424: "Backend",
    429: "Overloaded",
    500: "Backend",
    503: "Unhealthy",
}
OTHERS = "Validation"


def failure(status: int, message: str, error_type: str) -> tuple[int, bytes]:
    """One error in this shape. A head that the bundle does not have is a backend that cannot, 424."""
    if error_type == "NoSentimentError":
        status = 424
    return status, to_json({"error": message, "error_type": NAMES.get(status, OTHERS)})


TEI = Dialect(
    "text-embeddings-inference",
    frozenset({"/", "/embed", "/similarity", "/rerank", "/predict", "/tokenize", "/health"}),
    failure,
)
