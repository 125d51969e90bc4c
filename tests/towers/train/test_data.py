from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.labelled import Pairs
from towers.train.data import PairSet, label_kind, make_pair_set, read_pair_set, split_pairs, text_key

ROWS = [("red shoes", "Red running shoes", 4), ("red shoes", "Blue hat", 1), ("hat", "Blue hat", 3)]


def pair_set(rows: list[tuple[str, str, float]], name: str = "set") -> PairSet:
    queries, titles, labels = zip(*rows, strict=True)
    return make_pair_set(Pairs(list(queries), list(titles), np.array(labels, float)), name=name)


def save(path: Path, rows: list[tuple[str, str, float]]) -> Path:
    frame = pd.DataFrame(rows, columns=["query", "title", "label"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.to_json(orient="records", lines=True).encode()))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.jsonl.gz", "p.parquet"])
def test_every_format_and_a_frame_give_the_same_pairs(name: str, tmp_path: Path) -> None:
    """The form of the table makes no difference to the pairs."""
    read = read_pair_set(save(tmp_path / name, ROWS))
    framed = read_pair_set(pd.DataFrame(ROWS, columns=["query", "title", "label"]), name="p")
    assert read.name == "p"
    assert (read.queries, read.titles) == (framed.queries, framed.titles)
    np.testing.assert_array_equal(read.labels, framed.labels)


def test_labels_are_moved_to_0_1_and_the_scale_is_remembered() -> None:
    """Grades of 1..4 become 0, 1/3, 2/3, 1 and can be had back; 3 and 4 are positive."""
    pairs = pair_set([(str(i), "t", i) for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(pairs.labels, [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    np.testing.assert_allclose(pairs.original_labels, [1, 2, 3, 4], rtol=1e-6)
    assert pairs.positive.tolist() == [False, False, True, True]
    assert (pairs.lowest, pairs.highest, pairs.kind) == (1, 4, "graded")


@pytest.mark.parametrize(
    ("labels", "kind"), [([0, 1], "binary"), ([1.0], "binary"), ([0, 1, 2], "graded"), ([0.2, 3.8], "float")]
)
def test_the_kind_of_labels_is_told_from_their_values(labels: list[float], kind: str) -> None:
    """0 and 1 are binary, a few whole numbers are grades, anything else is a similarity."""
    assert label_kind(np.array(labels)) == kind


def test_repeats_become_one_pair_with_the_mean_label() -> None:
    """Pairs that differ in case or spaces only are one; the rows read are still counted."""
    pairs = pair_set([("Red  Shoes", "hat", 1), ("red shoes", "Hat ", 0), ("a", "b", 1)])
    assert (len(pairs), pairs.rows) == (2, 3)
    assert pairs.labels.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"query": ["a"], "title": ["b"]}, "no column 'label'"),
        ({"query": ["a", None], "title": ["b", "c"], "label": [1, 0]}, "row 2: found (None|nan) as query"),
        ({"query": ["a", "b"], "title": ["b", "c"], "label": [1, "x"]}, "row 2: found 'x' as label"),
        ({"query": ["a"], "title": ["b"], "label": [0]}, "the label 0 in every row"),
        ({"query": [], "title": [], "label": []}, "no rows"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused(rows: dict[str, list[object]], message: str) -> None:
    """The error names the row or column, as it does for files."""
    with pytest.raises(InputError, match=message):
        read_pair_set(pd.DataFrame(rows))


def test_a_broken_row_of_a_file_is_named(tmp_path: Path) -> None:
    """The line is the one that an editor shows."""
    path = tmp_path / "p.jsonl"
    good = {"query": "a", "title": "b", "label": 1}
    path.write_text("\n".join(json.dumps(row) for row in (good, good | {"label": "many"})))
    with pytest.raises(InputError, match=r"p\.jsonl.*2.*'many'"):
        read_pair_set(path)


def sides(sets: list[PairSet], seed: int = 1, dev_share: float = 0.3) -> tuple[set[str], set[str]]:
    """All texts of the training side and of the dev side."""
    train: set[str] = set()
    dev: set[str] = set()
    for pairs, split in zip(sets, split_pairs(sets, dev_share=dev_share, seed=seed), strict=True):
        assert not (split.train & split.dev).any()
        for mask, texts in ((split.train, train), (split.dev, dev)):
            for i in np.flatnonzero(mask):
                texts |= {text_key(pairs.queries[i]), text_key(pairs.titles[i])}
    return train, dev


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=60, max_size=120), st.integers(0, 9)
)
def test_no_text_is_on_both_sides(links: list[tuple[int, int]], seed: int) -> None:
    """A title may be a query elsewhere, and pairs may chain: no dev text occurs in training, in any set."""
    rows = [(f"text {a}", f"Text {b}", float(i % 2)) for i, (a, b) in enumerate(links)]
    rows += [(f"own {i}", f"title {i}", float(i % 2)) for i in range(40)]  # so that both sides can be filled
    sets = [pair_set(rows[::2] + rows[-4:]), pair_set(rows[1::2])]
    try:
        train, dev = sides(sets, seed)
    except InputError:
        return  # one class on a side: refused, not leaked
    assert train.isdisjoint(dev)


def test_small_groups_stay_whole() -> None:
    """Where groups of connected texts are small nothing is dropped, and dev gets about its share."""
    rows = [(f"q{i}", f"t{i}-{j}", float(j % 2)) for i in range(200) for j in range(2)]
    (split,) = split_pairs([pair_set(rows)], dev_share=0.2, seed=3)
    assert (split.train | split.dev).all()
    assert 70 <= split.dev.sum() <= 80


def test_a_title_that_connects_everything_costs_only_crossing_pairs() -> None:
    """One title under all queries: the queries are drawn one by one, and the training pairs with it are dropped."""
    rows = [(f"q{i}", f"t{i}", float(i % 2)) for i in range(100)] + [
        (f"q{i}", "popular", float(i % 2)) for i in range(100)
    ]
    pairs = pair_set(rows)
    (split,) = split_pairs([pairs], dev_share=0.2, seed=3)
    dropped = ~(split.train | split.dev)
    assert 30 <= split.dev.sum() <= 40
    assert {pairs.titles[i] for i in np.flatnonzero(dropped)} == {"popular"}


def test_the_split_depends_on_the_seed_alone() -> None:
    """Same seed, same split; another seed, another split."""
    pairs = pair_set([(f"q{i}", f"t{i}", float(i % 2)) for i in range(100)])
    one, same, other = (split_pairs([pairs], dev_share=0.2, seed=seed)[0].dev for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_too_few_pairs_to_split_are_refused() -> None:
    """A side without a positive pair cannot be trained or measured on."""
    with pytest.raises(InputError, match="Give more pairs"):
        split_pairs([pair_set([("a", "b", 1), ("c", "d", 0)])], dev_share=0.2, seed=1)
