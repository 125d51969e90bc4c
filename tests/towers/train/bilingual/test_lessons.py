from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.train.bilingual.lessons import Lesson, LessonPlan
from towers.train.bilingual.recipe import KINDS


def made_up(
    name: str, kind: str, share: float, items: int, columns: int
) -> tuple[Lesson, list[tuple[np.ndarray, ...]]]:
    """A lesson whose i-th item has the ids 100 i + column, repeated to some length of its own."""
    rng = np.random.default_rng(items)
    ids = [
        tuple(np.full(rng.integers(2, 9), 100 * item + column, np.int64) for column in range(1, columns + 1))
        for item in range(items)
    ]
    targets = {
        "imitate": np.arange(items)[:, None] * np.ones((1, 4)),
        "order": np.arange(items),
        "contrast": None,
    }
    return Lesson(name, kind, share, [("text",) * columns] * items, targets[kind]), ids


def plan_of(*parts: tuple[Lesson, Any], steps: int, batch_texts: int = 12, seed: int = 1) -> LessonPlan:
    lessons, ids = zip(*parts, strict=True)
    return LessonPlan(lessons, ids, steps=steps, batch_texts=batch_texts, seed=seed)


def kinds_of(plan: LessonPlan) -> list[str]:
    return [KINDS[int(plan[step]["kind"])] for step in range(len(plan))]


@pytest.fixture(scope="module")
def parts() -> list[tuple[Lesson, Any]]:
    return [
        made_up("english", "imitate", 0.5, 40, 1),
        made_up("pairs", "contrast", 1.0, 30, 2),
        made_up("triples", "contrast", 0.25, 30, 3),
        made_up("labelled", "order", 0.25, 50, 2),
    ]


def test_each_lesson_has_its_share_of_the_steps(parts: list[tuple[Lesson, Any]]) -> None:
    """Shares are relative to each other; lessons take turns rather than follow each other."""
    kinds = kinds_of(plan_of(*parts, steps=80))
    assert {kind: kinds.count(kind) for kind in KINDS} == {"imitate": 20, "contrast": 50, "order": 10}
    assert len(set(kinds[:40])) == len(set(kinds[40:])) == 3


@settings(max_examples=30)
@given(
    st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda shares: sum(shares) > 0.1),
    st.integers(1, 40),
)
def test_steps_are_divided_without_rest(shares: list[float], steps: int) -> None:
    """There are as many steps as asked, and no lesson is off its share by a whole step."""
    columns = {"imitate": 1, "contrast": 2, "order": 2}
    lessons = [
        made_up(kind, kind, share, 5, columns[kind]) for kind, share in zip(KINDS, shares, strict=True)
    ]
    kinds = kinds_of(plan_of(*lessons, steps=steps))
    assert len(kinds) == steps
    for kind, share in zip(KINDS, shares, strict=True):
        assert abs(kinds.count(kind) - share / sum(shares) * steps) < 1 + 1e-9


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_batch_holds_first_texts_then_second_ones(columns: int) -> None:
    """And so on; a text shorter than the longest one is filled with zeros that the mask leaves out."""
    kind = "imitate" if columns == 1 else "contrast"
    lesson, ids = made_up("made up", kind, 1, 20, columns)
    for batch in plan_of((lesson, ids), steps=8):
        items = int(batch["items"])
        parts = batch["input_ids"].split(items)
        assert len(parts) == columns
        rows = [int(row[0]) // 100 for row in parts[0]]
        assert len(set(rows)) == items
        for column, part in enumerate(parts):
            for row, found in zip(rows, part, strict=True):
                wanted = ids[row][column]
                assert found[: len(wanted)].tolist() == wanted.tolist()
                assert not found[len(wanted) :].any()
        assert torch.equal(batch["attention_mask"], (batch["input_ids"] != 0).long())
        assert batch["attention_mask"].sum(dim=1).max() == batch["input_ids"].shape[1]


def test_a_batch_holds_the_targets_of_its_items(parts: list[tuple[Lesson, Any]]) -> None:
    """In the order of the items, as float32; there are none to contrast."""
    for batch in plan_of(*parts, steps=30):
        kind = KINDS[int(batch["kind"])]
        if kind == "contrast":
            assert "targets" not in batch
            continue
        rows = (batch["input_ids"][: int(batch["items"]), 0] // 100).tolist()
        targets = batch["targets"]
        assert targets.dtype == torch.float32
        assert (targets[:, 0] if kind == "imitate" else targets).tolist() == rows


def test_a_batch_has_so_many_texts(parts: list[tuple[Lesson, Any]]) -> None:
    """At most, of however many columns; but never less than two items are asked for, or nothing could be compared."""
    assert max(len(batch["input_ids"]) for batch in plan_of(*parts, steps=40)) == 12
    small = plan_of(parts[2], steps=9, batch_texts=3)
    assert {int(batch["items"]) for batch in small} == {2}


def test_every_item_has_its_turn(parts: list[tuple[Lesson, Any]]) -> None:
    """A pass goes through all items once before any comes again."""
    seen = [
        int(row) // 100
        for batch in plan_of(parts[0], steps=4, batch_texts=10)
        for row in batch["input_ids"][:, 0]
    ]
    assert sorted(seen) == list(range(40))


def test_the_same_seed_is_the_same_plan(parts: list[tuple[Lesson, Any]]) -> None:
    """Also when batches are asked for in another order; another seed is another plan."""
    first, second = plan_of(*parts, steps=20), plan_of(*parts, steps=20)
    for step in reversed(range(20)):
        a, b = first[step], second[step]
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert kinds_of(plan_of(*parts, steps=20, seed=2)) != kinds_of(first)
