"""A match request, sorted into what the Matcher takes, and the way back to the order of the request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.schemas import MatchRequest, Pair, TitleRef


@dataclass(frozen=True)
class QueryId:
    """A query given by its id instead of its text."""

    value: str


@dataclass(frozen=True)
class Asked:
    """Titles by id and by text, and the queries that they are judged against.

    Attributes:
        queries: Each different query once.
        ids: Titles given by id.
        texts: Titles given by text.
        order: Entry i of the request is entry `order[i]` of ids followed by texts, int (n,).
        which: Entry j of ids followed by texts belongs to query `which[j]`, int (n,).
    """

    queries: list[str | QueryId]
    ids: Sequence[str]
    texts: Sequence[str]
    order: np.ndarray
    which: np.ndarray


def asked(request: MatchRequest) -> Asked:
    """Sort the titles or pairs of a request."""
    if request.pairs is not None:
        return _of_pairs(request.pairs)
    query = request.query if request.query is not None else QueryId(request.query_id or "")
    if request.title_ids is not None:
        count = len(request.title_ids)
        return Asked([query], request.title_ids, (), np.arange(count), np.zeros(count, int))
    titles = request.titles or []
    ids, texts, order = _sorted(_by_id(title) for title in titles)
    return Asked([query], ids, texts, order, np.zeros(len(titles), int))


def _of_pairs(pairs: Sequence[Pair]) -> Asked:
    numbers: dict[str | QueryId, int] = {}
    which = [
        numbers.setdefault(pair["query"] if "query" in pair else QueryId(pair["query_id"]), len(numbers))
        for pair in pairs
    ]
    ids, texts, order = _sorted(
        (True, pair["title_id"]) if "title_id" in pair else (False, pair["title"]) for pair in pairs
    )
    placed = np.empty(len(pairs), int)
    placed[order] = which
    return Asked(list(numbers), ids, texts, order, placed)


def _by_id(title: TitleRef | str) -> tuple[bool, str]:
    if isinstance(title, str):
        return False, title
    return (True, title["id"]) if "id" in title else (False, title["text"])


def _sorted(titles: Iterable[tuple[bool, str]]) -> tuple[list[str], list[str], np.ndarray]:
    """Split (is an id, value) into ids and texts, and say where each entry went."""
    ids: list[str] = []
    texts: list[str] = []
    places = []
    for is_id, value in titles:
        kind = ids if is_id else texts
        places.append((is_id, len(kind)))
        kind.append(value)
    return ids, texts, np.array([place if is_id else len(ids) + place for is_id, place in places], int)
