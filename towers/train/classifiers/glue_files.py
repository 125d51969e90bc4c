"""GLUE's official files: tab-separated without quoting, each task with ways of its own.

CoLA's have no header; MRPC may come as Microsoft's two txt files, with or without the list of dev ids; MNLI has two dev
sets and, where it is MultiNLI itself, rows without a majority; QQP has rows that lack fields; tests have no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from towers.errors import InputError
from towers.lines import listed, refusal, row_name, text_lines
from towers.train.classifiers.examples import Examples, Raw, as_number

_MRPC_TRAIN, _MRPC_TEST, _MRPC_DEV = "msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "dev_ids.tsv"

Row = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Fields:
    """Columns of a text, of a second text ("" for single texts) and of the label."""

    text: str
    pair: str = ""
    label: str = "label"


@dataclass(frozen=True)
class Official:
    """How a task's files are read.

    Attributes:
        folder: Its name in the archive.
        fields: The columns.
        labels: Names of the classes, in the order of their numbers; files have either.
        header: The columns of files that do not name them; empty where they do.
    """

    folder: str
    fields: Fields
    labels: tuple[str, ...]
    header: tuple[str, ...] = ()


def find_folder(folder: Path, official: Official) -> Path:
    """Return a task's folder, given itself or the one above it; case and hyphens do not count.

    Raises:
        InputError: Neither; it names what is there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the one with GLUE's official files")
    if _training_file(folder) is not None:
        return folder
    inside = sorted(path for path in folder.iterdir())
    for path in inside:
        if path.is_dir() and _plain(path.name) == _plain(official.folder):
            if _training_file(path) is not None:
                return path
            inside = sorted(path.iterdir())
            folder = path
            break
    found = listed(path.name for path in inside[:10]) or "nothing"
    raise InputError(
        f"{folder} holds {found}, expected {official.folder}/train.tsv, or train.tsv itself. Unpack "
        f"{official.folder} of the official archive there."
    )


def read_sets(root: Path, official: Official, dev: Mapping[str, str]) -> tuple[dict[str, Raw], int]:
    """Read the training set and the dev sets: name -> rows, "train" first; and the number of rows left out."""
    if not (root / "train.tsv").is_file():
        return _read_microsoft(root, official)
    files = {"train": "train"} | dict(dev)
    read = {name: _labelled(root / f"{file}.tsv", official) for name, file in files.items()}
    return {name: raw for name, (raw, _) in read.items()}, sum(left_out for _, left_out in read.values())


def read_test(root: Path, official: Official, file: str) -> Examples:
    """Read a test set; every row counts, as a submission needs them all."""
    path = root / f"{file}.tsv"
    if not path.is_file() and (root / _MRPC_TEST).is_file():
        path = root / _MRPC_TEST
    fields = official.fields
    rows = [row for _, row in _rows(path, [x for x in (fields.text, fields.pair) if x], ())]
    if broken := [i for i, row in enumerate(rows) if not row]:
        raise InputError(f"{path}: test example {broken[0]} lacks fields; a submission needs every one")
    pairs = [row[fields.pair] for row in rows] if fields.pair else None
    return Examples([row[fields.text] for row in rows], pairs, np.empty(0, np.int64))


def _read_microsoft(root: Path, official: Official) -> tuple[dict[str, Raw], int]:
    """MRPC as Microsoft gives it: a dev set by ids where GLUE's list of them is there, else the test set."""
    path = root / _MRPC_TRAIN
    if not (root / _MRPC_DEV).is_file():
        (train, lost), (test, more) = _labelled(path, official), _labelled(root / _MRPC_TEST, official)
        return {"train": train, "test": test}, lost + more
    lines = text_lines(root / _MRPC_DEV, refusal(root / _MRPC_DEV))
    ids = {tuple(line.split("\t")) for _, line in lines if line}

    def in_dev(row: dict[str, str]) -> bool:
        return (row["#1 ID"], row["#2 ID"]) in ids

    train, lost = _labelled(path, official, lambda row: not in_dev(row))
    dev, _ = _labelled(path, official, in_dev)
    return {"train": train, "validation": dev}, lost


def _labelled(
    path: Path, official: Official, wanted: Callable[[dict[str, str]], bool] = bool
) -> tuple[Raw, int]:
    """Rows with their labels as names of classes or as numbers, and the number of rows left out."""
    fields = official.fields
    texts, pairs, labels, left_out = [], [], [], 0
    wanted_columns = [x for x in (fields.text, fields.pair, fields.label) if x]
    for where, row in _rows(path, wanted_columns, official.header):
        if not row or row[fields.label] == "-":  # "-": the annotators of MultiNLI did not agree
            left_out += 1
        elif wanted(row):
            texts.append(row[fields.text])
            pairs.append(row.get(fields.pair, ""))
            labels.append(_label(row[fields.label], official, where))
    if not texts:
        raise InputError(f"{path} holds no usable row for {official.folder}")
    return Raw(str(path), texts, pairs if fields.pair else None, labels), left_out


def _rows(path: Path, columns: list[str], unnamed: tuple[str, ...]) -> Iterator[Row]:
    """Yield (where, row); a row that has fewer fields than the header is empty.

    Args:
        path: The file.
        columns: What a row must have.
        unnamed: The file's columns, where it has no header.

    Raises:
        InputError: The file is missing or has other columns: it belongs to another task.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist, expected GLUE's official file of that name")
    header: list[str] = []
    for number, line in text_lines(path, refusal(path)):
        values = line.split("\t")
        if not header:
            header, is_data = _header(path, values, columns, unnamed)
            if not is_data:
                continue
        if line:
            full = len(values) >= len(header)
            yield row_name(path, number), dict(zip(header, values, strict=False)) if full else {}


def _header(
    path: Path, values: list[str], columns: list[str], unnamed: tuple[str, ...]
) -> tuple[list[str], bool]:
    """Return the names of the columns, and whether the first line is data already."""
    header = [value.strip() for value in values]
    if all(column in header for column in columns):
        return header, False
    if unnamed and len(values) == len(unnamed):
        return list(unnamed), True
    shown = listed(value[:40] for value in header[:12])
    raise InputError(
        f"{path} begins with {shown}, expected the columns {listed(columns)}: it is another task's file, or no "
        "official one."
    )


def _label(word: str, official: Official, where: str) -> str:
    if not official.labels and as_number(word) is not None:
        return word
    if word in official.labels:
        return word
    if word.isdigit() and int(word) < len(official.labels):
        return official.labels[int(word)]
    expected = ", ".join(official.labels) or "a number"
    raise InputError(f"{where}: found the label {word!r}, expected {expected}")


def _training_file(folder: Path) -> Path | None:
    found = (folder / name for name in ("train.tsv", _MRPC_TRAIN))
    return next((path for path in found if path.is_file()), None)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
