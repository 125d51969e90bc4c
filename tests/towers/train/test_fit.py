from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.golden.make_tiny import WORDS, save_checkpoint
from towers import open_bundle
from towers.errors import InputError
from towers.labelled import Pairs
from towers.train.base import load_tower
from towers.train.cli import fit_command
from towers.train.data import PairSet, Split, make_pair_set, split_pairs
from towers.train.dataset.mine import mined_pairs
from towers.train.finetune import TowerRecipe, finetune, triplets
from towers.train.fit import (
    FitRecipe,
    TorchTowers,
    encode_sets,
    fit,
    fit_scorer,
    prepare_work,
)
from towers.train.report import wins
from towers.train.scorer_training import ScorerPairs, ScorerRecipe

NOUNS = [word for word in WORDS if not word.startswith("##")]
QUICK = ScorerRecipe(epochs=3, hidden=4, width=8)


def word_pairs(count: int, name: str = "words", *, grades: int = 2, seed: int = 1) -> PairSet:
    """Pairs of three words that match as far as they share words; binary, or with `grades` grades from 1."""
    rng = np.random.default_rng(seed)
    queries, titles, labels = [], [], []
    for _ in range(count):
        words = rng.choice(NOUNS, 6, replace=False)
        grade = int(rng.integers(grades))
        shared = round(grade / (grades - 1) * 3)
        queries.append(" ".join(words[:3]))
        titles.append(" ".join([*words[:shared], *words[3 : 6 - shared]]))
        labels.append(grade + (grades > 2))
    return make_pair_set(Pairs(queries, titles, np.array(labels, float)), name=name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def weights(tower: Any) -> torch.Tensor:
    return torch.cat([x.detach().flatten() for x in tower.parameters()])


def test_an_interrupted_run_ends_as_an_uninterrupted_one(checkpoint: Path, tmp_path: Path) -> None:
    """Fine-tuning stopped between two steps goes on from its checkpoint to the same weights; a finished one is kept."""
    sets = [word_pairs(150), word_pairs(80, "grades", grades=4, seed=2)]
    splits = split_pairs(sets, dev_share=0.2, seed=1)
    recipe = TowerRecipe(batch_size=16, save_steps=5)
    whole = finetune(load_tower(checkpoint), sets, splits, recipe=recipe, work=tmp_path / "whole")

    tower = load_tower(checkpoint)
    steps = 0

    def stop(*_: Any) -> None:
        nonlocal steps
        steps += tower.training
        if steps > 7:  # after the checkpoint of step 5, before the end at step 10
            raise KeyboardInterrupt

    tower.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(tower, sets, splits, recipe=recipe, work=tmp_path / "cut")
    assert not (tmp_path / "cut" / "tower.safetensors").exists()
    resumed = finetune(
        load_tower(checkpoint), sets, splits, recipe=recipe, work=tmp_path / "cut", resume=True
    )
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weights(whole), weights(load_tower(checkpoint)))
    again = finetune(load_tower(checkpoint), sets, splits, recipe=recipe, work=tmp_path / "cut", resume=True)
    torch.testing.assert_close(weights(again), weights(resumed))


