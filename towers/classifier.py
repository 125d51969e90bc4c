"""Any other classifier of a bundle: single texts or pairs of texts to probabilities of named classes, or a number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.encoder import available_cores, run_on_all_cores
from towers.errors import BundleError, InputError
from towers.graph import Graph
from towers.tokens import TokenReader, batches_by_length, pad

BATCH_TOKENS = 512  # as in encoder.py


@dataclass(frozen=True)
class ClassifierFacts:
    """What a classifier says of itself: classifier.json.

    Attributes:
        task: Name of what it was trained on.
        labels: Names of the classes, in the order of the columns; empty where it gives a number.
        pair: Whether it takes two texts.
        max_tokens: Longest example in tokens; of a pair, the longer text is cut.
        prefix: Put before every first text.
        metrics: Name of a held-out set -> measures.
    """

    task: str
    labels: tuple[str, ...]
    pair: bool
    max_tokens: int
    prefix: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Number of columns of the answer."""
        return len(self.labels) or 1

    def to_json(self) -> str:
        """Return the facts as readable JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> ClassifierFacts:
        """Read a bundle's classifier.json.

        Raises:
            BundleError: No such JSON.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(**(content | {"labels": tuple(content["labels"])}))
        except (ValueError, KeyError, TypeError) as exc:
            known = ", ".join(entry.name for entry in fields(cls))
            raise BundleError(f"{path}: {exc!r}, expected {known}. Build the bundle again.") from exc


class Classifier:
    """A bundle's classifier. Softmax, temperature and the types of tokens are inside its graph."""

    def __init__(
        self, tokens: TokenReader, graph: Graph, facts: ClassifierFacts, *, threads: int | None = None
    ) -> None:
        self.facts = facts
        self._tokens = tokens
        self._graph = graph
        self._threads = threads or available_cores()

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return float32 (n, classes), rows that sum to 1; or (n, 1), numbers.

        Args:
            texts: n texts.
            pairs: n second texts, where the classifier takes two.

        Raises:
            InputError: Second texts are missing, too many or not wanted, or an item is not a str.
        """
        self._check(texts, pairs)
        prefix = self.facts.prefix
        firsts = [prefix + text if isinstance(text, str) else text for text in texts] if prefix else texts
        rows = self._tokens.ids(firsts, pairs)
        answers = np.empty((len(rows), self.facts.outputs), np.float32)

        def one(batch: list[int]) -> None:
            answers[batch] = self._graph.run(*pad([rows[i] for i in batch]))

        run_on_all_cores(one, batches_by_length(rows, tokens=BATCH_TOKENS), threads=self._threads)
        return answers

    def _check(self, texts: Sequence[str], pairs: Sequence[str] | None) -> None:
        task = self.facts.task
        if self.facts.pair and pairs is None:
            raise InputError(f"{task} takes pairs of texts, found single ones; give a second text for each")
        if not self.facts.pair and pairs is not None:
            raise InputError(f"{task} takes single texts, found pairs; give no second texts")
        if pairs is not None and len(pairs) != len(texts):
            raise InputError(
                f"found {len(texts)} texts and {len(pairs)} second texts, expected as many of both"
            )
