"""More training texts from those that there are: words left out or exchanged, typing errors, homophones; labels stay.

After Wei and Zou 2019 ("EDA: easy data augmentation techniques for boosting performance on text classification tasks"),
with two changes. Negations and words with digits are never touched, nor is a word moved out of the reach of a negation:
that turns labels. And words change places with their neighbours only, as people do when they type; in a random order
neither a tower nor a person knows who did what to whom.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.labelled import Texts
from towers.train.data import PairSet, Split, text_key
from towers.train.dataset.duplicates import normal_form
from towers.train.dataset.editing import OPERATIONS, shared_editor

SIDES = ("either", "query", "title")
SAMPLINGS = ("bm25", "vectors")


@dataclass(frozen=True)
class AugmentRecipe:
    """How many texts are made, and how they differ from those given.

    Sources: Wei and Zou 2019 (EDA); of the last four settings Thakur et al. 2021 ("Augmented SBERT", section 3.1).
    Costs milliseconds a text; training on twice the rows costs as much again. EDA's gain is in small sets: 3 points
    with 500 texts, under 1 with whole sets. Not where single words decide, as colours in product titles do.

    Attributes:
        operations: Each new text gets one of these, drawn: "delete", "swap", "typing", "homophone".
        rate: Share of a text's words that change, at least one word; 0.1 is EDA's.
        copies: New texts for each row. EDA takes 4 to 16, but only in sets of up to 5,000; guess, untested.
        sides: Which text of a pair changes: "query", "title", or "either", drawn for each new pair.
        seed: Of all draws. What is made of a row depends on its own texts alone, not on the other rows.
        new_pairs: AugSBERT: recombined pairs that the cross-encoder labels, for each given pair.
        sampling: AugSBERT: titles that may go with another query: "bm25" by words, "vectors" by cosine. Both are
            the paper's.
        neighbours: AugSBERT: at most this many for each query; guess, untested.
        certain: AugSBERT, of 1 and 0: a new pair is kept if its score is at least this, or at most 1 minus this; guess,
            untested.
    """

    operations: tuple[str, ...] = OPERATIONS
    rate: float = 0.1
    copies: int = 1
    sides: str = "either"
    seed: int = 13
    new_pairs: float = 1.0
    sampling: str = "bm25"
    neighbours: int = 5
    certain: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what makes no sense; a list, as TOML gives it, is as good as a tuple."""
        object.__setattr__(self, "operations", tuple(self.operations))
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown or not self.operations:
            raise InputError(
                f"augment: found operations = {list(self.operations)}, expected some of {list(OPERATIONS)}"
            )
        for name, value, allowed in (("sides", self.sides, SIDES), ("sampling", self.sampling, SAMPLINGS)):
            if value not in allowed:
                raise InputError(f"augment: found {name} = {value!r}, expected one of {', '.join(allowed)}")
        if not 0 < self.rate <= 0.5 or self.copies < 1:
            raise InputError(
                f"augment: found rate = {self.rate} and copies = {self.copies}, expected a rate above 0 and up to 0.5, "
                "and at least 1 copy"
            )
        if self.new_pairs <= 0 or self.neighbours < 1 or not 0.5 <= self.certain <= 1:
            raise InputError(
                f"augment: found new_pairs = {self.new_pairs}, neighbours = {self.neighbours}, "
                f"certain = {self.certain}; expected more than 0, at least 1, and 0.5 to 1"
            )


@dataclass(frozen=True)
class Change:
    """A new row: that of a given row with one text changed, under the same label.

    Attributes:
        row: Number of the given row.
        side: Which of its texts changed: 0, or 1 for the title of a pair.
        operation: How.
        text: What it reads now.
    """

    row: int
    side: int
    operation: str
    text: str


def changes(rows: Sequence[tuple[str, ...]], *, recipe: AugmentRecipe | None = None) -> list[Change]:
    """Make new rows of labelled ones.

    No new row is a repeat, up to case and spaces, of a given row or of another new one; so there may be fewer than
    `copies` for a row, as of a text of one word.

    Args:
        rows: n times (text,) or (query, title).
        recipe: Settings; None for the defaults.
    """
    recipe = recipe or AugmentRecipe()
    editor = shared_editor()
    known = {tuple(map(normal_form, row)) for row in rows}
    made = []
    for number, row in enumerate(rows):
        for copy in range(recipe.copies):
            rng = random.Random(_number(recipe.seed, copy, row))
            side = _side(len(row), recipe.sides, rng)
            operation = rng.choice(recipe.operations)
            text = editor.changed(row[side], operation, rate=recipe.rate, rng=rng)
            if text is None:
                continue
            key = tuple(map(normal_form, (*row[:side], text, *row[side + 1 :])))
            if key not in known:
                known.add(key)
                made.append(Change(number, side, operation, text))
    return made


def augment_texts(data: Texts, *, recipe: AugmentRecipe | None = None, seed: int | None = None) -> Texts:
    """Return the texts and the new ones after them; a seed replaces that of the recipe."""
    made = changes([(text,) for text in data.texts], recipe=_seeded(recipe, seed))
    rows = [change.row for change in made]
    return Texts([*data.texts, *(x.text for x in made)], np.concatenate([data.labels, data.labels[rows]]))


def augment_split(
    pairs: PairSet, split: Split, *, recipe: AugmentRecipe | None = None, seed: int | None = None
) -> tuple[PairSet, Split]:
    """Return the set with new pairs of its training side, which they join; none has a text that is not of that side."""
    recipe = _seeded(recipe, seed)
    rows = np.flatnonzero(split.train)
    elsewhere = {
        text_key(text) for i in np.flatnonzero(~split.train) for text in (pairs.queries[i], pairs.titles[i])
    }
    made = changes([(pairs.queries[i], pairs.titles[i]) for i in rows], recipe=recipe)
    made = [change for change in made if text_key(change.text) not in elsewhere]
    sources = [int(rows[change.row]) for change in made]
    return with_pairs(
        pairs,
        split,
        queries=[c.text if c.side == 0 else pairs.queries[i] for c, i in zip(made, sources, strict=True)],
        titles=[c.text if c.side == 1 else pairs.titles[i] for c, i in zip(made, sources, strict=True)],
        labels=pairs.labels[sources],
    )


def _seeded(recipe: AugmentRecipe | None, seed: int | None) -> AugmentRecipe:
    recipe = recipe or AugmentRecipe()
    return recipe if seed is None else replace(recipe, seed=seed)


def with_pairs(
    pairs: PairSet, split: Split, *, queries: list[str], titles: list[str], labels: NDArray[np.float32]
) -> tuple[PairSet, Split]:
    """Add pairs, labels (m,) in 0..1, to the training side of a set."""
    grown = replace(
        pairs,
        queries=[*pairs.queries, *queries],
        titles=[*pairs.titles, *titles],
        labels=np.concatenate([pairs.labels, labels.astype(np.float32)]),
        rows=pairs.rows + len(queries),
    )
    new = np.ones(len(queries), bool)
    return grown, Split(np.concatenate([split.train, new]), np.concatenate([split.dev, ~new]))


def _side(count: int, sides: str, rng: random.Random) -> int:
    if count == 1:
        return 0
    return rng.randrange(2) if sides == "either" else SIDES.index(sides) - 1


def _number(seed: int, copy: int, row: tuple[str, ...]) -> int:
    return int.from_bytes(hashlib.sha256("\0".join((f"{seed} {copy}", *row)).encode()).digest()[:8], "big")
