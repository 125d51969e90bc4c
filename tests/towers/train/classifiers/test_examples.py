"""The user's own examples: every form of file, what the labels are, and the split that leaks nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers import InputError
from towers.train.classifiers.example_files import Columns, load_examples
from towers.train.classifiers.examples import Examples, Raw, as_number, encode, infer_task, split_examples

ROWS = [(f"text {i}", f"other {i}", ["bad", "fine", "good"][i % 3]) for i in range(60)]


def write(folder: Path, kind: str, *, pair: bool) -> Path:
    """The rows as a file of a kind."""
    path = folder / f"rows.{kind}"
    names = ["text", "text_pair", "label"] if pair else ["text", "label"]
    rows = [row if pair else (row[0], row[2]) for row in ROWS]
    tables = {"csv": ",", "tsv": "\t"}
    if kind in tables:
        lines = [tables[kind].join(names), *(tables[kind].join(row) for row in rows)]
    elif kind == "txt":
        lines = ["\t".join(row) for row in rows]
    else:
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "txt"])
def test_every_form_gives_the_same_examples(tmp_path: Path, kind: str, pair: bool) -> None:
    """csv, tsv, json lines, txt and a DataFrame of the same rows are the same task and the same split."""
    found = load_examples([write(tmp_path, kind, pair=pair)], name="rows")
    columns = ["text", "text_pair", "label"] if pair else ["text", "label"]
    frame = pd.DataFrame(ROWS, columns=["text", "text_pair", "label"])[columns]
    expected = load_examples(frame, name="rows")
    assert found.task == expected.task
    assert found.task.labels == ("bad", "fine", "good")
    assert found.task.pair == pair
    assert found.task.metrics == ("accuracy", "macro_f1")
    for one, other in ((found.train, expected.train), (found.deciding, expected.deciding)):
        assert (one.texts, one.pairs) == (other.texts, other.pairs)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert not set(found.train.texts) & set(found.deciding.texts)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("review,stars\n" + "\n".join(f"text {i},{i % 5 + 1}" for i in range(80)))
    data = load_examples([path], columns=Columns("review", "none", "stars"), dev_share=0.3)
    assert data.task.labels == ("1", "2", "3", "4", "5")
    assert data.source == "rows"


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["0", "1"], ("0", "1")),
        (["10", "9", "-1"], ("-1", "9", "10")),  # by number, not by letter
        ([str(i) for i in range(77)], tuple(str(i) for i in range(77))),
        (["0.5", "2", "4.75"], ()),
        (["no", "1"], ("1", "no")),
    ],
)
def test_labels_say_what_is_asked(labels: list[str], kind: tuple[str, ...]) -> None:
    """Fractions make a regression, all else classes, in the order of numbers or letters."""
    assert infer_task("x", [Raw("x", labels, None, labels)]).labels == kind


def test_the_user_may_say_what_labels_are() -> None:
    whole, broken = Raw("x", ["a", "b"], None, ["1", "5"]), Raw("x", ["a", "b"], None, ["0.5", "1.5"])
    assert infer_task("x", [whole], regression=True).is_regression
    assert infer_task("x", [broken], regression=False).labels == ("0.5", "1.5")


def test_numbers_of_a_frame_are_classes() -> None:
    """A column with a gap once turned its whole numbers into floats; they are the same classes."""
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(40)], "label": [float(i % 2) for i in range(40)]})
    assert load_examples(frame, dev_share=0.3).task.labels == ("0", "1")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text,label\na,1\n,0\nb", "1 columns, but the header has 2"),
        ("text,lable\na,1\n", "has no column 'label': found 'text', 'lable'.*Did you mean 'lable'"),
        ("text,label\na,\nb,1", "line 2: found '' as label, expected a word or number"),
        ("text,label\na,1\nb,1", "found 1 different labels"),
        ("text,label\na,1\nb,0", "found 0 examples held out"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    """Errors name the row and what was expected."""
    (tmp_path / "rows.csv").write_text(rows)
    with pytest.raises(InputError, match=message):
        load_examples([tmp_path / "rows.csv"])


def test_a_txt_line_without_a_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("fine\tgood\nno label here\n")
    with pytest.raises(
        InputError, match=r"line 2: found 1 fields between tabs, expected a text and its label"
    ):
        load_examples([tmp_path / "rows.txt"])


def test_single_texts_beside_pairs_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path, "csv", pair=False), write(tmp_path, "tsv", pair=True)]
    with pytest.raises(InputError, match="found single texts beside pairs of texts"):
        load_examples(files)
    with pytest.raises(InputError, match="found single texts beside pairs of texts"):
        load_examples(files[:1], files[1:])


def test_held_out_files_bring_no_new_label(tmp_path: Path) -> None:
    train, dev = write(tmp_path, "csv", pair=False), tmp_path / "dev.csv"
    dev.write_text("text,label\na,good\nb,new")
    with pytest.raises(InputError, match="found new among held-out labels"):
        load_examples([train], [dev])
    dev.write_text("text,label\na,good\nb,bad")
    data = load_examples([train], [dev])
    assert (len(data.train), len(data.deciding)) == (60, 2)


@given(st.lists(st.tuples(st.text("ab 好", max_size=4), st.integers(0, 2)), max_size=40), st.floats(0, 1))
def test_a_text_is_on_one_side(rows: list[tuple[str, int]], share: float) -> None:
    """No first text is on both sides, in any writing, and none is lost."""
    data = Examples([text for text, _ in rows], None, np.array([label for _, label in rows], np.int64))
    sides = split_examples(data, share=share, seed=1)
    keys = [{" ".join(text.lower().split()) for text in side.texts} for side in sides]
    assert not keys[0] & keys[1]
    assert sorted(sides[0].texts + sides[1].texts) == sorted(data.texts)


def keys_of(data: Examples) -> set[str]:
    """All texts of a side, first and second, as the split compares them."""
    return {" ".join(text.lower().split()) for text in (*data.texts, *(data.pairs or ()))}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=20, max_size=90), st.integers(0, 9)
)
def test_no_text_of_a_held_out_pair_is_trained_on(links: list[tuple[int, int]], seed: int) -> None:
    """Pairs may chain, and a second text may be a first one elsewhere: none is on both sides, in any writing."""
    texts, pairs = [f"text {a}" for a, _ in links], [f"Text  {b}" for _, b in links]
    data = Examples(texts, pairs, np.arange(len(links)))
    train, dev = split_examples(data, share=0.2, seed=seed)
    assert len(dev)
    assert not keys_of(train) & keys_of(dev)
    assert not set(train.labels) & set(dev.labels)


def test_pairs_in_small_groups_all_stay() -> None:
    """Two first texts with a second one in common go to one side together, and nothing is left out."""
    texts, pairs = [f"text {i}" for i in range(200)], [f"other {i // 2}" for i in range(200)]
    train, dev = split_examples(Examples(texts, pairs, np.arange(200)), share=0.2, seed=1)
    assert len(train) + len(dev) == 200
    assert 36 <= len(dev) <= 40
    assert not set(train.pairs or ()) & set(dev.pairs or ())


@pytest.mark.parametrize("pair", [False, True])
def test_a_test_part_is_held_out_as_well(tmp_path: Path, pair: bool) -> None:
    """Three sides without a text in common; what decides is the same with a test part and without."""
    path = tmp_path / "rows.csv"
    rows = [f"text {i},other {i // 2},{i % 2}" for i in range(400)]
    path.write_text("text,text_pair,label\n" + "\n".join(rows))
    columns = Columns(text_pair="text_pair" if pair else "none")
    data = load_examples([path], columns=columns, dev_share=0.2, test_share=0.2)
    assert data.test is not None
    assert data.reported == {"test": data.test}
    sides = [data.train, data.deciding, data.test]
    assert sum(map(len, sides)) + data.left_out == 400
    assert all(50 < len(side) < 110 for side in sides[1:])
    for i, side in enumerate(sides):
        assert not any(keys_of(side) & keys_of(other) for other in sides[i + 1 :])
    without = load_examples([path], columns=columns, dev_share=0.2, test_share=0.0)
    assert without.test is None
    assert without.reported == without.dev
    assert without.deciding.texts == data.deciding.texts
    assert load_examples([path], [path], columns=columns).test is None


def test_left_out_pairs_are_counted(tmp_path: Path) -> None:
    """One second text in all pairs: training pairs would share it with held-out ones, so they are left out."""
    path = tmp_path / "rows.csv"
    rows = [f"text {i},{'popular' if i % 4 else f'own {i}'},{i // 4 % 2}" for i in range(200)]
    path.write_text("text,text_pair,label\n" + "\n".join(rows))
    data = load_examples([path], dev_share=0.2, test_share=0.2)
    assert data.test is not None
    assert data.left_out == 200 - len(data.train) - len(data.deciding) - len(data.test) > 50


@pytest.mark.parametrize(("dev_share", "test_share"), [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_that_leave_nothing_are_refused(tmp_path: Path, dev_share: float, test_share: float) -> None:
    with pytest.raises(InputError, match=r"found a --dev-share of .* and a --test-share of .*; expected"):
        load_examples([write(tmp_path, "csv", pair=False)], dev_share=dev_share, test_share=test_share)


@given(st.one_of(st.text(max_size=5), st.integers().map(str), st.floats().map(str)))
def test_a_number_is_what_float_takes(label: str) -> None:
    """The slow twin: float(), less nan and infinity."""
    value: Any = None
    try:
        value = float(label)
    except ValueError:
        value = None
    expected = value if value is not None and abs(value) < float("inf") else None
    assert as_number(label) == expected


def test_encode_names_the_example() -> None:
    task = infer_task("x", [Raw("x", ["a", "b"], None, ["yes", "no"])])
    with pytest.raises(InputError, match="x, example 2: found the label 'maybe', expected no, yes"):
        encode(task, Raw("x", ["a", "b"], None, ["yes", "maybe"]))
