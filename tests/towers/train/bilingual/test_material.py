from __future__ import annotations

import json
from pathlib import Path

import pytest

from towers.errors import InputError
from towers.train.bilingual.material import is_chinese, read_material, read_texts_of, read_triples
from towers.train.data import read_pair_set
from towers.train.sources import Source, read_recipe

RECIPE = """
base = ""
base_licence = "MIT"
licence = "MIT"
[[pairs]]
file = "pairs.jsonl"
licence = "CC0-1.0"
origin = "made up"
[[unlabelled]]
file = "texts.jsonl"
licence = "MIT"
origin = "made up"
[[triples]]
file = "triples.jsonl"
licence = "CC-BY-4.0"
origin = "made up"
[[translated]]
file = "pairs.jsonl"
licence = "CC0-1.0"
origin = "made up"
"""


def source(file: str) -> Source:
    return Source(file=file, licence="MIT", origin="made up")


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_a_recipe_names_the_material(tmp_path: Path) -> None:
    """Texts are sorted by language, and what teaches the tower is told with rows and licence."""
    pairs = [{"query": f"鞋{i}", "title": f"鞋子{i}", "label": i % 2} for i in range(40)]
    write(tmp_path / "pairs.jsonl", [*pairs])
    write(tmp_path / "texts.jsonl", [{"text": "red shoes"}, {"text": "红鞋"}, {"text": "a coat"}])
    write(tmp_path / "triples.jsonl", [{"query": "手机", "title": "电话", "negative": "鞋"}])
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.rpartition("[[translated]]")[0])
    recipe = read_recipe(path)
    sets = [read_pair_set(tmp_path / x.file, licence=x.licence) for x in recipe.pairs]
    split = {"dev_share": 0.2, "seed": 1}
    material, entries = read_material(recipe, sets, split=split, data=tmp_path)
    assert (material.english, material.chinese) == (["red shoes", "a coat"], ["红鞋"])
    assert len(material.training[0]) + len(material.dev_texts) // 2 == len(pairs)
    assert [(x["name"], x["rows"], x["licence"]) for x in entries] == [
        ("texts", 3, "MIT"),
        ("triples", 1, "CC-BY-4.0"),
        ("pairs", 40, "CC0-1.0"),
    ]
    path.write_text(RECIPE)
    with pytest.raises(InputError, match=r"found 1 sets as \[\[translated\]\], expected none or two"):
        read_material(read_recipe(path), sets, split=split, data=tmp_path)


def test_triples_need_their_columns(tmp_path: Path) -> None:
    """A row without one of them is an error that names file, place and columns."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(json.dumps({"query": "a", "title": "b", "negative": "c", "more": 1}) + "\n")
    bad.write_text(json.dumps({"query": "a", "title": "b"}) + "\n")
    assert read_triples([source("good.jsonl")], tmp_path) == [("a", "b", "c")]
    with pytest.raises(InputError, match=r"bad\.jsonl, .*found the columns query, title, expected"):
        read_triples([source("bad.jsonl")], tmp_path)


def test_texts_of_some_columns(tmp_path: Path) -> None:
    """In the order of the rows; what is no text is passed over."""
    rows = [{"query": "a", "title": "b", "label": 1}, {"query": "c", "title": None}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_texts_of([source("rows.jsonl")], tmp_path, columns=("query", "title")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("texts", "chinese"),
    [(["红鞋", "red"], False), (["红鞋", "red 鞋", "red"], True), (["red"], False), ([], False)],
)
def test_texts_are_chinese_where_most_of_them_are(texts: list[str], chinese: bool) -> None:
    """More than half must have a Chinese character."""
    assert is_chinese(texts) is chinese
