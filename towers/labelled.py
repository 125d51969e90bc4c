"""Labelled data to measure a bundle on: pairs, texts with a sentiment, searches with relevance judgements.

Every value is checked here, once; an error names the row and the way out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.lines import row_name
from towers.sentiment import NAMES
from towers.tables import read_rows, require_columns

_SENTIMENT_OF = {spelling: label for label, name in NAMES.items() for spelling in (f"{label}", name)}


@dataclass(frozen=True)
class Pairs:
    """Queries and titles, side by side, with a label: 1 or 0, a grade, or a similarity; higher is better.

    Attributes:
        queries: n texts.
        titles: n texts.
        labels: (n,) float64.
    """

    queries: list[str]
    titles: list[str]
    labels: NDArray[np.float64]


@dataclass(frozen=True)
class Texts:
    """Texts with their sentiment.

    Attributes:
        texts: n texts.
        labels: (n,) int64 in -1, 0, 1.
    """

    texts: list[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Searches:
    """Titles, queries over them, and which titles are relevant to which query.

    Attributes:
        title_ids: n ids.
        titles: n texts.
        query_ids: q ids.
        queries: q texts.
        relevances: q dictionaries, title id to relevance; titles that are not in them have relevance 0. An id
            may be unknown: that title is then relevant and cannot be found.
        unknown_queries: Queries that are judged and whose text is not given; they count nowhere.
        skip_own: Leave the title with the query's own id out of its results, unless it is judged.
    """

    title_ids: list[str]
    titles: list[str]
    query_ids: list[str]
    queries: list[str]
    relevances: list[dict[str, float]]
    unknown_queries: int = 0
    skip_own: bool = False


@dataclass(frozen=True)
class SearchColumns:
    """The columns to read in the three files of `read_searches`; None takes the first of the usual names."""

    id: str | None = None
    title: str | None = None
    query_id: str | None = None
    query: str | None = None
    title_id: str | None = None
    relevance: str | None = None


def read_pairs(path: Path, *, query: str = "query", title: str = "title", label: str = "label") -> Pairs:
    """Read pairs from a table; the arguments name its columns.

    Raises:
        InputError: Names the row whose text is missing or whose label is no number.
    """
    queries, titles, labels = [], [], []
    for row in _cells(path, query=(query,), title=(title,), label=(label,)):
        queries.append(row.text("query"))
        titles.append(row.text("title"))
        labels.append(row.number("label"))
    return Pairs(queries, titles, np.array(labels))


def read_texts(path: Path, *, text: str = "text", label: str = "label") -> Texts:
    """Read texts with a sentiment, as -1, 0, 1 or negative, neutral, positive, from a table.

    Raises:
        InputError: Names the row whose text is missing or whose label is none of these.
    """
    texts, labels = [], []
    for row in _cells(path, text=(text,), label=(label,)):
        texts.append(row.text("text"))
        labels.append(row.sentiment("label"))
    return Texts(texts, np.array(labels))


def read_searches(
    titles: Path, qrels: Path, queries: Path | None = None, *, columns: SearchColumns | None = None
) -> Searches:
    """Read titles, judgements and queries from three tables.

    Args:
        titles: A table of ids and titles; in a .txt the id is the line number.
        qrels: A table of query id, title id and relevance (0 and below: not relevant).
        queries: A table of query ids and queries. None: `qrels` has the queries themselves in place of ids.
        columns: The columns, where they have unusual names.

    Raises:
        InputError: Names the row that is broken or has an id for the second time, or says that no id fits.
    """
    columns = columns or SearchColumns()
    title_of = _read_titles(titles, columns)
    if queries is None:
        judged = _read_qrels(qrels, columns, (columns.query or "query",))
        return _joined(title_of, {query: query for query in judged}, judged, qrels)
    judged = _read_qrels(qrels, columns, _names(columns.query_id, _QUERY_IDS))
    return _joined(title_of, _read_queries(queries, columns), judged, qrels)


def read_beir(directory: Path, qrels: Path | None = None) -> Searches:
    """Read a directory in the layout of BEIR: corpus.jsonl, queries.jsonl, qrels/*.tsv (Thakur et al. 2021).

    A document's title and text are joined, and a document with the query's own id is left out of its results,
    as BEIR does. Without `qrels`, qrels/test.tsv is read, or the only file there.
    """
    columns = SearchColumns()
    corpus: dict[str, str] = {}
    for row in _cells(_one_of(directory, "corpus.jsonl"), id=_IDS, title=("title", "text"), text=("text",)):
        parts = dict.fromkeys((row.text("title"), row.text("text")))  # one part where there is no title
        corpus[row.id("id", corpus)] = " ".join(parts).strip()
    query_of = _read_queries(_one_of(directory, "queries.jsonl"), columns)
    qrels = qrels or _only_qrels(directory / "qrels")
    return _joined(corpus, query_of, _read_qrels(qrels, columns, _QUERY_IDS), qrels, skip_own=True)


_IDS = ("id", "_id", "title_id")
_QUERY_IDS = ("query_id", "query-id", "qid")
_TITLE_IDS = ("title_id", "title-id", "corpus-id", "doc_id", "id")
_RELEVANCES = ("relevance", "score", "label")


def _names(chosen: str | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    return (chosen,) if chosen else usual


def _read_titles(path: Path, columns: SearchColumns) -> dict[str, str]:
    titles: dict[str, str] = {}
    if ".txt" in path.suffixes:
        return {str(number): row["title"] for number, row in read_rows(path)}
    for row in _cells(path, id=_names(columns.id, _IDS), title=(columns.title or "title",)):
        titles[row.id("id", titles)] = row.text("title")
    return titles


def _read_queries(path: Path, columns: SearchColumns) -> dict[str, str]:
    queries: dict[str, str] = {}
    ids = _names(columns.query_id, (*_QUERY_IDS, "id", "_id"))
    for row in _cells(path, id=ids, query=_names(columns.query, ("query", "text"))):
        queries[row.id("id", queries)] = row.text("query")
    return queries


def _read_qrels(path: Path, columns: SearchColumns, query: tuple[str, ...]) -> dict[str, dict[str, float]]:
    judged: dict[str, dict[str, float]] = {}
    title, relevance = _names(columns.title_id, _TITLE_IDS), _names(columns.relevance, _RELEVANCES)
    for row in _cells(path, query=query, title=title, relevance=relevance):
        of_query = judged.setdefault(row.id("query"), {})
        of_query[row.id("title", of_query)] = max(0.0, row.number("relevance"))
    return judged


def _joined(
    titles: dict[str, str],
    queries: dict[str, str],
    judged: dict[str, dict[str, float]],
    qrels: Path,
    *,
    skip_own: bool = False,
) -> Searches:
    known = [query for query in judged if query in queries]
    if not known:
        raise InputError(
            f"{qrels}: none of its queries is known: found {_example(judged)}, expected {_example(queries)}."
        )
    named = {title for query in known for title in judged[query]}
    if named.isdisjoint(titles):
        raise InputError(
            f"{qrels}: none of its titles is known: found {_example(named)}, expected {_example(titles)}."
        )
    return Searches(
        title_ids=list(titles),
        titles=list(titles.values()),
        query_ids=known,
        queries=[queries[query] for query in known],
        relevances=[judged[query] for query in known],
        unknown_queries=len(judged) - len(known),
        skip_own=skip_own,
    )


def _example(ids: Any) -> str:
    return f"{len(ids)} such as {min(ids)!r}"


def _one_of(directory: Path, name: str) -> Path:
    """The file of this name, or its .gz."""
    packed = directory / f"{name}.gz"
    return packed if packed.exists() else directory / name


def _only_qrels(directory: Path) -> Path:
    found = sorted(directory.glob("*.tsv"))
    test = [path for path in found if path.stem == "test"]
    if len(found) == 1 or test:
        return (test or found)[0]
    names = ", ".join(path.name for path in found) or "no .tsv file"
    raise InputError(f"{directory}: found {names}, expected test.tsv or one file; name one with --qrels.")


@dataclass(frozen=True)
class _Row:
    """The cells of a row that were asked for, by what they are and not by the name of their column."""

    name: str
    cells: dict[str, Any]

    def text(self, what: str) -> str:
        value = self.cells[what]
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return str(value)  # a title like 1984 is a number in JSON
        if not isinstance(value, str):
            raise self._refused(what, "text")
        return value

    def id(self, what: str, taken: dict[str, Any] | None = None) -> str:
        value = self.cells[what]
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a data frame with a gap writes its whole numbers as floats
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self._refused(what, "an id")
        if taken and str(value) in taken:
            raise InputError(f"{self.name}: the {what} {str(value)!r} occurs twice. Remove one of its rows.")
        return str(value)

    def number(self, what: str) -> float:
        value = self.cells[what]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self._refused(what, "a number")
        return number

    def sentiment(self, what: str) -> int:
        value = str(self.cells[what]).strip().lower().removesuffix(".0")
        if value not in _SENTIMENT_OF:
            raise self._refused(what, f"one of {', '.join(_SENTIMENT_OF)}")
        return _SENTIMENT_OF[value]

    def _refused(self, what: str, expected: str) -> InputError:
        return InputError(
            f"{self.name}: found {self.cells[what]!r} as {what}, expected {expected}. "
            "Correct or remove the row, or name another column (see --help)."
        )


def _cells(path: Path, **columns: tuple[str, ...]) -> Iterator[_Row]:
    """Stream the rows of a table; `columns` says, for each cell, the names that its column may have."""
    chosen: dict[str, str] = {}
    for number, row in read_rows(path):
        if not chosen:
            chosen = {what: next((n for n in names if n in row), names[0]) for what, names in columns.items()}
            require_columns(path, row, list(chosen.values()))
        yield _Row(row_name(path, number), {what: row.get(name) for what, name in chosen.items()})
