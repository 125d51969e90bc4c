from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dualtower
from tests.golden.make_tiny import WORDS
from towers import open_bundle
from towers.errors import InputError
from towers.train.compare.data import match_data, text_data
from towers.train.compare.results import Results
from towers.train.compare.ship import ship
from towers.train.data import read_pair_set, text_key

# Rows that a model of 2 layers, 16 wide, can be made into, one for each kind of stage.
RECIPES = {
    "half": '[cut]\nkeep = 1\n[distil]\nsteps = 8\nbatch_size = 8\n[precision]\nmatmul = "float32"\n',
    "fast": 'start = "half"\n[match.scorer]\nepochs = 2\n[precision]\nmatmul = "int8"\n',
    "queries": 'tasks = ["match"]\n[cut]\nkeep = 1\nwhere = "query"\n[distil]\nsteps = 8\nbatch_size = 8\n'
    "[precision]\n",
    "leaving": 'tasks = ["sentiment"]\n[exits]\nsteps = 8\n[precision]\n',
    "broken": "[albert]\nembedding = 4000\n[precision]\n",
}
HEAD = 'title = "t"\ntechnique = 1\nsource = "s"\ncost = "c"\navoid = "a"\nagainst = "full"\n'
NICE, NASTY, PLAIN = (
    "good great warm cheap soft".split(),
    "bad terrible old lost cold".split(),
    "blue cotton large".split(),
)


def tables(folder: Path) -> list[Path]:
    """240 pairs that share words or not, and 300 texts whose words say their sentiment."""
    draw = random.Random(1)
    words = [word for word in WORDS if word.isalpha() and len(word) > 3]
    pairs, texts = folder / "pairs.jsonl", folder / "texts.jsonl"
    with pairs.open("w", encoding="utf-8") as file:
        for number in range(240):
            own = draw.sample(words, 6)
            other = own[3:] if number % 2 else draw.sample(words, 3)
            row = {
                "query": " ".join(own[:4]),
                "title": " ".join([*own[:2], *other] if number % 2 else other),
                "label": number % 2,
            }
            file.write(json.dumps(row) + "\n")
    with texts.open("w", encoding="utf-8") as file:
        for number in range(300):
            kind = number % 3 - 1
            own = draw.sample({-1: NASTY, 0: PLAIN, 1: NICE}[kind], 2) + draw.sample(words, 5)
            file.write(json.dumps({"text": " ".join(own), "label": kind}) + "\n")
    return [pairs, texts]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], str]:
    folder = tmp_path_factory.mktemp("inputs")
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(HEAD + text, encoding="utf-8")
    return tables(folder), ",".join(["full", *(str(folder / f"{name}.toml") for name in RECIPES)])


def command(inputs: tuple[list[Path], str], checkpoint: Path, out: Path) -> list[str]:
    files, recipes = inputs
    rest = [
        "--recipes",
        recipes,
        "--base",
        str(checkpoint),
        "--budget",
        "30s",
        "--float32",
        "--out",
        str(out),
    ]
    return ["compare", *map(str, files), *rest]


@pytest.fixture(scope="module")
def before_the_kill() -> dict[Path, int]:
    """The rows that were made when the comparison was killed, and when they were written."""
    return {}


