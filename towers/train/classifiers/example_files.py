"""Reading the user's own examples: tables, txt files with a tab before the label, and DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from towers.errors import InputError
from towers.lines import refusal, row_name, text_lines
from towers.tables import read_rows, require_columns
from towers.train.classifiers.examples import (
    Examples,
    Raw,
    TaskData,
    as_number,
    check_sides,
    encode,
    infer_task,
    split_examples,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; a table without the column of second texts has single ones."""

    text: str = "text"
    text_pair: str = "text_pair"
    label: str = "label"


def load_examples(
    train: Sequence[str | Path] | pd.DataFrame,
    dev: Sequence[str | Path] | pd.DataFrame = (),
    *,
    columns: Columns | None = None,
    dev_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 13,
    name: str | None = None,
    regression: bool | None = None,
    licence: str = "not given",
) -> TaskData:
    """Read the user's own examples.

    Args:
        train: Files, or a DataFrame.
        dev: Held-out ones; none: shares of the others are held out, by text.
        columns: Names of the columns.
        dev_share: The share that decides between models.
        test_share: The share that decides nothing; 0: none, as with `dev`.
        seed: Of these draws.
        name: Of the task; None for the first file's.
        regression: Whether labels are numbers; None: where one of them has a fraction.
        licence: As the source states it.

    Raises:
        InputError: Names the row that is broken, or the label that is never trained on.
    """
    if dev_share <= 0 or test_share < 0 or dev_share + test_share >= 1:
        raise InputError(
            f"found a --dev-share of {dev_share:g} and a --test-share of {test_share:g}; expected the first above 0, "
            "the second 0 or more, and both together below 1"
        )
    columns = columns or Columns()
    trained = _join(_read_all(train, columns))
    held_out = _join(_read_all(dev, columns)) if len(dev) else None
    task = infer_task(name or trained.name, [x for x in (trained, held_out) if x], regression=regression)
    examples = encode(task, trained)
    if held_out is not None:
        data = TaskData(task, examples, {"dev": encode(task, held_out)}, source=trained.name, licence=licence)
    else:
        train, dev_side, test = _sides(examples, dev_share, test_share, seed)
        left_out = len(examples) - sum(len(side) for side in (train, dev_side, test or ()))
        data = TaskData(task, train, {"dev": dev_side}, trained.name, left_out, licence, test)
    for side in (data.deciding, *data.reported.values()):
        check_sides(task, data.train, side)
    return data


def _sides(
    data: Examples, dev_share: float, test_share: float, seed: int
) -> tuple[Examples, Examples, Examples | None]:
    """The examples to train on, those that decide, and those that decide nothing."""
    train, dev = split_examples(data, share=dev_share, seed=seed)
    if not test_share:
        return train, dev, None
    # Another seed: with the same one, the draw that kept a text out of dev would keep it out of the test set as well.
    train, test = split_examples(train, share=test_share / (1 - dev_share), seed=seed + 1)
    return train, dev, test


def _read_all(source: Sequence[str | Path] | pd.DataFrame, columns: Columns) -> list[Raw]:
    if not isinstance(source, Sequence):
        frame: Any = source
        require_columns("DataFrame", [str(column) for column in frame.columns], [columns.text, columns.label])
        rows = enumerate(frame.to_dict("records"), start=1)
        return [_collect("DataFrame", ((f"DataFrame, row {i}", row) for i, row in rows), columns)]
    return [_read_file(Path(path), columns) for path in source]


def _read_file(path: Path, columns: Columns) -> Raw:
    if ".txt" in path.suffixes:
        return _collect(_stem(path), _text_rows(path), Columns())

    def rows() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for i, (number, row) in enumerate(read_rows(path)):
            if not i:
                require_columns(path, row, [columns.text, columns.label])
            yield row_name(path, number), row

    return _collect(_stem(path), rows(), columns)


def _text_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Lines of text, tab, label; or text, tab, second text, tab, label."""
    for number, line in text_lines(path, refusal(path)):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) not in (2, 3):
            raise InputError(
                f"{row_name(path, number)}: found {len(fields)} fields between tabs, expected a text and its label, or "
                "two texts and their label. Put a tab before the label."
            )
        yield (
            row_name(path, number),
            dict(zip(("text", *["text_pair"] * (len(fields) == 3), "label"), fields, strict=True)),
        )


def _collect(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Columns) -> Raw:
    texts, pairs, labels = [], [], []
    for where, row in rows:
        texts.append(_text(row, columns.text, where))
        labels.append(_label(row, columns.label, where))
        if row.get(columns.text_pair) is not None:
            pairs.append(_text(row, columns.text_pair, where))
        if pairs and len(pairs) < len(texts):
            raise InputError(f"{where}: found no {columns.text_pair}, expected one in each row or in none")
    if not texts:
        raise InputError(f"{name} holds no row. Give examples.")
    return Raw(name, texts, pairs or None, labels)


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)  # a title like 1984
    if not isinstance(value, str):
        raise InputError(f"{where}: found {value!r} as {column}, expected text. Correct or remove the row.")
    return value


def _label(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, str | int | float | np.integer | np.floating):
        word = str(value).strip()
        number = as_number(word)
        if word and (isinstance(value, str) or number is not None):
            return word.removesuffix(".0") if number is not None else word  # 1.0 is the class 1
    raise InputError(
        f"{where}: found {value!r} as {column}, expected a word or number. Correct or remove the row."
    )


def _join(sets: Sequence[Raw]) -> Raw:
    pairs = [text for raw in sets for text in raw.pairs or ()]
    texts = [text for raw in sets for text in raw.texts]
    if len(pairs) not in (0, len(texts)):
        raise InputError(f"{sets[0].name}: found single texts beside pairs of texts; give files of one kind")
    return Raw(sets[0].name, texts, pairs or None, [label for raw in sets for label in raw.labels])


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
