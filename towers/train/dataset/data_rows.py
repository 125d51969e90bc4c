"""Between tables and the functions that clean, augment and mine: rows in, rows out, with all their other columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.bundle import open_bundle
from towers.errors import InputError
from towers.labelled import Pairs
from towers.tables import read_rows
from towers.train.data import PairSet, make_pair_set
from towers.train.dataset.augment import AugmentRecipe, Change
from towers.train.dataset.clean import Removed
from towers.train.dataset.mine import Mined
from towers.train.dataset.recombine import NewPairs, Score, recombined
from towers.train.dataset.row_files import PAIRS, RowFile

REMOVED = ("removed_line", "removed_reason", "removed_partner", "removed_confidence", "removed_suggestion")


def removed_row(table: RowFile, entry: Removed) -> dict[str, Any]:
    """Return a row as it stood, with line, reason, partner's line, confidence and likelier label beside it."""
    partner = None if entry.partner is None else table.numbers[entry.partner]
    confidence = None if entry.confidence is None else round(entry.confidence, 4)
    values = (table.numbers[entry.row], entry.reason, partner, confidence, entry.suggested)
    return {**table.rows[entry.row], **dict(zip(REMOVED, values, strict=True))}


def changed_row(table: RowFile, change: Change) -> dict[str, Any]:
    """Return the given row with the text that changed."""
    return {**table.rows[change.row], _side_columns(table)[change.side]: change.text}


def mined_row(entry: Mined, names: Sequence[str], label: float) -> dict[str, Any]:
    """Return query, title, label, cosine and, where a fifth column is named, the cross-encoder's score."""
    values = (entry.query, entry.title, _plain(label), round(entry.cosine, 4))
    return dict(zip(names, (*values, entry.score) if len(names) > len(values) else values, strict=True))


def recombined_rows(
    table: RowFile, settings: AugmentRecipe, score: Score, bundle: Path | None
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return new pairs on the table's scale of labels, and how many were scored and taken. As `recombined`."""
    data = pair_set(table)
    encode = open_bundle(bundle).encode_titles if settings.sampling == "vectors" else None
    new = recombined(data, score=score, recipe=settings, encode=encode)
    labels = data.lowest + (data.highest - data.lowest) * new.labels.astype(np.float64)
    columns = (table.columns.query, table.columns.title, table.columns.label)
    rows = [
        dict(zip(columns, (query, title, _plain(label)), strict=True))
        for query, title, label in zip(new.queries, new.titles, labels, strict=True)
    ]
    return rows, _recombined_counts(new)


def _recombined_counts(new: NewPairs) -> dict[str, int]:
    matches = int((new.labels > 0.5).sum())
    return {"scored": new.candidates, "new matches": matches, "new non-matches": len(new.queries) - matches}


def teacher_score(directory: Path) -> Score:
    """Load a saved CrossEncoder.

    Raises:
        InputError: The folder holds none.
    """
    from towers.train.cross.cross_encoder import cross_scores, load_teacher

    model = load_teacher(directory)

    def score(queries: Sequence[str], titles: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(cross_scores(model, queries, titles), np.float32)

    return score


def pair_set(table: RowFile) -> PairSet:
    """Return a table of pairs with its repeats merged.

    Raises:
        InputError: The table holds texts.
    """
    if table.kind != PAIRS:
        raise InputError(
            f"{table.path}: found texts, expected pairs with the columns query, title and label."
        )
    labels = np.array(table.labels, np.float64)
    pairs = Pairs(table.texts(table.columns.query), table.texts(table.columns.title), labels)
    return make_pair_set(pairs, name=str(table.path))


def read_titles(path: Path, column: str) -> list[str]:
    """Return the titles of a table; a .txt has one in each line.

    Raises:
        InputError: The table has none in this column.
    """
    column = "title" if ".txt" in path.suffixes else column
    found = [row.get(column) for _, row in read_rows(path)]
    titles = [title for title in found if isinstance(title, str) and title.strip()]
    if not titles:
        raise InputError(
            f"{path}: found no text in a column {column!r}, expected titles there. See --title-column."
        )
    return titles


def sides_of(table: RowFile) -> list[tuple[str, ...]]:
    """Return (text,) or (query, title) of each row."""
    return list(zip(*(table.texts(column) for column in _side_columns(table)), strict=True))


def _side_columns(table: RowFile) -> tuple[str, ...]:
    columns = table.columns
    return (columns.query, columns.title) if table.kind == PAIRS else (columns.text,)


def _plain(number: float) -> int | float:
    number = round(float(number), 4)
    return int(number) if number == int(number) else number