def test_from_pairs_to_an_open_bundle(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command trains the tower and the scorer, and what it reports on dev pairs is what the bundle does."""
    table = tmp_path / "words.jsonl"
    pairs = word_pairs(200)
    rows = zip(pairs.queries, pairs.titles, pairs.labels.tolist(), strict=True)
    table.write_text("\n".join(json.dumps({"query": q, "title": t, "label": x}) for q, t, x in rows))
    fit_command(
        [table],
        out=tmp_path / "bundle",
        base=str(checkpoint),
        steps=4,
        accumulation=2,
        adversarial="fgm",
        epsilon=0.2,
        scorer_epochs=3,
        data_licence=["CC0-1.0"],
        licence="Apache-2.0",
    )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = open_bundle(tmp_path / "bundle")
    assert told["bundle_id"] == bundle.bundle_id
    recipe = bundle.manifest.recipe["fit"]
    assert (recipe["adversarial"]["method"], recipe["adversarial"]["epsilon"]) == ("fgm", 0.2)
    assert recipe["tower"]["steps"] == 4
    assert bundle.manifest.training_data == [
        {"use": "scorer", "name": "words", "rows": 200, "licence": "CC0-1.0"}
    ]
    assert bundle.manifest.scorer == told["scorer"]
    assert 0 < bundle.score(bundle.encode_queries(["red shoes"])[0], bundle.encode_titles(["red hat"]))[0] < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "words.jsonl"]


def vector_pairs(sets: list[PairSet], *, seed: int, useful: bool) -> list[ScorerPairs]:
    """Vectors of a made-up tower: matches agree in one half, others in the other half, when `useful`; else noise."""
    rng = np.random.default_rng(seed)
    made = []
    for number, pairs in enumerate(sets):
        n, dim = len(pairs), 16
        vectors = rng.normal(size=(2 * n, dim)).astype(np.float32)
        if useful:
            for i, matches in enumerate(pairs.positive):
                half = slice(0, 8) if matches else slice(8, 16)
                vectors[n + i, half] = vectors[i, half]
        else:
            # Cosine knows all there is to know.
            vectors[n:] = vectors[:n] * pairs.labels[:, None] + vectors[n:]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = np.arange(n)
        made.append(ScorerPairs(vectors, rows, n + rows, pairs.labels, np.full(n, number)))
    offset = np.cumsum([0] + [len(x.vectors) for x in made])
    table = np.concatenate([x.vectors for x in made])
    return [
        ScorerPairs(table, x.queries + start, x.titles + start, x.labels, x.sets)
        for x, start in zip(made, offset, strict=False)
    ]


@pytest.mark.parametrize("useful", [True, False])
def test_the_scorer_is_kept_only_where_it_wins(useful: bool) -> None:
    """With an MLP when the vectors hold what cosine does not see; cosine alone when an untrained MLP adds nothing."""
    sets = [word_pairs(600), word_pairs(200, "grades", grades=4, seed=2)]
    splits = split_pairs(sets, dev_share=0.25, seed=1)
    scorer = ScorerRecipe(
        epochs=8 if useful else 60,
        hidden=8 if useful else 64,
        width=16,
        noise=0.2 if useful else 0.0,
        dropout=0.0,
        learning_rate=1e-2,
        shrink=1.0,
        weight_decay=0.0,
    )
    vectors = vector_pairs(sets, seed=3, useful=useful)
    recipe = FitRecipe(scorer=scorer, hard_negatives=0, dev_share=0.25)
    chosen, report, kind = fit_scorer(sets, splits, vectors, recipe)
    assert kind == report["scorer"] == ("residual" if useful else "cosine")
    assert bool(chosen.scorer.hidden) == useful == wins(report)
    assert [row["name"] for row in report["sets"]] == ["words", "grades"]
    assert report["total"]["pairs"] == sum(row["pairs"] for row in report["sets"])
    assert 0 < chosen.threshold < 1
    json.loads(json.dumps(report, allow_nan=False))


def test_mined_pairs_are_new_of_the_training_side_and_no_more_than_are_lacking(checkpoint: Path) -> None:
    """A mined negative is no labelled pair, has no dev text, and is made only where matches outnumber the others."""
    even = word_pairs(200)
    only_matches = np.flatnonzero(even.positive)[:60]
    chosen = np.concatenate([only_matches, np.flatnonzero(~even.positive)[:20]])
    pairs = make_pair_set(
        Pairs(
            [even.queries[i] for i in chosen],
            [even.titles[i] for i in chosen],
            even.labels[chosen].astype(float),
        ),
        name="few others",
    )
    (split,) = split_pairs([pairs], dev_share=0.2, seed=1)
    (vectors,) = encode_sets(TorchTowers(load_tower(checkpoint)), [pairs])
    mined = mined_pairs(pairs, split, vectors)
    train = vectors.where(split.train)
    assert len(mined) == (train.labels == 1).sum() - (train.labels == 0).sum() > 10
    assert not mined.labels.any()
    labelled = set(zip(vectors.queries.tolist(), vectors.titles.tolist(), strict=True))
    assert labelled.isdisjoint(zip(mined.queries.tolist(), mined.titles.tolist(), strict=True))
    assert set(mined.queries) <= set(train.queries)
    assert set(mined.titles) <= set(train.titles)


def test_kept_vectors_are_those_that_were_encoded(checkpoint: Path, tmp_path: Path) -> None:
    """What is taken from a file is what was put there, for each place of each pair, and nothing is encoded again."""
    pairs = word_pairs(40)
    towers = TorchTowers(load_tower(checkpoint))
    (plain,) = encode_sets(towers, [pairs])
    kept = tmp_path / "new" / "vectors.npy"
    (first,) = encode_sets(towers, [pairs], kept=kept)
    kept.rename(other := tmp_path / "other.npy")
    (again,) = encode_sets(None, [pairs], kept=other)  # type: ignore[arg-type]
    for found in (first, again):
        assert np.array_equal(found.vectors[found.titles], plain.vectors[plain.titles])
    assert list(kept.parent.iterdir()) == []


def test_a_triplet_takes_the_labelled_negative_first(checkpoint: Path) -> None:
    """What a person called no match is a better negative than a mined title; a known match is never one."""
    queries, titles = ["red shoes", "red shoes", "hot tea"], ["shoes red", "blue coat", "tea hot"]
    pairs = make_pair_set(Pairs(queries, titles, np.array([1.0, 0.0, 1.0])), name="few")
    tower = TorchTowers(load_tower(checkpoint))
    split = Split(train=np.ones(3, bool), dev=np.zeros(3, bool))
    columns = triplets(pairs, split, encode=tower.encode_titles, seed=1)
    made = dict(zip(columns["positive"], columns["negative"], strict=True))
    assert made["shoes red"] == "blue coat"
    assert made["tea hot"] in ("shoes red", "blue coat")


def test_a_run_is_resumed_only_with_its_own_settings(tmp_path: Path) -> None:
    """Other data or settings would mix two runs; and a folder that holds no run is never emptied."""
    prepare_work(tmp_path / "run", {"data": "a", "settings": "x"}, resume=False)
    prepare_work(tmp_path / "run", {"data": "a", "settings": "x"}, resume=True)
    with pytest.raises(InputError, match="other settings"):
        prepare_work(tmp_path / "run", {"data": "a", "settings": "y"}, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="no earlier run"):
        prepare_work(tmp_path / "mine", {"data": "a"}, resume=False)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_frozen_towers_stay_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    """And the scorer is trained on the vectors of the towers that will be served."""
    asked: list[int] = []

    class Served(TorchTowers):
        def encode_queries(self, texts: Any) -> Any:
            asked.append(len(texts))
            return super().encode_titles(texts)

    result = fit(
        [word_pairs(200)],
        checkpoint=checkpoint,
        recipe=FitRecipe(freeze_towers=True, scorer=QUICK),
        work=tmp_path / "work",
        served=Served,
    )
    assert sum(asked) == 200
    torch.testing.assert_close(weights(result.tower), weights(load_tower(checkpoint)))
    assert result.recipe["freeze_towers"]


def test_bfloat16_is_for_training_alone(checkpoint: Path, tmp_path: Path) -> None:
    """After a training in bfloat16 the tower computes in float32 again, as one with its weights does."""
    sets = [word_pairs(80)]
    splits = split_pairs(sets, dev_share=0.2, seed=1)
    recipe = TowerRecipe(batch_size=8, steps=3, bf16=True)
    trained = finetune(load_tower(checkpoint), sets, splits, recipe=recipe, work=tmp_path)
    again = finetune(load_tower(checkpoint), sets, splits, recipe=recipe, work=tmp_path, resume=True)
    vectors = [tower.encode(["red shoes", "blue"], convert_to_tensor=True) for tower in (trained, again)]
    torch.testing.assert_close(*vectors, rtol=0, atol=0)
