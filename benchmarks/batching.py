"""Does it pay to encode queries together that arrive together, instead of each on a core of its own?

Queries of CrowdFlower (a few words) and questions of QQP (a sentence) are encoded by the query tower as the service
does it, one by one on as many threads as there are cores, and in batches of 2 to 32 on the same threads, tokenising
included. "As they come" is what a service could do: neighbours in a shuffled list, padded to the longest. "Of like
length" sorts the whole list first, which no service can, and shows what padding costs. Contenders take turns. A query
also waits for its batch: on a core, a batch takes longer than its own encoding would, by "waits ms", and that leaves
out the time until the other queries are there. In an int8 graph the activations of a batch share one scale, so a query
gets another vector than the one it has alone, which is in the cache: "cosine" is how far from it. Wanted, for batching
to be built: at least 1.5 times the queries per second as they come, on both kinds of queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common import (
    Report,
    crowdflower_queries,
    data_file,
    median,
    opened,
    option_parser,
    parse,
    rounds,
    run,
    sample,
    seconds,
    seconds_each,
    spread,
    times,
)
from towers import Bundle
from towers.bundle import LAYOUT
from towers.encoder import available_cores, run_on_all_cores
from towers.graph import Graph
from towers.tables import read_rows
from towers.tokens import TokenReader, pad

QQP = "match/en/qqp_dev.jsonl.gz"
QUESTIONS = 1024
SIZES = (2, 4, 8, 16, 32)
PASSES = 5  # of the list in one turn: a pass over 153 queries takes 50 ms
ALONE = "one by one"


def main() -> None:
    options = parse(option_parser(__doc__, repetitions=7))
    bundle = opened(options)
    cores = available_cores()
    report = Report("batching", __doc__, options, bundle, threads=cores, wanted=1.5)
    tower = Tower(bundle, threads=cores)
    kinds = {"crowdflower": crowdflower_queries(options), "qqp_dev": questions(options)}
    report.finish(
        {
            kind: measure(report, tower, kind, sample(texts, 40 if options.quick else len(texts)), options)
            for kind, texts in kinds.items()
        }
    )


def questions(options: argparse.Namespace) -> list[str]:
    """Distinct questions that people asked."""
    rows = read_rows(data_file(options, QQP))
    return sample(list(dict.fromkeys(str(row["query"]) for _, row in rows)), QUESTIONS)


class Tower:
    """The query tower of a bundle, in batches of any size."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        manifest = bundle.manifest
        shared = LAYOUT.encoder in manifest.files
        self._graph = Graph(bundle.path / (LAYOUT.encoder if shared else LAYOUT.query))
        self._tokens = TokenReader(bundle.path / LAYOUT.tokenizer, max_tokens=manifest.max_tokens)
        self._prefix, self._dim, self._threads = manifest.query_prefix, manifest.dim, threads

    def encode(self, texts: list[str]) -> np.ndarray:
        """One batch: float32 (n, dim)."""
        return self._graph.run(*pad(self._tokens.ids([self._prefix + text for text in texts])))

    def encode_in(self, batches: list[list[int]], texts: list[str]) -> np.ndarray:
        """All batches of row numbers, on all threads: float32 (n, dim)."""
        vectors = np.empty((len(texts), self._dim), np.float32)

        def one(batch: list[int]) -> None:
            vectors[batch] = self.encode([texts[row] for row in batch])

        run_on_all_cores(one, batches, threads=self._threads)
        return vectors

    def by_length(self, texts: list[str]) -> list[int]:
        """Row numbers, shortest text first."""
        lengths = [len(row) for row in self._tokens.ids(texts)]
        return sorted(range(len(texts)), key=lengths.__getitem__)


def measure(
    report: Report, tower: Tower, kind: str, texts: list[str], options: argparse.Namespace
) -> dict[str, object]:
    """Compare on one kind of queries; the numbers of each way to encode them."""
    ways = {ALONE: batched(range(len(texts)), 1)}
    for name, order in (("as they come", range(len(texts))), ("of like length", tower.by_length(texts))):
        ways |= {f"batches of {size}, {name}": batched(order, size) for size in SIZES}
    passes = 1 if options.quick else PASSES

    def turn(batches: list[list[int]]) -> float:
        return seconds(lambda: [tower.encode_in(batches, texts) for _ in range(passes)])

    contenders: dict[str, Callable[[], float]] = {name: partial(turn, way) for name, way in ways.items()}
    spent = rounds(contenders, options.repetitions)
    own = tower.encode_in(ways[ALONE], texts)
    found = {
        name: facts(tower, texts, batches, own, rates=len(texts) * passes / np.array(spent[name]))
        for name, batches in ways.items()
    }
    alone_ms = found[ALONE]["batch_ms"]
    report.table(
        f"{kind}, {len(texts):,} queries",
        ("", "queries/s", "min–max", "times as fast", "min–max", "waits ms", "cosine, mean", "lowest"),
        [
            (
                name,
                f"{one['queries_per_second']:,.0f}",
                spread(len(texts) * passes / np.array(spent[name])),
                *ratio(spent, name),
                f"{one['batch_ms'] - alone_ms:.1f}",
                f"{one['cosine_mean']:.4f}",
                f"{one['cosine_lowest']:.4f}",
            )
            for name, one in found.items()
        ],
    )
    return {name: one | {"times_as_fast": times(spent[ALONE], spent[name])[0]} for name, one in found.items()}


def batched(order: range | list[int], size: int) -> list[list[int]]:
    """Row numbers in batches of neighbours."""
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def facts(
    tower: Tower, texts: list[str], batches: list[list[int]], own: np.ndarray, *, rates: np.ndarray
) -> dict[str, float]:
    """Queries per second, milliseconds of a batch on one core, and cosines with the queries' own vectors."""
    cosines = (tower.encode_in(batches, texts) * own).sum(axis=1)
    each = seconds_each(lambda batch: tower.encode([texts[row] for row in batch]), batches)
    return {
        "queries_per_second": median(rates),
        "batch_ms": median(each) * 1000,
        "cosine_mean": float(cosines.mean()),
        "cosine_lowest": float(cosines.min()),
    }


def ratio(spent: dict[str, list[float]], name: str) -> tuple[str, str]:
    """How many times as fast as one by one, and the spread of the rounds."""
    factor, factors = times(spent[ALONE], spent[name])
    return f"{factor:.2f}", factors


if __name__ == "__main__":
    run(main)
