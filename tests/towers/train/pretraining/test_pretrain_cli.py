from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dualtower
from tests.towers.train.pretraining.test_pretrain import TEXTS
from towers.train.base import load_classifier, load_tower

QUICK = ["--steps", "4", "--batch-size", "8", "--dev-share", "0.2"]


def run(*arguments: object) -> int:
    return dualtower.main(["pretrain", *(str(x) for x in arguments)])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


def last_line(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, Any]]:
    table, line = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    return table, json.loads(line)


def test_it_makes_a_checkpoint_and_prints_losses(
    checkpoint: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of the loss of each class before and after, one JSON line last; nothing is left but the checkpoint."""
    listed = tmp_path / "entities.txt"
    listed.write_text("leather shoes\nusb cable\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = [texts, "--out", out, "--base", checkpoint, *QUICK, "--masks", "whole=1,entity=2"]
    assert run(*arguments, "--entities", listed) == 0
    table, summary = last_line(capsys)
    for word in ("masked token", "start", "end", "all", "common", "entity", "number", "held-out texts"):
        assert word in table
    assert summary["checkpoint"] == str(out)
    assert set(summary["end"]) == {"all", *summary["masked"]}
    assert summary["texts"]["given"] == len(TEXTS)
    assert load_tower(out).encode(["red"]).shape == (1, 16)
    assert load_classifier(out)[0].config.num_hidden_layers == 2
    assert json.loads((out / "pretrain.json").read_text())["recipe"]["masks"]["entities"] == [
        *("leather shoes", "usb cable")
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "texts.txt", "entities.txt"}

    assert run(*arguments) == 2
    assert "pass --replace" in capsys.readouterr().err
    assert run(*arguments, "--replace") == 0


def test_tables_give_texts_from_the_columns_that_are_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables of two kinds go together; several columns are several texts; empty cells are left out."""
    half = len(TEXTS) // 2
    rows = [f"{query},{title}" for query, title in zip(TEXTS[:half], ["", *TEXTS[half:]], strict=False)]
    (tmp_path / "a.csv").write_text("\n".join(["query,title", *rows]), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"query": f"{i} blue coat", "title": None}) + "\n" for i in range(30)),
        encoding="utf-8",
    )
    columns = ["--column", "query", "--column", "title"]
    files = [tmp_path / "a.csv", tmp_path / "b.jsonl"]
    assert run(*files, *columns, "--out", tmp_path / "out", "--base", checkpoint, *QUICK) == 0
    _, summary = last_line(capsys)
    assert summary["texts"]["given"] == 2 * half - 1 + 30


@pytest.mark.parametrize(
    ("name", "content", "options", "told"),
    [
        ("a.txt", "", [], "is empty (0 bytes)"),
        ("a.txt", "\n\n", [], "holds no usable row"),
        ("a.csv", "title,id\nred,1\n", [], "has no column 'text'"),
        ("a.jsonl", '{"text": 5}\n', [], "row 1: found int in the column text, expected text"),
        ("a.txt", "red\n", ["--masks", "words=1"], "found the masks 'words=1'"),
        ("a.txt", "red\n", ["--masks", "whole=-1"], "found whole = -1.0"),
        ("a.txt", "red\n", [], "found 1 different texts"),
        (
            "a.txt",
            "red\n",
            ["--out", "."],
            "is no checkpoint made by `dualtower pretrain`; nothing was written",
        ),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    options: list[str],
    told: str,
) -> None:
    """Bad input ends with status 2 and a message that names it, before anything is trained."""
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, encoding="utf-8")
    assert run(name, "--out", "out", *options) == 2
    assert told in capsys.readouterr().err
    assert not Path("out").exists()
