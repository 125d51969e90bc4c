"""What scoring titles costs: a cross-encoder, and towers with vectors cached and not; and the cross-encoder's graph.

So that methods are compared and not engines, the cross-encoder is timed in torch and, as the towers are, in int8 in
onnxruntime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.encoder import BATCH_TOKENS, available_cores, run_on_all_cores
from towers.errors import InputError
from towers.tokens import Ids, batches_by_length, pad
from towers.train.export import Precision, export_graph, quantize, tokenizer_json

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from towers.bundle import Bundle

Floats = NDArray[np.float32]

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


class CrossGraph(nn.Module):
    """A cross-encoder as (input_ids, attention_mask) of pairs int64 (n, tokens) -> probabilities float32 (n, 1).

    Which tokens are of the title is told from the separator behind the query, so that the graph has two inputs as
    all others do.
    """

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.classifier: Any = model.model
        has_types = "token_type_ids" in model.tokenizer.model_input_names
        self.separator = int(model.tokenizer.sep_token_id) if has_types else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score a padded batch of pairs."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self.separator is not None:
            ends = (input_ids == self.separator).long()
            inputs["token_type_ids"] = ((ends.cumsum(dim=1) - ends) > 0).long() * attention_mask
        return torch.sigmoid(self.classifier(**inputs).logits)


def cross_graph(model: CrossEncoder) -> onnx.ModelProto:
    """Export a cross-encoder as a float32 graph for any number of pairs of any length."""
    return export_graph(
        CrossGraph(model), output="probabilities", max_tokens=int(model.max_seq_length or 512)
    )


class CrossGraphRunner:
    """A cross-encoder in onnxruntime, on all cores, as the towers are.

    Args:
        model: The cross-encoder.
        precision: None for the default, int8.
    """

    def __init__(self, model: CrossEncoder, *, precision: Precision | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        graph = quantize(cross_graph(model), precision or Precision())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # as towers.graph: a thread for each batch
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_str(tokenizer_json(model.tokenizer))
        self._tokenizer.enable_truncation(int(model.max_seq_length or 512))

    def scores(self, queries: Sequence[str], titles: Sequence[str]) -> Floats:
        """Return how well queries and titles match, side by side: float32 (n,) in 0..1."""
        encodings = self._tokenizer.encode_batch_fast(list(zip(queries, titles, strict=True)))
        rows: list[Ids] = [np.asarray(encoding.ids, np.int64) for encoding in encodings]
        scores = np.empty(len(rows), np.float32)

        def one(batch: list[int]) -> None:
            ids, mask = pad([rows[i] for i in batch])
            inputs = {"input_ids": ids, "attention_mask": mask}
            scores[batch] = self._session.run(None, inputs)[0][:, 0]

        batches = batches_by_length(rows, tokens=BATCH_TOKENS)
        run_on_all_cores(one, batches, threads=available_cores())
        return scores
