"""What a teacher adds to the scorer's training: mixed labels, new pairs, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.towers.train.test_fit import QUICK, word_pairs
from towers import InputError
from towers.train.base import load_tower
from towers.train.cli import fit_command
from towers.train.cross.cross_encoder import CrossRecipe
from towers.train.cross.taught import find_teacher, mixed, new_pairs, taught_pairs
from towers.train.data import PairSet, Split, split_pairs
from towers.train.dataset.mine import mined_pairs
from towers.train.fit import FitRecipe, TorchTowers, encode_sets, fit_scorer
from towers.train.scorer_training import ScorerPairs, ScorerRecipe

Floats = NDArray[np.float32]


def overlap(queries: Sequence[str], titles: Sequence[str]) -> Floats:
    """A teacher that anyone can check: the share of the query's words that the title has."""
    shares = [
        len(set(a.split()) & set(b.split())) / len(set(a.split()))
        for a, b in zip(queries, titles, strict=True)
    ]
    return np.array(shares, np.float32)


@pytest.fixture(scope="module")
def sets() -> list[PairSet]:
    return [word_pairs(80), word_pairs(60, "grades", grades=4, seed=2)]


@pytest.fixture(scope="module")
def splits(sets: list[PairSet]) -> list[Split]:
    return split_pairs(sets, dev_share=0.25, seed=1)


@pytest.fixture(scope="module")
def pairs(sets: list[PairSet], checkpoint: Path) -> list[ScorerPairs]:
    return encode_sets(TorchTowers(load_tower(checkpoint)), sets)


def test_labels_are_mixed_and_new_pairs_are_the_teachers(
    sets: list[PairSet], splits: list[Split], pairs: list[ScorerPairs]
) -> None:
    """By hand: a labelled pair gets the weighted mean, a mined one a share of the score, a new one the score itself."""
    texts: dict[int, str] = {}
    for data, rows in zip(sets, pairs, strict=True):
        texts |= dict(zip(rows.queries.tolist(), data.queries, strict=True))
        texts |= dict(zip(rows.titles.tolist(), data.titles, strict=True))
    mined = [mined_pairs(d, s, p) for d, s, p in zip(sets, splits, pairs, strict=True)]
    recipe = ScorerRecipe(teacher=0.25, teacher_pairs=0.5)
    found = taught_pairs(sets, splits, pairs, mined, teacher=overlap, recipe=recipe, seed=3)
    for i, (split, known, negatives) in enumerate(zip(splits, pairs, mined, strict=True)):
        for part, labels in zip(
            found[3 * i : 3 * i + 3], (known.where(split.train).labels, negatives.labels, None), strict=True
        ):
            scores = overlap(
                [texts[x] for x in part.queries.tolist()], [texts[x] for x in part.titles.tolist()]
            )
            expected = scores if labels is None else 0.75 * labels + 0.25 * scores
            np.testing.assert_allclose(part.labels, expected, atol=1e-6)
            assert (part.sets == i).all()


def test_new_pairs_are_nobodys(sets: list[PairSet], splits: list[Split], pairs: list[ScorerPairs]) -> None:
    """As many as asked for, of the training side alone, none of them labelled, none twice; half of them near."""
    labelled = pairs[0].where(splits[0].train)
    found = new_pairs(labelled, share=0.5, rng=np.random.default_rng(0))
    rows = list(zip(found.queries.tolist(), found.titles.tolist(), strict=True))
    known = set(zip(labelled.queries.tolist(), labelled.titles.tolist(), strict=True))
    assert 0.4 * len(labelled) < len(rows) <= 0.5 * len(labelled) + 1
    assert len(set(rows)) == len(rows)
    assert not known & set(rows)
    assert set(found.titles.tolist()) <= set(labelled.titles.tolist())
    assert set(found.queries.tolist()) <= set(labelled.queries.tolist())
    cosines = (found.vectors[found.queries] * found.vectors[found.titles]).sum(axis=1)
    assert cosines[: len(rows) // 2].mean() > cosines[len(rows) // 2 :].mean()
    assert len(new_pairs(labelled, share=0.0, rng=np.random.default_rng(0))) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20), st.floats(0, 1))
def test_mixed_labels_lie_between(rows: list[tuple[float, float]], weight: float) -> None:
    """Between label and score, and at the ends of the weight one or the other."""
    labels, scores = np.array(rows, np.float32).T
    found = mixed(labels, scores, weight=weight)
    assert (found >= np.minimum(labels, scores) - 1e-6).all()
    assert (found <= np.maximum(labels, scores) + 1e-6).all()
    np.testing.assert_array_equal(mixed(labels, scores, weight=0.0), labels)
    np.testing.assert_array_equal(mixed(labels, scores, weight=1.0), scores)


def test_the_teacher_stands_in_the_report(
    sets: list[PairSet], splits: list[Split], pairs: list[ScorerPairs]
) -> None:
    """Measured as scorer and cosine are; one that knows the answers has all right. Without one there is no trace."""
    recipe = FitRecipe(scorer=QUICK)
    _, metrics, _ = fit_scorer(sets, splits, pairs, recipe, teacher=overlap)
    assert metrics["sets"][0]["teacher"]["auc"] == pytest.approx(1.0)
    assert set(metrics["sets"][0]["teacher"]) == set(metrics["sets"][0]["score"])
    assert metrics["teaching"]["pairs"] > 150
    kept = max(metrics["teaching"]["gain"], metrics["teaching"]["gain_without"])
    assert metrics["gain"] == kept
    _, plain, _ = fit_scorer(sets, splits, pairs, recipe)
    assert "teacher" not in plain["total"]
    assert plain["gain"] == metrics["teaching"]["gain_without"]
    assert "teaching" not in plain


def test_fit_trains_a_teacher_first(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line: a cross-encoder on the same pairs teaches the scorer and stands in the table."""
    data = word_pairs(60)
    table = tmp_path / "pairs.tsv"
    rows = [
        f"{q}\t{t}\t{label:g}" for q, t, label in zip(data.queries, data.titles, data.labels, strict=True)
    ]
    table.write_text("query\ttitle\tlabel\n" + "\n".join(rows), encoding="utf-8")
    fit_command(
        [table],
        tmp_path / "bundle",
        base=str(checkpoint),
        freeze_towers=True,
        scorer_epochs=1,
        dev_share=0.3,
        max_tokens=32,
        teacher="cross",
        teacher_weight=0.7,
        cross_steps=2,
    )
    from towers import open_bundle

    manifest: Any = open_bundle(tmp_path / "bundle").manifest
    assert manifest.recipe["fit"]["teacher"] == "cross"
    assert manifest.recipe["fit"]["cross"]["steps"] == 2
    assert manifest.recipe["fit"]["scorer"]["teacher"] == 0.7
    assert 0 <= manifest.metrics["fit"]["total"]["teacher"]["auc"] <= 1
    assert "teacher" in capsys.readouterr().out


def test_nobody_teaches_unless_asked(checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"recipe": CrossRecipe(), "checkpoint": None, "work": tmp_path, "resume": False}
    assert find_teacher("", [], [], **options) is None
    with pytest.raises(InputError, match="expected a cross-encoder"):
        find_teacher(str(checkpoint), [], [], **options)
    with pytest.raises(InputError, match="found teacher = 2"):
        ScorerRecipe(teacher=2.0)
