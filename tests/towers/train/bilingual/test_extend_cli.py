from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import dualtower
from tests.towers.train.bilingual.test_bilingual import CEDICT
from towers.train.base import load_tower
from towers.train.bilingual import extend_cli

TEXTS = ["取消订单", "取消手机订单", "红鞋"]


@pytest.fixture(autouse=True)
def cedict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The installed dictionary is a made-up one of five entries."""
    path = tmp_path / "cedict.gz"
    path.write_bytes(gzip.compress(CEDICT.encode()))
    monkeypatch.setattr(extend_cli, "packaged_dictionary", lambda: path)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    return dualtower.main(["extend", *map(str, arguments), "--least-character", "1", "--least-word", "2"])


def test_it_makes_a_checkpoint_that_reads_chinese(
    checkpoint: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """English keeps its vectors; 订单 looks like order, and no more like shoes than order does; all layers stay."""
    out = tmp_path / "made" / "chinese"
    assert run(texts, "--out", out, "--base", checkpoint, "--max-tokens", 16) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["checkpoint"] == str(out)
    assert (summary["characters"], summary["words"]) == (9, 2)  # eight of the texts, and 紅
    made, base = load_tower(out), load_tower(checkpoint)
    assert [type(module) for module in made] == [type(module) for module in base]
    assert made.max_seq_length == 16
    np.testing.assert_allclose(made.encode(["cancel order"]), base.encode(["cancel order"]), atol=1e-5)
    assert made.tokenizer.tokenize("取消订单") == ["取消", "订单"]
    order, shoes = base.encode(["order", "shoes"])
    (found,) = made.encode(["订单"])
    assert found @ order > found @ shoes
    assert [path.name for path in out.parent.iterdir()] == ["chinese"]

    assert run(texts, "--out", out, "--base", checkpoint) == 2
    assert "exists already" in capsys.readouterr().err


def test_texts_without_chinese_are_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "english.txt"
    path.write_text("cancel my order\n", encoding="utf-8")
    assert run(path, "--out", tmp_path / "out", "--base", checkpoint) == 2
    assert "found no Chinese character 1 times" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
