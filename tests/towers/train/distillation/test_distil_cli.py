from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.make_tiny import WORDS
from towers import InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.distillation import distil_cli
from towers.train.distillation.distil import distil_tower
from towers.train.distillation.distil_cli import distil_command
from towers.train.exporting.export_cli import export_command
from towers.train.write import read_parts, write_bundle

QUICK = {"steps": 3, "batch_size": 8, "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [word for word in WORDS if not word.startswith("##")]
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("texts") / "queries.txt"
    path.write_text("".join(" ".join(rng.choice(words, 3)) + "\n" for _ in range(80)))
    return path


def test_a_shallow_bundle(
    checkpoint: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command makes a whole bundle of a cut tower; the manifest says how, and what other texts lost by it."""
    distil_command([texts], tmp_path / "out", base=str(checkpoint), layers="1", **QUICK)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = open_bundle(tmp_path / "out")
    assert told["bundle_id"] == bundle.bundle_id == told["titles_id"]
    assert bundle.manifest.recipe["cut"] == {"layers": [1], "where": "both"}
    assert bundle.manifest.recipe["distil"]["steps"] == 3
    assert bundle.manifest.metrics["distil"]["texts"] == 8
    assert 0 < told["to_teacher"]["mean_cosine"] <= 1
    assert not (tmp_path / ".out.work").exists()


def test_a_narrow_bundle(checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    """Half as wide inside, the bundle's vectors have the width that they had."""
    distil_command(
        [texts], tmp_path / "out", base=str(checkpoint), keep=2, width=8, embedding="int8", **QUICK
    )
    bundle = open_bundle(tmp_path / "out")
    assert bundle.dim == 16
    assert bundle.manifest.recipe["narrow"]["width"] == 8


def test_a_query_tower_for_a_bundle(checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    """With a bundle, the student answers for its queries alone, and the titles' vectors and id stay."""
    export_command(str(checkpoint), tmp_path / "whole", licence="Apache-2.0", max_tokens=32)
    distil_command([texts], tmp_path / "out", base=str(checkpoint), queries_of=tmp_path / "whole", **QUICK)
    bundle, whole = open_bundle(tmp_path / "out"), open_bundle(tmp_path / "whole")
    assert bundle.titles_id == whole.bundle_id
    assert LAYOUT.query in bundle.manifest.files
    assert np.array_equal(bundle.encode_titles(["red shoe", "tea"]), whole.encode_titles(["red shoe", "tea"]))
    assert bundle.manifest.recipe["query_tower"]["distil"]["against"] == "teacher"


@pytest.fixture(scope="module")
def table(texts: Path) -> Path:
    """Neighbouring texts as pairs, and at last a query without a title."""
    lines = list(dict.fromkeys(texts.read_text().splitlines()))
    path = texts.with_name("pairs.csv")
    path.write_text("query,title\n" + "".join(f"{a},{b}\n" for a, b in pairwise(lines)) + f"{lines[0]},\n")
    return path


@pytest.mark.parametrize("of_queries", [False, True])
def test_pairs_of_tables_are_distilled(
    checkpoint: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_queries: bool
) -> None:
    """With --scores, rows with query and title are pairs, less those with a held-out text, prefixed as in serving."""
    given: dict[str, Any] = {}

    def noted(student: Any, teacher: Any, texts: list[str], **rest: Any) -> Any:
        given.update(rest, texts=texts)
        return distil_tower(student, teacher, texts, **rest)

    monkeypatch.setattr(distil_cli, "distil_tower", noted)
    before, before_title, options = "", "", {}
    if of_queries:
        before, before_title = "coat ", "hat "
        export_command(str(checkpoint), tmp_path / "plain", licence="Apache-2.0", max_tokens=32)
        plain = read_parts(tmp_path / "plain")
        facts = {**plain.facts, "query_prefix": before, "title_prefix": before_title}
        write_bundle(tmp_path / "whole", replace(plain, facts=facts))
        options = {"queries_of": tmp_path / "whole"}
    weights = {"scores": 2.0, "structure": 1.0, "hidden": 0.5}
    distil_command([table], tmp_path / "out", base=str(checkpoint), **weights, **options, **QUICK)
    learned = {text.removeprefix(before) for text in given["texts"]}
    rows = (line.split(",") for line in table.read_text().splitlines()[1:])
    expected = [(before + a, before_title + b) for a, b in rows if {a, b} <= learned]
    assert given["pairs"] == expected
    assert 20 < len(expected) < 79
    recipe = open_bundle(tmp_path / "out").manifest.recipe
    made = recipe["query_tower"]["distil"] if of_queries else recipe["distil"]
    assert {name: made[name] for name in weights} == weights


def test_what_cannot_be_used_is_refused(checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("red\nblue\n")
    with pytest.raises(InputError, match="found 2 different texts, expected 10"):
        distil_command([few], tmp_path / "out", base=str(checkpoint), **QUICK)
    with pytest.raises(InputError, match=r"found no row with query and title.* expected pairs for --scores"):
        distil_command([texts], tmp_path / "out", base=str(checkpoint), scores=1.0, **QUICK)
    with pytest.raises(InputError, match="found --layers '0-5', expected numbers of layers"):
        distil_command([texts], tmp_path / "out", base=str(checkpoint), layers="0-5", **QUICK)
