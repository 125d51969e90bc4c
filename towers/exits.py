"""Early exit: a sentiment head in stages, which a text leaves as soon as its answer is sure, also inside a batch.

    ids, mask -> stage 0 -> hidden states, probabilities -> rows that are sure leave; the others are packed, their
    padding trimmed -> stage 1 -> ... -> last stage, which nobody stays behind

A row's answer depends on its own text alone, whatever company it has. The stages keep that promise: in int8 their
activations have scales that were fixed when the bundle was made (`train/fixed_scales.py`), not scales drawn from each
batch, by which 3 labels in 100 changed with the company (docs/experiments.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.encoder import Progress, available_cores, run_on_all_cores
from towers.errors import BundleError, InputError
from towers.graph import Graph
from towers.sentiment import BATCH_TOKENS, LABELS
from towers.tokens import Ids, TokenReader, batches_by_length, pad

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]
RULES = ("entropy", "margin", "patience")


@dataclass(frozen=True)
class ExitPlan:
    """When a text may leave. The file sentiment-exits.json of a bundle.

    Attributes:
        rule: "entropy": leave when the entropy of the probabilities, as a share of the greatest possible, is at most
            the threshold (DeeBERT, Xin et al. 2020, section 3.2). "margin": when the two greatest probabilities are
            at least the threshold apart. "patience": when the label has stayed the same for `threshold` exits in a
            row after the first (PABEE, Zhou et al. 2020, section 3.3).
        threshold: As the rule says.
        layers: Layers computed up to each exit, ascending; the last one is all of them.
        temperatures: What each exit's logits are divided by; inside the graphs, noted here.
        dev: What was lost and gained on held-out texts.
    """

    rule: str
    threshold: float
    layers: tuple[int, ...]
    temperatures: tuple[float, ...] = ()
    dev: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        if self.rule not in RULES:
            raise InputError(f"found the exit rule {self.rule!r}, expected one of {', '.join(RULES)}")
        if not self.layers or list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 1:
            raise InputError(f"found exits after layers {self.layers}, expected rising numbers from 1 on")

    def to_json(self) -> str:
        """Return the plan as readable JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> ExitPlan:
        """Read a plan.

        Raises:
            BundleError: The file is unreadable or no plan.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = {name: tuple(content[name]) for name in ("layers", "temperatures")}
            return cls(**(content | lists))
        except (OSError, ValueError, TypeError, KeyError) as exc:
            names = ", ".join(entry.name for entry in fields(cls))
            raise BundleError(
                f"{path} is no exit plan ({exc}), expected JSON with {names}. Build the bundle again."
            ) from exc


class Company:
    """The rows still on their way through the stages, as far as the rule wants to know.

    Args:
        rows: How many set out.
    """

    def __init__(self, rows: int) -> None:
        self._label = np.full(rows, -1, np.int64)
        self._agreed = np.zeros(rows, np.int64)  # exits in a row, after the first, that said the same label

    def sure(self, plan: ExitPlan, probabilities: Floats) -> NDArray[np.bool_]:
        """Return which rows leave at an exit, (n,), from its probabilities (n, 3); to be called exit by exit."""
        label = probabilities.argmax(axis=1)
        self._agreed = np.where(label == self._label, self._agreed + 1, 0)
        self._label = label
        if plan.rule == "entropy":
            return entropy(probabilities) <= plan.threshold
        if plan.rule == "margin":
            return margin(probabilities) >= plan.threshold
        return self._agreed >= plan.threshold

    def keep(self, stay: NDArray[np.bool_]) -> None:
        """Forget the rows that have left."""
        self._label, self._agreed = self._label[stay], self._agreed[stay]


def entropy(probabilities: Floats) -> Floats:
    """Return the entropy of rows (..., classes) as a share of the greatest possible: 0 is certain, 1 knows nothing."""
    raw = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1)
    return np.asarray(raw / np.log(probabilities.shape[-1]), np.float32)


def margin(probabilities: Floats) -> Floats:
    """Return how far the two greatest probabilities of rows (..., classes) are apart."""
    ranked = np.sort(probabilities, axis=-1)
    return np.asarray(ranked[..., -1] - ranked[..., -2], np.float32)


def exits_of(plan: ExitPlan, probabilities: Floats) -> Whole:
    """Return at which exit each row leaves, (n,), from the probabilities of all exits (exits, n, classes)."""
    company = Company(probabilities.shape[1])
    sure = np.stack([company.sure(plan, stage) for stage in probabilities])
    sure[-1] = True
    return np.asarray(sure.argmax(axis=0), np.int64)


class ExitingHead:
    """A sentiment head in stages. Softmax and temperature are inside its graphs. May be used from many threads.

    Args:
        tokens: Reads texts.
        stages: One graph for each exit of the plan: (ids or hidden states, mask) -> (probabilities, hidden states), the
            last one without hidden states.
        plan: When to leave.
        threads: Cores to use; None for all.
    """

    def __init__(
        self, tokens: TokenReader, stages: Sequence[Graph], plan: ExitPlan, *, threads: int | None = None
    ) -> None:
        self._tokens = tokens
        self._stages = stages
        self.plan = plan
        self._threads = threads or available_cores()

    def probabilities(self, texts: Sequence[str], *, progress: Progress | None = None) -> Floats:
        """Return probabilities, float32 (n, 3), columns -1, 0, 1, rows that sum to 1."""
        return self.with_exits(texts, progress=progress)[0]

    def with_exits(self, texts: Sequence[str], *, progress: Progress | None = None) -> tuple[Floats, Whole]:
        """Return probabilities, float32 (n, 3), and how many layers were computed for each text, int64 (n,).

        Args:
            texts: n texts.
            progress: Called from worker threads with the number of texts that were just done; may raise to end it.
        """
        rows = self._tokens.ids(texts)
        probabilities = np.empty((len(rows), len(LABELS)), np.float32)
        exits = np.empty(len(rows), np.int64)

        def one(batch: list[int]) -> None:
            probabilities[batch], exits[batch] = self._run([rows[i] for i in batch])

        batches = batches_by_length(rows, tokens=BATCH_TOKENS)
        run_on_all_cores(one, batches, threads=self._threads, progress=progress)
        return probabilities, np.asarray(self.plan.layers, np.int64)[exits]

    def _run(self, rows: Sequence[Ids]) -> tuple[Floats, Whole]:
        """Take one batch through the stages: probabilities (n, 3) and number of the exit (n,)."""
        state: NDArray[Any]
        state, mask = pad(rows)
        lengths = mask.sum(axis=1)
        probabilities = np.empty((len(rows), len(LABELS)), np.float32)
        exits = np.empty(len(rows), np.int64)
        company, places = Company(len(rows)), np.arange(len(rows))
        for number, stage in enumerate(self._stages):
            found, *hidden = stage.outputs(state, mask)
            sure = company.sure(self.plan, found) | (not hidden)
            probabilities[places[sure]], exits[places[sure]] = found[sure], number
            stay = ~sure
            if not stay.any():
                break
            company.keep(stay)
            places = places[stay]
            longest = lengths[places].max()
            state, mask = hidden[0][stay, :longest], mask[stay, :longest]
        return probabilities, exits