@pytest.fixture(scope="module")
def finished(
    inputs: tuple[list[Path], str],
    checkpoint: Path,
    before_the_kill: dict[Path, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A whole comparison from the command line: a process that was killed with -9 after some rows, and its heir."""
    out = tmp_path_factory.mktemp("comparison")
    line = [sys.executable, "-m", "dualtower", *command(inputs, checkpoint, out)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = out / "work" / "rows"
    while process.poll() is None and len(list(rows.glob("*/*/seed-*/row.json"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before_the_kill |= {path: path.stat().st_mtime_ns for path in rows.glob("*/*/seed-*/row.json")}
    assert not (out / "report.json").exists()
    assert dualtower.main(command(inputs, checkpoint, out)) == 0
    return out


def test_every_row_is_measured_or_says_why_not(finished: Path) -> None:
    """Quality, latency, throughput, size, parameters and work stand beside each other; what failed is not hidden."""
    results = Results.read(finished / "report.json")
    named = {(row.task, row.name): row for row in results.rows}
    assert len(named) == 10
    for (_, name), row in named.items():
        if name == "broken":
            assert row.failed is not None
            assert "embedding 4000" in row.failed
            continue
        assert row.failed is None
        assert None not in (
            row.quality,
            row.latency_ms,
            row.per_second,
            row.bytes,
            row.parameters,
            row.multiply_adds,
        )
    for text in ("report.html", "report.md"):
        assert "leaving" in (finished / text).read_text(encoding="utf-8")


def test_smaller_rows_are_smaller(finished: Path) -> None:
    """Half the layers have fewer parameters and multiply-adds, and in int8 fewer bytes for as many parameters."""
    rows = {row.name: row for row in Results.read(finished / "report.json").rows if row.task == "match"}
    full, half, fast = (rows[name] for name in ("full", "half", "fast"))
    assert full.parameters is not None
    assert half.parameters is not None
    assert half.parameters < full.parameters
    assert (half.multiply_adds or 0) < (full.multiply_adds or 0)
    assert fast.parameters == half.parameters
    assert (fast.bytes or 0) < (half.bytes or 0)


def test_the_curves_come_with_the_rows(finished: Path) -> None:
    """Four shares of the data for each task, and how many texts left at which layer."""
    curves = Results.read(finished / "report.json").curves
    assert {(point.task, point.share) for point in curves.learning} == {
        (task, share) for task in ("match", "sentiment") for share in (0.1, 0.25, 0.5, 1.0)
    }
    assert [exits.row for exits in curves.exits] == ["leaving"]


def test_a_row_is_shipped_as_it_was_measured(finished: Path, tmp_path: Path) -> None:
    """The bundle is the row's own, file for file; a row of each task makes one bundle with both."""
    results, work = Results.read(finished / "report.json"), finished / "work"
    alone = ship(["match:fast"], results, work=work, out=tmp_path / "alone")
    row = next(row for row in results.rows if (row.task, row.name) == ("match", "fast"))
    assert row.bundle is not None
    assert alone.bundle_id == open_bundle(work / row.bundle).bundle_id
    assert not alone.has_sentiment
    both = ship(["match:fast", "leaving"], results, work=work, out=tmp_path / "both")
    texts = ["good warm coat", "bad old lost shoes"]
    assert (both.encode_queries(texts) == alone.encode_queries(texts)).all()
    leaving = next(row for row in results.rows if row.name == "leaving")
    assert leaving.bundle is not None
    assert (both.sentiment(texts) == open_bundle(work / leaving.bundle).sentiment(texts)).all()


def test_what_cannot_be_shipped_says_why(finished: Path, tmp_path: Path) -> None:
    """An unknown row, one of two tasks, two of one task, one that failed: each has its own way out."""
    results, options = (
        Results.read(finished / "report.json"),
        {"work": finished / "work", "out": tmp_path / "x"},
    )
    for names, message in (
        (["nine"], "expected one of match:full"),
        (["fast"], "say match:fast or sentiment:fast"),
        (["match:fast", "queries"], "expected one, or one of each task"),
        (["match:broken"], "cannot be shipped"),
    ):
        with pytest.raises(InputError, match=message):
            ship(names, results, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_a_killed_comparison_goes_on_where_it_was(finished: Path, before_the_kill: dict[Path, int]) -> None:
    """Killed with -9 after some rows and run again, it makes no row anew that was made."""
    assert 3 <= len(before_the_kill) < len(Results.read(finished / "report.json").rows)
    for path, written in before_the_kill.items():
        assert json.loads(path.read_text())["failed"] or path.stat().st_mtime_ns == written, path


def test_other_data_is_not_gone_on_with(
    finished: Path, inputs: tuple[list[Path], str], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A working folder belongs to its command; another one is refused before anything changes."""
    files, recipes = inputs
    before = (finished / "report.json").read_bytes()
    assert dualtower.main(command((files[:1], recipes), checkpoint, finished)) == 2
    assert "another" in capsys.readouterr().err
    assert (finished / "report.json").read_bytes() == before


def test_one_recipe_makes_one_bundle(
    inputs: tuple[list[Path], str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dualtower recipe` is a row without the rest: what it goes on from, itself, its quality."""
    files, recipes = inputs
    half = recipes.split(",")[1]
    out = tmp_path / "bundle"
    line = ["recipe", half, str(files[0]), "--out", str(out), "--base", str(checkpoint), "--float32"]
    assert dualtower.main(line) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert said["bundle_id"] == open_bundle(out).bundle_id
    assert open_bundle(out).manifest.recipe["compare"]["stages"]["cut"]["keep"] == 1
    assert said["steps"] == 8


def test_other_settings_do_not_go_on_with_the_work_of_a_recipe(
    inputs: tuple[list[Path], str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was trained with other steps would be taken for what was asked; the same command goes on."""
    files, recipes = inputs
    half = recipes.split(",")[1]
    line = [
        "recipe",
        half,
        str(files[0]),
        "--out",
        str(tmp_path / "bundle"),
        "--base",
        str(checkpoint),
        "--float32",
    ]
    assert dualtower.main(line) == 0
    first = open_bundle(tmp_path / "bundle").bundle_id
    assert dualtower.main([*line, "--replace"]) == 0
    assert open_bundle(tmp_path / "bundle").bundle_id == first
    capsys.readouterr()
    assert dualtower.main([*line, "--replace", "--steps", "2"]) == 2
    assert "another share of steps" in capsys.readouterr().err
    assert open_bundle(tmp_path / "bundle").bundle_id == first


def test_a_cross_encoder_is_saved_as_a_checkpoint(
    inputs: tuple[list[Path], str], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that teaches; a directory of something else is left alone, and so is what makes no bundle at all."""
    from towers.train.cross.cross_encoder import cross_scores, load_teacher

    files, _ = inputs
    recipe, out = tmp_path / "cross.toml", tmp_path / "cross"
    recipe.write_text(
        HEAD.replace('"full"', '""') + 'tasks = ["match"]\n[cross]\nsteps = 8\nbatch_size = 8\n'
    )
    line = ["recipe", str(recipe), str(files[0]), "--base", str(checkpoint), "--float32", "--out"]
    assert dualtower.main([*line, str(out)]) == 0
    said = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert said["checkpoint"] == str(out)
    assert 0 <= said["auc"] <= 1
    assert cross_scores(load_teacher(out), ["red shoes"], ["blue coat"]).shape == (1,)
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    assert dualtower.main([*line, str(other), "--replace"]) == 2
    assert "is no cross-encoder that was trained here; nothing was written" in capsys.readouterr().err
    assert (other / "letter.txt").read_text() == "mine"
    torch = ["recipe", "match:torch", str(files[0]), "--base", str(checkpoint), "--out", str(tmp_path / "x")]
    assert dualtower.main(torch) == 2
    assert "makes no bundle" in capsys.readouterr().err


def test_no_text_is_in_two_parts(inputs: tuple[list[Path], str]) -> None:
    """What the table is measured on was neither trained on nor tuned on, nor was it distilled from."""
    pairs = match_data([read_pair_set(inputs[0][0])], seed=3)
    test = {text_key(text) for one in pairs.test for text in (*one.queries, *one.titles)}
    dev = {text_key(pairs.sets[0].queries[i]) for i in pairs.splits[0].dev.nonzero()[0]}
    assert not test & dev
    assert not (test | dev) & {text_key(text) for text in pairs.texts}


def test_a_short_budget_trains_on_some_of_the_pairs_and_is_measured_on_the_same_ones(
    inputs: tuple[list[Path], str],
) -> None:
    """Encoding every pair would leave no time to train; what the table is measured on does not change."""
    pairs = read_pair_set(inputs[0][0])
    everything = match_data([pairs], seed=3)
    some = match_data([pairs], seed=3, most_train=len(everything.sets[0]) // 2)
    assert [one.queries for one in some.test] == [one.queries for one in everything.test]
    assert len(some.sets[0]) < 0.7 * len(everything.sets[0])
    assert set(some.sets[0].queries) < set(everything.sets[0].queries)


def test_too_little_data_is_refused(inputs: tuple[list[Path], str], tmp_path: Path) -> None:
    """A table measured on a handful of rows would say nothing."""
    from towers.labelled import read_texts

    texts = read_texts(inputs[0][1])
    few = type(texts)(texts.texts[:60], texts.labels[:60])
    with pytest.raises(InputError, match="could be held out"):
        text_data(few, name="few", seed=1)
