"""How long does it take to score one query against 1,000 titles whose vectors are cached?

The opponent is a cross-encoder of the same size: BertForSequenceClassification from the same checkpoint, with
one label, which reads the 1,000 pairs in batches of 32, sorted by length, in fp32 on all cores. Its head is
untrained, which makes no difference to its speed and makes its scores worthless. `Bundle.score` gets the
query's vector and the titles' vectors; "with the query's encoding" adds what a query costs that was never
asked before. The cosine is one product in numpy, the least that any scoring can cost. Contenders take turns;
each of their turns is the median of 50 calls (of one for the cross-encoder). Wanted: at least 500 times as
fast as the cross-encoder.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.common import (
    Report,
    crowdflower_queries,
    icecat,
    median,
    opened,
    option_parser,
    parse,
    rounds,
    run,
    sample,
    seconds,
    seconds_each,
    times,
)
from benchmarks.original import CrossEncoder

CALLS = 50
CROSS = "cross-encoder fp32"


def main() -> None:
    options = parse(option_parser(__doc__, repetitions=5))
    bundle = opened(options)
    cross = CrossEncoder(bundle)
    titles = sample([row["title"] for row in icecat(options)], 48 if options.quick else 1000)
    query = crowdflower_queries(options)[0]
    query_vector, vectors = bundle.encode_queries([query])[0], bundle.encode_titles(titles)
    report = Report("scoring", __doc__, options, bundle, titles=len(titles), scorer=bundle.manifest.scorer)

    def usual(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: median(seconds_each(lambda _: work(), range(CALLS)))

    spent = rounds(
        {
            CROSS: lambda: seconds(lambda: cross.score(query, titles)),
            "dualtower scorer": usual(lambda: bundle.score(query_vector, vectors)),
            "dualtower scorer, with the query's encoding": usual(
                lambda: bundle.score(bundle.encode_queries([query])[0], vectors)
            ),
            "cosine in numpy": usual(lambda: vectors @ query_vector),
        },
        options.repetitions,
    )
    factors = {name: times(spent[CROSS], values) for name, values in spent.items()}
    report.table(
        f"One query, {len(titles):,} titles",
        ("", "median ms", "times as fast", "min–max"),
        [
            (name, f"{median(spent[name]) * 1000:,.2f}", f"{factor:,.0f}", between)
            for name, (factor, between) in factors.items()
        ],
    )
    report.finish(
        {
            "median_ms": {name: median(values) * 1000 for name, values in spent.items()},
            "times_as_fast": {name: factor for name, (factor, _) in factors.items()},
        }
    )


if __name__ == "__main__":
    run(main)
