from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towers.errors import InputError
from towers.train.base import load_tower
from towers.train.bilingual import bilingual
from towers.train.bilingual.bilingual import bilingual_checkpoint
from towers.train.bilingual.lessons import Lesson
from towers.train.bilingual.material import Material
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.bodies import body_of, layer_stack
from towers.train.data import PairSet, Split

CEDICT = """\
手機 手机 [shou3 ji1] /phone/
訂單 订单 [ding4 dan1] /order/
取消 取消 [qu3 xiao1] /to cancel/
紅 红 [hong2] /red/
鞋 鞋 [xie2] /shoes/
"""
QUICK = BilingualRecipe(
    layers=(1,),
    words=9,
    least_word=2,
    least_character=1,
    max_tokens=16,
    train_tokens=12,
    steps=8,
    batch_texts=8,
    short_dim=8,
    finish_steps=4,
)
ENGLISH = [
    "red shoes",
    "cancel my order",
    "phone case",
    "blue coat",
    "when do you ship it",
    "open the parcel",
]
CHINESE = ["取消订单", "红鞋", "手机 红", "订单手机", "取消手机订单"]


def pair_set(name: str, pairs: list[tuple[str, str, float]], kind: str = "binary") -> PairSet:
    queries, titles, labels = (list(column) for column in zip(*pairs, strict=True))
    return PairSet(name, queries, titles, np.array(labels, np.float32), 0.0, 1.0, kind, len(pairs))


@pytest.fixture
def cedict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The installed dictionary is a made-up one of five entries."""
    path = tmp_path / "cedict.gz"
    path.write_bytes(gzip.compress(CEDICT.encode()))
    monkeypatch.setattr(bilingual, "packaged_dictionary", lambda: path)


@pytest.fixture
def material() -> Material:
    """The second pair of the Chinese set is for dev, and its texts stand among the others as well."""
    pairs = [
        ("取消订单", "订单取消", 1.0),
        ("红鞋", "手机 红", 1.0),
        ("红鞋子", "订单", 0.0),
        ("手机", "手机壳", 1.0),
    ]
    dev = np.array([False, True, False, False])
    english = pair_set("english", [("red shoes", "blue coat", 0.0)])
    return Material(
        sets=[pair_set("chinese", pairs), english],
        splits=[Split(~dev, dev), Split(np.array([True]), np.array([False]))],
        triples=[("手机", "手机壳", "订单"), ("红鞋", "鞋", "手机"), ("取消", "取消订单", "红")],
        english=[*ENGLISH, "Red  shoes"],
        chinese=CHINESE,
        translated=(
            pair_set(
                "english", [("red shoes", "cancel the order", 0.2), ("my order", "phone", 0.8)], "float"
            ),
            pair_set("translated", [("红鞋", "取消订单了", 0.2), ("我的订单", "手机吗", 0.8)], "float"),
        ),
    )


def made(
    material: Material, checkpoint: Path, work: Path, said: list[str], **settings: Any
) -> tuple[Path, Path]:
    return bilingual_checkpoint(
        material, base=str(checkpoint), recipe=QUICK, work=work, say=said.append, **settings
    )


@pytest.mark.usefixtures("cedict")
def test_a_bilingual_tower_from_texts_and_pairs(
    material: Material, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: a checkpoint that reads both languages; no dev text is in a lesson; done once, it is taken up."""
    stages: list[list[Lesson]] = []
    teach = bilingual.teach

    def listening(student: Any, lessons: list[Lesson], **settings: Any) -> Any:
        stages.append(lessons)
        return teach(student, lessons, **settings)

    monkeypatch.setattr(bilingual, "teach", listening)
    monkeypatch.setattr(bilingual, "aligned", lambda *_: [(0, 0), (1, 1)])  # a tiny tower tells nothing apart
    said: list[str] = []
    path, before = made(material, checkpoint, tmp_path / "work", said, resume=False)
    given, last = stages
    shares = {(x.name, x.kind): round(x.share, 3) for x in given}
    assert set(shares) == {
        ("english", "imitate"),
        ("dictionary", "imitate"),
        ("chinese", "imitate"),
        ("translated", "imitate"),
        ("triples", "contrast"),
        ("chinese", "order"),
        ("chinese", "contrast"),
    }
    for kind, share in QUICK.shares.items():
        assert sum(x.share for x in given if x.kind == kind) == pytest.approx(share)
    texts = {text for lesson in given for item in lesson.texts for text in item}
    assert not {text for lesson in (*given, *last) for item in lesson.texts for text in item} & {
        "红鞋",
        "手机 红",
    }
    assert {"cancel my order", "取消订单", "手机壳", "手机", "订单取消"} <= texts
    assert len(next(x for x in given if x.name == "english").texts) == len(ENGLISH)

    assert {(x.name, x.kind) for x in last} == set(shares) - {
        ("dictionary", "imitate"),
        ("chinese", "imitate"),
    } | {("english", "order")}
    order = {x.name: x.share for x in last if x.kind == "order"}
    assert order["english"] == pytest.approx(
        order["chinese"]
    )  # as much from the one language as from the other

    tower = load_tower(path)
    assert tower.tokenizer.tokenize("red 手机订单") == ["red", "手机", "订单"]
    assert len(layer_stack(tower)) == 1
    assert np.isfinite(tower.encode([*ENGLISH, *CHINESE])).all()
    table, ids = body_of(tower).get_input_embeddings().weight.detach(), tower.tokenizer.get_vocab()
    assert table[ids["紅"]].tolist() == table[ids["红"]].tolist()  # tied after training
    assert table.tolist() == body_of(load_tower(before)).get_input_embeddings().weight.tolist()

    monkeypatch.setattr(bilingual, "teach", lambda *_, **__: pytest.fail("a finished tower was taught again"))
    assert made(material, checkpoint, tmp_path / "work", said, resume=True) == (path, before)
    with pytest.raises(InputError, match="a run with other data"):
        made(replace(material, chinese=[*CHINESE, "一"]), checkpoint, tmp_path / "work", said, resume=True)
