"""A classifier with exits as staged graphs: each goes from one exit to the next.

stage 0: ids, mask -> probabilities, hidden states      stage k: hidden states, mask -> probabilities, hidden states
last stage: hidden states, mask -> probabilities
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from towers.errors import InputError
from towers.tokens import Ids, batches_by_length, pad
from towers.train.bodies import body_of
from towers.train.early_exit.exit_model import ExitClassifier
from towers.train.exporting.export import Precision, _quiet, quantize, without_metadata
from towers.train.structures.cut import cut

Floats = NDArray[np.float32]
_BATCH_TOKENS = 512  # as the runtime's
_ROUNDING = 1e-3  # what a float32 graph may differ from torch by; more is a wrong export


class StageGraph(nn.Module):
    """The layers between two exits, and the head of the second one. A copy: the model itself stays whole.

    Args:
        model: The classifier with exits.
        number: Of the stage, from 0.
        temperature: Divides the exit's logits.
    """

    def __init__(self, model: ExitClassifier, number: int, *, temperature: float) -> None:
        super().__init__()
        first = model.layers[number - 1] if number else 0
        classifier = copy.deepcopy(model.classifier)
        cut(classifier, tuple(range(first, model.layers[number])))
        if number:
            body_of(classifier).embeddings = _Passing()
        is_last = number == len(model.layers) - 1
        self.piece: Any = classifier if is_last else body_of(classifier)
        self.head = None if is_last else copy.deepcopy(model.heads[number])
        self.temperature = temperature

    def forward(self, state: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Go on from ids int64 (n, tokens) or hidden states (n, tokens, width), with mask int64 (n, tokens)."""
        answer = self.piece(input_ids=state, attention_mask=attention_mask)
        if self.head is None:
            return (self._probabilities(answer.logits),)
        hidden = answer.last_hidden_state
        return self._probabilities(self.head(hidden, attention_mask)), hidden

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits / self.temperature, dim=-1)


class _Passing(nn.Module):
    """In the place of embeddings: what comes in as ids is hidden states already."""

    def forward(self, input_ids: Tensor, *args: Any, **ignored: Any) -> Tensor:
        return input_ids


def export_stages(
    model: ExitClassifier, *, temperatures: Sequence[float], max_tokens: int
) -> list[onnx.ModelProto]:
    """Trace each stage into a float32 graph for any batch size and length.

    Args:
        model: The classifier with exits.
        temperatures: One for each exit.
        max_tokens: Longest input that the graphs must take.
    """
    stages = []
    for number, temperature in enumerate(temperatures):
        module = StageGraph(model, number, temperature=temperature).eval().cpu()
        example = torch.ones((2, 5), dtype=torch.int64)
        if number:
            example = torch.randn((2, 5, int(body_of(model).config.hidden_size)))
        outputs = ["probabilities"] if number == len(model.layers) - 1 else ["probabilities", "hidden"]
        stages.append(_export(module, example, "hidden_in" if number else "input_ids", outputs, max_tokens))
    return stages


def quantize_stages(
    stages: Sequence[onnx.ModelProto], precision: Precision, *, layers: Sequence[int], rows: Sequence[Ids]
) -> list[onnx.ModelProto]:
    """Return the stages in the wanted precision; int8 is static in any case, see `towers.exits`.

    Args:
        stages: In float32.
        layers: Layers computed up to each exit.
        precision: As for the towers; embeddings are in the first stage alone.
        rows: Token ids of some hundred texts of the kind that will be asked about, for the scales of activations.
    """
    static = "float32" if precision.matmul == "float32" else "int8-static"
    first = dataclasses.replace(precision, matmul=static)
    later = dataclasses.replace(first, embedding="float32")
    feeds: list[tuple[NDArray[Any], Ids]] = [(row[None], np.ones((1, len(row)), np.int64)) for row in rows]
    quantized = []
    for number, stage in enumerate(stages):
        wanted, below = (later, layers[number - 1]) if number else (first, 0)
        quantized.append(quantize(stage, wanted, feeds=feeds, first_layer=below))
        if number < len(stages) - 1:
            session = _session(quantized[-1])
            feeds = [(_run(session, *feed)[1], feed[1]) for feed in feeds]
    return quantized


def stage_probabilities(stages: Sequence[onnx.ModelProto], rows: Sequence[Ids]) -> Floats:
    """Return the probabilities of all exits, float32 (exits, n, classes), with nobody leaving early."""
    sessions = [_session(stage) for stage in stages]
    found: list[list[Any]] = [[None] * len(rows) for _ in stages]
    for batch in batches_by_length(rows, tokens=_BATCH_TOKENS):
        state: Any
        state, mask = pad([rows[i] for i in batch])
        for number, session in enumerate(sessions):
            probabilities, *hidden = _run(session, state, mask)
            for i, row in zip(batch, probabilities, strict=True):
                found[number][i] = row
            state = hidden[0] if hidden else None
    return np.array(found, np.float32)


def check_parity(found: Floats, expected: Floats) -> float:
    """Return the greatest difference between the float32 stages' probabilities and torch's.

    Raises:
        InputError: It is more than rounding.
    """
    difference = float(np.abs(found - expected).max())
    if difference > _ROUNDING:
        raise InputError(
            f"the staged graphs' probabilities differ from torch's by up to {difference:.4f}, expected under "
            f"{_ROUNDING}: this architecture does more between its layers than a stage can take along. "
            "Use a BERT-like checkpoint."
        )
    return difference


def _export(
    module: nn.Module, example: Tensor, name: str, outputs: list[str], max_tokens: int
) -> onnx.ModelProto:
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=max_tokens)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "stage.onnx"
        torch.onnx.export(
            module,
            (example, mask),
            str(path),
            input_names=[name, "attention_mask"],
            output_names=outputs,
            dynamic_shapes={"state": {0: rows, 1: tokens}, "attention_mask": {0: rows, 1: tokens}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return without_metadata(onnx.load(str(path)))


def _session(graph: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _run(session: Any, state: NDArray[Any], mask: Ids) -> list[Floats]:
    names = [entry.name for entry in session.get_inputs()]
    return cast("list[Floats]", session.run(None, dict(zip(names, (state, mask), strict=True))))
