"""Pairs for the scorer with a cross-encoder as teacher.

Labelled pairs, mined ones among them, get the mean of label and teacher's score, weighted (Hinton et al. 2015, section
2: with cross-entropy, mixing targets is mixing losses). New pairs, each query with titles that lie near it and with
random ones, get the teacher's score alone (Thakur et al. 2021, "Augmented SBERT", section 3.1; semantic search and
random sampling). The teacher must not have seen dev pairs; that of `fit` has the same split.

Cost: the teacher reads every pair once. Not worth it where the teacher is no better than the scorer without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from towers.train.cross.cross_encoder import CrossRecipe, fit_cross, load_teacher
from towers.train.cross.cross_graph import CrossGraphRunner
from towers.train.data import PairSet, Split
from towers.train.dataset.mine import hard_negatives
from towers.train.exporting.precision import Precision
from towers.train.scorer_training import ScorerPairs, ScorerRecipe

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Score = Callable[[Sequence[str], Sequence[str]], Floats]
"""Queries and titles, side by side -> how well they match, float32 (n,) in 0..1."""

_TEACHING = Precision(embedding="int8")  # near to float32, at a quarter of torch's time (cross_graph.py)
_NEAREST = 10  # near titles of a query to draw from; guess, untested
_NO_CEILING = (
    2.0  # stands for a match's cosine that no title reaches: near titles may match as well as they like
)


def taught_pairs(
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    pairs: Sequence[ScorerPairs],
    mined: Sequence[ScorerPairs],
    *,
    teacher: Score,
    recipe: ScorerRecipe,
    seed: int,
) -> list[ScorerPairs]:
    """Return the training pairs of all sets with the teacher's say, and its new pairs.

    Args:
        sets: The sets.
        splits: One for each; only training sides are used, also for new pairs.
        pairs: The sets as rows of one table of vectors.
        mined: Mined pairs of each set, as rows of the same table.
        teacher: The cross-encoder.
        recipe: `teacher` is its weight, `teacher_pairs` how many new pairs there are for each labelled one.
        seed: Of the draw of new pairs.
    """
    query_texts, title_texts = _texts(sets, pairs)

    def score(asked: ScorerPairs) -> Floats:
        if not len(asked):
            return np.empty(0, np.float32)
        queries = [query_texts[row] for row in asked.queries.tolist()]
        return teacher(queries, [title_texts[row] for row in asked.titles.tolist()])

    rng = np.random.default_rng(seed)
    found = []
    for split, known, negatives in zip(splits, pairs, mined, strict=True):
        labelled = known.where(split.train)
        fresh = new_pairs(labelled, share=recipe.teacher_pairs, rng=rng)
        weight = recipe.teacher
        found += [relabelled(x, mixed(x.labels, score(x), weight=weight)) for x in (labelled, negatives)]
        found.append(relabelled(fresh, score(fresh)))
    return found


def find_teacher(
    name: str,
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    *,
    recipe: CrossRecipe,
    checkpoint: str | Path | None,
    work: Path,
    resume: bool,
) -> Score | None:
    """Return who teaches the scorer.

    Args:
        name: "" for nobody, "cross" for a cross-encoder that is trained first, else a directory or hub name.
        sets: The sets.
        splits: One for each.
        recipe: Of the cross-encoder that is trained; the others likewise, see `fit_cross`.
        checkpoint: What it starts from.
        work: Folder of its training.
        resume: Go on with it.
    """
    if not name:
        return None
    if name != "cross":
        model = load_teacher(name)
    else:
        options: dict[str, Any] = {"checkpoint": checkpoint, "work": work, "resume": resume}
        model = fit_cross(sets, splits, recipe=recipe, **options)
    return as_teacher(model)


def as_teacher(model: CrossEncoder) -> Score:
    """Return what a cross-encoder says of queries and titles, computed in int8: a pass over all pairs is not cheap."""
    return CrossGraphRunner(model, precision=_TEACHING).scores


def dev_texts(sets: Sequence[PairSet], splits: Sequence[Split]) -> tuple[list[str], list[str]]:
    """Return queries and titles of the dev sides of all sets, in order."""
    rows = [(pairs, i) for pairs, split in zip(sets, splits, strict=True) for i in np.flatnonzero(split.dev)]
    return [pairs.queries[i] for pairs, i in rows], [pairs.titles[i] for pairs, i in rows]


def mixed(labels: Floats, scores: Floats, *, weight: float) -> Floats:
    """Return (1 - weight) · label + weight · teacher's score, (n,)."""
    return ((1 - weight) * labels + weight * scores).astype(np.float32)


def relabelled(pairs: ScorerPairs, labels: Floats) -> ScorerPairs:
    """Return the pairs with other labels."""
    return ScorerPairs(pairs.vectors, pairs.queries, pairs.titles, labels, pairs.sets)


def new_pairs(labelled: ScorerPairs, *, share: float, rng: np.random.Generator) -> ScorerPairs:
    """Return about share · n pairs of the set's queries and titles that nobody labelled, half near and half random.

    Their labels are 0 until the teacher gives others.
    """
    queries, titles = np.unique(labelled.queries), np.unique(labelled.titles)
    known: dict[int, set[int]] = {int(query): {int(query)} for query in queries}
    for query, title in zip(labelled.queries.tolist(), labelled.titles.tolist(), strict=True):
        known[query].add(title)
    wanted = round(share * len(labelled))
    near = _near_pairs(labelled.vectors, queries, titles, known)
    drawn = near[rng.permutation(len(near))[: wanted // 2]]
    random = np.stack([rng.choice(queries, wanted), rng.choice(titles, wanted)], axis=1)
    taken = {tuple(pair) for pair in drawn.tolist()}
    rows = drawn.tolist()
    for query, title in random.tolist():
        if len(rows) < wanted and title not in known[query] and (query, title) not in taken:
            taken.add((query, title))
            rows.append([query, title])
    table = np.array(rows, np.int64).reshape(-1, 2)
    return ScorerPairs(
        vectors=labelled.vectors,
        queries=table[:, 0],
        titles=table[:, 1],
        labels=np.zeros(len(table), np.float32),
        sets=np.full(len(table), labelled.sets[0], np.int64),
    )


def _near_pairs(vectors: Floats, queries: Rows, titles: Rows, known: dict[int, set[int]]) -> Rows:
    """(m, 2) each query with the titles nearest to it that are not labelled."""
    place = {int(title): i for i, title in enumerate(titles)}
    found = hard_negatives(
        vectors[queries],
        vectors[titles],
        positive_cosines=np.full(len(queries), _NO_CEILING, np.float32),
        known=[np.array([place[x] for x in known[int(query)] if x in place], np.int64) for query in queries],
        count=_NEAREST,
    )
    counts = [len(rows) for rows in found]
    return np.stack([np.repeat(queries, counts), titles[np.concatenate(found)]], axis=1)


def _texts(sets: Sequence[PairSet], pairs: Sequence[ScorerPairs]) -> tuple[dict[int, str], dict[int, str]]:
    """The text behind each row of the table, of queries and of titles."""
    queries: dict[int, str] = {}
    titles: dict[int, str] = {}
    for data, rows in zip(sets, pairs, strict=True):
        queries |= dict(zip(rows.queries.tolist(), data.queries, strict=True))
        titles |= dict(zip(rows.titles.tolist(), data.titles, strict=True))
    return queries, titles
