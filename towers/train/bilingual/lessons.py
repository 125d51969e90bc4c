"""What a bilingual tower is taught, batch by batch, planned before training so that a resumed run sees the same ones.

Three kinds of lessons take turns:

    imitate    a text's vector approaches a teacher's: English texts, and Chinese texts through their translations
    contrast   a query finds its own title among those of the batch
    order      labelled pairs of one set stand in the order of their labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from towers.tokens import Ids, pad
from towers.train.batches import grouped_by_length
from towers.train.bilingual.recipe import KINDS


@dataclass(frozen=True)
class Lesson:
    """Texts of one kind and one origin.

    Attributes:
        name: Of the origin, for the log.
        kind: One of `KINDS`.
        share: Of all steps that this lesson gets, relative to the other lessons' shares.
        texts: One tuple of texts an item: one text to imitate, a pair to contrast or to order, a pair and a third text
            that does not match to contrast.
        targets: (n, dim) vectors to imitate, or (n,) labels to order by; None to contrast.
    """

    name: str
    kind: str
    share: float
    texts: list[tuple[str, ...]]
    targets: NDArray[np.floating[Any]] | None = field(repr=False, default=None)


class LessonPlan(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The batches of all lessons in the order in which they are taught; each is made when it is asked for."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        ids: Sequence[Sequence[tuple[Ids, ...]]],
        *,
        steps: int,
        batch_texts: int,
        seed: int,
    ) -> None:
        self._lessons, self._ids = lessons, ids
        self._plan = _planned(lessons, ids, steps=steps, batch_texts=batch_texts, seed=seed)

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        number, rows = self._plan[step]
        lesson, ids = self._lessons[number], self._ids[number]
        columns = zip(*(ids[row] for row in rows), strict=True)
        input_ids, attention_mask = pad([row for column in columns for row in column])
        batch = {
            "kind": torch.tensor(KINDS.index(lesson.kind)),
            "items": torch.tensor(len(rows)),
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
        }
        if lesson.targets is not None:
            batch["targets"] = torch.from_numpy(lesson.targets[rows].astype(np.float32))
        return batch


def _planned(
    lessons: Sequence[Lesson],
    ids: Sequence[Sequence[tuple[Ids, ...]]],
    *,
    steps: int,
    batch_texts: int,
    seed: int,
) -> list[tuple[int, list[int]]]:
    """Return for each step the number of its lesson and the rows of its items."""
    shares = np.array([lesson.share for lesson in lessons])
    counts = _apportioned(shares, steps)
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(lessons)), counts))
    batches = [
        iter(
            grouped_by_length(
                np.array([max(map(len, item)) for item in of_lesson]),
                batch_size=max(2, batch_texts // len(lesson.texts[0])),
                steps=int(count),
                seed=seed + number,
            )
        )
        for number, (lesson, of_lesson, count) in enumerate(zip(lessons, ids, counts, strict=True))
    ]
    return [(int(number), next(batches[number]).tolist()) for number in order]


def _apportioned(shares: NDArray[np.float64], steps: int) -> NDArray[np.int64]:
    """Divide steps by shares: whole numbers that add up, the largest remainders rounded up."""
    exact = shares / shares.sum() * steps
    counts: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: steps - counts.sum()]] += 1
    return counts
