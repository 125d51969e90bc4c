"""How long does one query's encoding take, as a service needs it: alone, tokenising included?

Every distinct query of CrowdFlower (what people typed into shops) is encoded by itself, in whole passes in
turn: sentence-transformers in fp32, with torch's own number of threads and with one, and
`Bundle.encode_queries`, which uses one core. The tokenizer alone is shown because it is part of both. Wanted:
at least 8 times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.common import (
    Floats,
    Report,
    crowdflower_queries,
    median,
    opened,
    option_parser,
    parse,
    percentile,
    rounds,
    run,
    seconds_each,
    times,
)
from benchmarks.original import Original

OURS, TOKENIZER = "dualtower", "the tokenizer alone"


def main() -> None:
    options = parse(option_parser(__doc__, repetitions=5))
    bundle = opened(options)
    original = Original(bundle)
    queries = crowdflower_queries(options)[: 20 if options.quick else None]
    threads = torch.get_num_threads()
    report = Report("query", __doc__, options, bundle, queries=len(queries), torch_threads=threads)

    def by_original(threads: int) -> Floats:
        torch.set_num_threads(threads)
        return seconds_each(lambda query: original.encode([query]), queries)

    contenders: dict[str, Callable[[], Floats]] = {
        f"sentence-transformers fp32, torch threads: {n}": partial(by_original, n)
        for n in dict.fromkeys((threads, 1))
    }
    contenders[OURS] = lambda: seconds_each(lambda query: bundle.encode_queries([query]), queries)
    contenders[TOKENIZER] = lambda: seconds_each(bundle.count_tokens, queries)
    spent = rounds(contenders, options.repetitions)
    report.table(f"{len(queries)} queries", COLUMNS, [row(name, spent) for name in spent])
    best = min(contenders.keys() - {OURS, TOKENIZER}, key=lambda name: median(spent[name]))
    report.finish(
        {
            "median_ms": {name: median(values) * 1000 for name, values in spent.items()},
            "p95_ms": {name: percentile(values, 95) * 1000 for name, values in spent.items()},
            "times_as_fast": median(spent[best]) / median(spent[OURS]),
        }
    )


COLUMNS = ("", "median ms", "p95 ms", "dualtower is faster by", "min–max")


def row(name: str, spent: dict[str, list[Floats]]) -> tuple[str, ...]:
    """One contender's milliseconds and, for an opponent, how many times as fast the bundle is."""
    cells = (name, f"{median(spent[name]) * 1000:.2f}", f"{percentile(spent[name], 95) * 1000:.2f}")
    if name in (OURS, TOKENIZER):
        return (*cells, "", "")
    factor, factors = times(*([median(values) for values in spent[key]] for key in (name, OURS)))
    return (*cells, f"{factor:.1f}", factors)


if __name__ == "__main__":
    run(main)
