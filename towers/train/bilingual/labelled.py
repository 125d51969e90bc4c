"""Lessons from labels, and how lessons share the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from towers.train.bilingual.lessons import Lesson
from towers.train.bilingual.material import is_chinese
from towers.train.data import PairSet


def labelled_lessons(training: Sequence[PairSet], triples: Sequence[tuple[str, ...]]) -> list[Lesson]:
    """Return what Chinese pairs and triples teach: to contrast those that match, and to order all.

    A set's share goes with the root of its size, so that large ones do not drown the others.
    """
    lessons = [Lesson("triples", "contrast", len(triples) ** 0.5, list(triples))] if triples else []
    for pairs in training:
        if not is_chinese(pairs.queries[:200]):
            continue
        texts: list[tuple[str, ...]] = list(zip(pairs.queries, pairs.titles, strict=True))
        lessons.append(Lesson(pairs.name, "order", len(texts) ** 0.5, texts, pairs.labels))
        matching = [texts[row] for row in np.flatnonzero(pairs.labels >= 0.5)]
        if matching and pairs.kind != "float":  # similarities of sentences name no match
            lessons.append(Lesson(pairs.name, "contrast", len(matching) ** 0.5, matching))
    return lessons


def with_english(lessons: Sequence[Lesson], training: Sequence[PairSet]) -> list[Lesson]:
    """Return Chinese lessons and as many steps of order from the pairs in other languages as from theirs."""
    added = [
        Lesson(
            pairs.name,
            "order",
            len(pairs) ** 0.5,
            list(zip(pairs.queries, pairs.titles, strict=True)),
            pairs.labels,
        )
        for pairs in training
        if not is_chinese(pairs.queries[:200])
    ]
    theirs = sum(lesson.share for lesson in lessons if lesson.kind == "order")
    ours = sum(lesson.share for lesson in added)
    return [*lessons, *(replace(lesson, share=lesson.share * theirs / ours) for lesson in added)]


def shared_out(lessons: Sequence[Lesson], shares: Mapping[str, float]) -> list[Lesson]:
    """Return the lessons with the shares of each kind made to add up to the share of all steps that it has."""
    totals = {kind: sum(lesson.share for lesson in lessons if lesson.kind == kind) for kind in shares}
    return [replace(x, share=x.share / totals[x.kind] * shares[x.kind]) for x in lessons]
