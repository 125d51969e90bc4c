from __future__ import annotations

import json
from pathlib import Path

import pytest

from towers.errors import InputError
from towers.train.short_texts import distinct_texts, read_short_texts


def test_queries_titles_and_texts_are_read_once(tmp_path: Path) -> None:
    """Whatever the labels, each text comes once, in order; long ones and those of an evaluation stay out."""
    pairs = [
        {"query": "red shoe", "title": "Red  Shoe", "label": 1},
        {"query": "tea", "title": "x" * 400, "label": 0},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (tmp_path / "plain.txt").write_text("warm milk\nheld out\n")
    (tmp_path / "intents.csv").write_text("text,intent\nlost card,7\ntea,8\n")
    sources = [tmp_path / name for name in ("pairs.jsonl", "plain.txt", "intents.csv")]
    assert read_short_texts(sources, without=["Held Out"]) == ["red shoe", "tea", "warm milk", "lost card"]


def test_a_table_without_texts_is_refused(tmp_path: Path) -> None:
    """The error names the columns that there are, and those that are read."""
    path = tmp_path / "numbers.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(
        InputError, match="found the columns a, b, expected text in one of query, title, text"
    ):
        read_short_texts([path])


def test_no_text_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("x" * 400 + "\n")
    with pytest.raises(InputError, match="found no text of 1 to 300 characters"):
        read_short_texts([path])


def test_empty_texts_are_none() -> None:
    assert distinct_texts(["", "  ", "a", "A"]) == ["a"]
