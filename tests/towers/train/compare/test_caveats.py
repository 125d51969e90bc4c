"""Doubts follow from the numbers: seeds, steps, overlap, held-out rows, noisy timings, missing techniques."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.towers.train.compare.made_up import REALISTIC, failed, measure, reference, results, row
from towers import metrics
from towers.train.compare.caveats import caveats, sample_error
from towers.train.compare.compared import views_of
from towers.train.compare.results import MATCH, DataFacts, Row, Spread

UNCUT = reference(steps=900, quality=measure(0.800, 0.802, 0.804))
NO_DATA = {MATCH: None}


def doubts(*rows: Row) -> list[str]:
    """Doubts about one task, without those about techniques that the few rows leave out."""
    found = caveats(views_of(results(*rows, data=NO_DATA)))
    return [doubt.removeprefix("Pairs: ") for doubt in found if not doubt.startswith("Not in this")]


def test_one_seed_has_no_spread() -> None:
    """Said of single rows, or once of all."""
    alone = row("alone", quality=measure(0.9))
    assert doubts(UNCUT, alone) == ["no spread known, one seed only: “alone”."]
    assert doubts(reference(steps=900, quality=measure(0.8)), alone) == [
        "one seed only, no spread known: no difference of a trained row is established."
    ]


def test_what_is_not_trained_needs_no_seeds() -> None:
    """int8 of one model is the same every time."""
    assert doubts(UNCUT, row("int8", steps=0, seeded=False, quality=measure(0.9))) == []


def test_short_training_is_noise() -> None:
    """How much noise is what the seeds of the task's rows differ by; with one seed nobody knows."""
    short = row("short", steps=499, quality=measure(0.85, 0.86, 0.87))
    assert doubts(UNCUT, short, row("long", steps=500, quality=measure(0.9, 0.9, 0.9))) == [
        "short training, differences below 2.00 points are noise: “short” (499 steps)."
    ]
    assert doubts(UNCUT, row("short", steps=7, quality=measure(0.9)))[1] == (
        "short training, differences below 0.40 points are noise: “short” (7 steps)."
    )
    assert doubts(reference(quality=measure(0.8)), row("short", steps=7, quality=measure(0.9)))[1] == (
        "short training, one seed cannot say how large the noise is: “short” (7 steps)."
    )


def test_overlapping_seeds_establish_nothing() -> None:
    """The rows are named with their difference."""
    assert doubts(
        UNCUT, row("a", quality=measure(0.799, 0.80, 0.81)), row("b", quality=measure(0.9, 0.9, 0.9))
    ) == ["not established, as the seeds' values overlap those of the reference: “a” (−0.20)."]


def test_a_failed_reference_leaves_rows_alone() -> None:
    """The reader learns why a column is empty."""
    assert doubts(failed("uncut", "no disk", against=""), row("a"))[0] == (
        "no difference for “a”: what it is compared with has no figure of that metric."
    )


def test_a_busy_machine_shows() -> None:
    """A slowest round of more than one and a half times the fastest."""
    busy = row("busy", quality=measure(0.9, 0.9, 0.9), latency_ms=Spread(2.0, 1.9, 2.9, 7))
    assert doubts(UNCUT, busy) == [
        "the slowest round took more than 1.5 times the fastest, so the machine was busy: “busy”."
    ]


def test_few_held_out_rows_tell_little() -> None:
    """The error of the metric itself is said once a task."""
    found = caveats(views_of(results(UNCUT, data={MATCH: DataFacts("pairs", 1000, 600, 400, "00")})))
    assert found[0].startswith(
        "Pairs: 400 held-out rows tell Spearman to within 4.12 points at best (two standard"
    )


def test_the_error_of_a_share() -> None:
    """Half right of 400: two standard errors are five points."""
    assert sample_error("accuracy", 50.0, 400) == pytest.approx(5.0)
    assert math.isnan(sample_error("ndcg@10", 50.0, 400))
    assert math.isnan(sample_error("accuracy", 50.0, 0))


def test_the_error_of_a_rank_correlation() -> None:
    """Against drawing such samples again and again, within a tenth."""
    draw = np.random.default_rng(0)
    common = draw.normal(size=(2000, 200))
    pairs = zip(
        common + 0.5 * draw.normal(size=common.shape),
        common + 0.5 * draw.normal(size=common.shape),
        strict=True,
    )
    found = np.array([metrics.spearman(a, b) for a, b in pairs])
    assert 200 * found.std() == pytest.approx(sample_error("spearman", 100 * found.mean(), 200), rel=0.1)


def test_the_error_of_an_auc() -> None:
    """Likewise, for scores of two exponential laws, which the formula was made for."""
    draw = np.random.default_rng(0)
    positive = np.arange(200) % 2 == 0
    found = np.array([metrics.auc(positive, draw.exponential(np.where(positive, 4, 1))) for _ in range(2000)])
    assert 200 * found.std() == pytest.approx(sample_error("auc", 100 * found.mean(), 200), rel=0.1)


def test_another_metric_is_no_difference() -> None:
    """Points of accuracy less points of AUC are points of nothing."""
    other = row("other", quality=measure(0.9, 0.9, 0.9, metric="auc"))
    assert doubts(UNCUT, other) == [
        "no difference for “other”: what it is compared with has no figure of that metric."
    ]


def test_missing_techniques_are_named() -> None:
    """A comparison of chosen recipes says what it left out; a whole one has nothing to say."""
    found = caveats(views_of(results(UNCUT, row("a"), data=NO_DATA)))
    assert found[-1].startswith("Not in this comparison: Dual tower against cross-encoder (2), int8 (3), ")
    assert not any("Not in this comparison" in doubt for doubt in caveats(views_of(REALISTIC)))
