"""Requests over the catalogue: queries as people type them to shops, ids of its products, sentences for sentiment."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.common import crowdflower_queries, data_file, sample
from towers.labelled import read_texts

SENTENCES = "sentiment/en/sst5_dev.jsonl.gz"


def new_queries(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Queries of which none comes twice: each of CrowdFlower's with each maker's name before it, in any order.

    What people type is hundreds of queries, and a service that has seen them all answers from its cache.
    """
    makers = list(dict.fromkeys(str(row["supplier"]) for row in rows))
    queries = crowdflower_queries(options)
    spellings = [
        str.lower,
        str.upper,
        str.title,
        str.capitalize,
    ]  # different to the caches, the same to the model
    everything = [(spell, maker, query) for spell in spellings for maker in makers for query in queries]
    told: set[str] = set()
    for spell, maker, query in sample(everything, len(everything)):
        text = spell(f"{maker} {query}")
        if text not in told:
            told.add(text)
            yield text


def searches(queries: Iterable[str], count: int) -> list[bytes]:
    """Searches for the next `count` queries."""
    return [_body(query=query, k=10) for query in islice(queries, count)]


def matches(queries: Iterable[str], count: int, rows: Sequence[dict[str, Any]], *, ids: int) -> list[bytes]:
    """Matches of the next queries with `ids` products each, drawn anew every time."""
    rng = np.random.default_rng(0)
    everything = [str(row["id"]) for row in rows]
    return [
        _body(query=query, title_ids=[everything[i] for i in rng.choice(len(everything), ids, replace=False)])
        for query in islice(queries, count)
    ]


def sentiments(options: argparse.Namespace) -> list[bytes]:
    """SST-5's sentences, one a request."""
    return [_body(text=text) for text in sample(read_texts(data_file(options, SENTENCES)).texts, 10_000)]


def embeddings(rows: Sequence[dict[str, Any]], *, texts: int, model: str) -> list[bytes]:
    """The catalogue's titles, `texts` a request, as OpenAI's clients send them."""
    everything = [str(row["title"]) for row in sample(rows, len(rows))]
    batches = (everything[start : start + texts] for start in range(0, len(everything) - texts + 1, texts))
    return [_body(model=model, input=batch) for batch in batches]


def _body(**content: Any) -> bytes:
    return json.dumps(content).encode()
