"""Every shipped recipe is followed from its TOML file to its row, on a model of two layers and 16 numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.towers.train.compare.test_run import tables
from towers import open_bundle
from towers.labelled import read_texts
from towers.train.compare import run
from towers.train.compare.cli import quiet_libraries
from towers.train.compare.data import match_data, text_data
from towers.train.compare.measure import time_rows
from towers.train.compare.results import Results, Row
from towers.train.compare.run import Options, compare
from towers.train.data import read_pair_set
from towers.train.recipe import Recipe, shipped_recipes

# What a model this small can be made into.
SMALL: dict[str, dict[str, Any]] = {
    "cut": {"keep": 1},
    "narrow": {"width": 8, "layers": 1},
    "albert": {"embedding": 8},
    "tune": {"batch_size": 8},
    "distil": {"batch_size": 8},
    "cross": {"batch_size": 8},
    "exits": {"batch_size": 8},
    "pretrain": {"batch_size": 8},
    "scorer": {"epochs": 2},
}


def small(recipe: Recipe) -> Recipe:
    stages = {name: replace(stage, **SMALL.get(name, {})) for name, stage in recipe.stages.items()}
    return replace(recipe, stages=stages)


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    quiet_libraries()
    pairs, texts = tables(tmp_path_factory.mktemp("data"))
    options = Options(
        match=match_data([read_pair_set(pairs)], seed=13),
        sentiment=text_data(read_texts(texts), name="texts", seed=13),
        recipes=[small(recipe) for recipe in shipped_recipes()],
        budget_s=1.0,
        base=str(checkpoint),
    )
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            run, "time_rows", partial(time_rows, rounds=1)
        )  # how long rows take is of no interest here
        return compare(options, work=work, say=print), work


def row(results: Results, task: str, name: str) -> Row:
    return next(one for one in results.rows if (one.task, one.name) == (task, name))


def test_every_shipped_recipe_makes_its_row(finished: tuple[Results, Path]) -> None:
    """None fails, and each has a quality."""
    results, _ = finished
    assert {(one.task, one.name) for one in results.rows} == {(r.task, r.name) for r in shipped_recipes()}
    assert {f"{one.task}:{one.name}": one.failed for one in results.rows if one.failed} == {}
    assert all(one.quality is not None for one in results.rows)


def test_a_query_towers_titles_keep_their_vectors(finished: tuple[Results, Path]) -> None:
    """Of the cut query tower and of the same in int8; the query's vectors are others."""
    results, work = finished
    texts = ["good warm coat", "blue cotton"]

    def vectors(name: str) -> tuple[Any, Any]:
        path = row(results, "match", name).bundle
        assert path is not None
        bundle = open_bundle(work / path)
        return bundle.encode_titles(texts).tolist(), bundle.encode_queries(texts).tolist()

    titles, queries = vectors("full")
    for name in ("query-cut", "query-cut-int8"):
        found = vectors(name)
        assert found[0] == titles, name
        assert found[1] != queries, name


def test_a_manifest_tells_what_was_followed(finished: tuple[Results, Path]) -> None:
    """The steps that were made, not those of the recipe; and the recipe that it goes on from."""
    results, work = finished
    made = row(results, "match", "cut-distil")
    later = row(results, "sentiment", "cut-distil-int8")
    assert made.bundle is not None
    assert later.bundle is not None
    told = open_bundle(work / made.bundle).manifest.recipe["compare"]
    assert told["stages"]["distil"]["steps"] == made.steps == 8
    assert told["start"]["name"] == "full"
    recipe = open_bundle(work / later.bundle).manifest.recipe
    assert recipe["compare"]["start"]["stages"]["distil"]["steps"] == 8
    assert recipe["compare"]["start"]["start"]["stages"]["tune"]["steps"] == 64
    assert recipe["sentiment"]["steps"] == 64


def test_a_seed_plays_a_part_in_what_goes_on_from_a_training(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    seeded = {(one.task, one.name) for one in results.rows if one.seeded}
    assert {("match", "cut-distil-int8"), ("match", "scorer"), ("sentiment", "int8")} <= seeded
    assert (
        not {("match", "full"), ("match", "int8"), ("match", "cut-spread"), ("sentiment", "logistic")}
        & seeded
    )
