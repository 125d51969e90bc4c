"""Made-up results for tests of the report: nothing here was measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from towers.train.compare.results import (
    MATCH,
    SENTIMENT,
    Curves,
    DataFacts,
    ExitCounts,
    LearningPoint,
    MaskedLoss,
    Measure,
    Results,
    Row,
    Spread,
)

SEEDS = [13, 14, 15]
METRIC = {MATCH: "spearman", SENTIMENT: "accuracy"}


def spread(middle: float, share: float = 0.1, rounds: int = 7) -> Spread:
    return Spread(middle, middle * (1 - share / 2), middle * (1 + share), rounds)


def measure(*values: float, metric: str = "spearman") -> Measure:
    return Measure(metric, list(values))


def row(name: str, **fields: Any) -> Row:
    """A sound row of `match`, held against "uncut"; any field may be given instead."""
    task = fields.get("task", MATCH)
    quality = fields.get("quality") or measure(0.80, 0.81, 0.82, metric=METRIC[task])
    facts: dict[str, Any] = {
        "task": task,
        "technique": 1,
        "about": f"About {name}.",
        "against": "uncut",
        "seeds": SEEDS[: len(quality.values)],
        "steps": 800,
        "seeded": True,
        "trained_s": 60.0,
        "quality": quality,
        "latency_ms": spread(2.0),
        "per_second": spread(400.0),
        "bytes": 23_000_000,
        "parameters": 22_700_000,
        "multiply_adds": 340_000_000,
        "bundle": f"bundles/{name}",
    }
    return Row(name=name, **(facts | fields))


def reference(**fields: Any) -> Row:
    return row("uncut", **({"technique": 0, "against": "", "steps": 0, "seeded": "steps" in fields} | fields))


def failed(name: str, why: str, **fields: Any) -> Row:
    empty = dict.fromkeys(
        ("latency_ms", "per_second", "bytes", "parameters", "multiply_adds", "bundle"), None
    )
    return Row(
        **(
            {"name": name, "task": MATCH, "technique": 8, "about": "", "against": "uncut", "failed": why}
            | empty
            | fields
        )
    )


def results(*rows: Row, **fields: Any) -> Results:
    facts: dict[str, Any] = {
        "machine": {"cpu": "a made-up processor", "cores": 2, "memory_gb": 24.0},
        "versions": {"torch": "2.13.0", "onnxruntime": "1.32.0"},
        "command": "dualtower compare --pairs pairs.tsv --budget 20m",
        "budget_s": 1200.0,
        "data": {MATCH: DataFacts("pairs", 5000, 4250, 750, "ab" * 32), SENTIMENT: None},
    }
    return Results(rows=list(rows), **(facts | fields))


# name, technique, layers, times as small, quality gained over the reference, parameters in millions
_PLAN = [
    ("cut 3 of 6, first", 1, 3, 1, -0.06, 17.4),
    ("cut 3 of 6, spread", 1, 3, 1, -0.02, 17.4),
    ("cut 3 of 6, spread, distilled", 1, 3, 1, -0.002, 17.4),
    ("cut 2 of 6, distilled", 1, 2, 1, -0.015, 15.6),
    ("cross-encoder", 2, 60, 1, 0.03, 22.7),
    ("scorer with teacher", 2, 6, 1, 0.012, 22.7),
    ("int8 dynamic", 3, 3.2, 4, -0.003, 22.7),
    ("int8 static", 3, 3, 4, -0.011, 22.7),
    ("early exit, entropy", 4, 3.3, 1, -0.004, 22.9),
    ("early exit, patience", 4, 3.8, 1, -0.006, 22.9),
    ("ALBERT", 5, 6, 6, -0.05, 5.6),
    ("head: attention", 6, 6.05, 1, 0.001, 22.8),
    ("head: RCNN", 6, 6.9, 1, -0.003, 23.5),
    ("pretrained, uniform", 7, 6, 1, 0.004, 22.7),
    ("pretrained, rare words", 7, 6, 1, 0.006, 22.7),
    ("FGM", 8, 6, 1, 0.003, 22.7),
    ("FreeLB", 8, 6, 1, 0.005, 22.7),
    ("cleaned 数据清洗", 9, 6, 1, 0.002, 22.7),
    ("augmented", 9, 6, 1, 0.0005, 22.7),
    ("narrow 256 x 4", 10, 1.9, 1, -0.012, 11.2),
    ("BiLSTM", 10, 5.1, 1, -0.045, 13.5),
    ("int8 + cut + distilled", 1, 1.6, 4, -0.008, 17.4),
]


def _realistic_rows(task: str) -> list[Row]:
    """A reference and every technique, with noise that is the same in every run."""
    draw = np.random.default_rng(len(task))
    metric, base = (METRIC[task], 0.868) if task == MATCH else (METRIC[task], 0.512)
    rows = [_realistic_row(task, metric, draw, ("uncut", 0, 6, 1, 0.0, 22.7), base)]
    rows += [_realistic_row(task, metric, draw, plan, base) for plan in _PLAN]
    return [*rows, failed("PGD", "out of memory after 40 steps: found 1.2 GB free, wanted 3.1 GB", task=task)]


def _realistic_row(task: str, metric: str, draw: np.random.Generator, plan: Any, base: float) -> Row:
    name, technique, layers, smaller, gain, millions = plan
    values = [round(base + gain + float(draw.normal(0, 0.002)), 4) for _ in SEEDS]
    latency = (0.2 + 0.65 * layers) * math.exp(float(draw.normal(0, 0.02)))
    others = {"ndcg@10": values} if task == MATCH else {"macro_f1": [value - 0.04 for value in values]}
    return row(
        name,
        task=task,
        technique=technique,
        against="" if technique == 0 else "uncut",
        about=f"A made-up row that stands for {name}.",
        seeds=SEEDS,
        steps=0 if technique in (0, 3) else 300 if technique == 8 else 1200,
        trained_s=0.0 if technique in (0, 3) else 95.5,
        quality=Measure(metric, values, others),
        latency_ms=spread(round(latency, 3)),
        per_second=spread(round(1500 / latency, 1)),
        bytes=int(millions * 4_000_000 / smaller),
        parameters=int(millions * 1_000_000),
        multiply_adds=int(layers * 57_000_000),
        cost={"s per 1,000 titles, cached": 0.004, "s per 1,000 titles, not cached": latency / 2}
        if technique == 2
        else None,
        notes=["no bundle holds a cross-encoder"] if name == "cross-encoder" else [],
        bundle=None if name == "cross-encoder" else f"bundles/{task}-{technique}",
    )


def _realistic_curves() -> Curves:
    shares = (0.1, 0.25, 0.5, 1.0)
    learning = [
        LearningPoint(
            task, share, int(4250 * share), [top - 0.05 / (1 + 8 * share) + noise for noise in jitter]
        )
        for task, top in ((MATCH, 0.875), (SENTIMENT, 0.52))
        for share, jitter in zip(shares, [(-0.006, 0.0, 0.004), (0.002, 0.0, -0.001)] * 2, strict=True)
    ]
    exits = [
        ExitCounts("early exit, entropy", [1, 2, 3, 4, 5, 6], [50, 340, 410, 160, 90, 51]),
        ExitCounts("early exit, patience", [1, 2, 3, 4, 5, 6], [0, 210, 380, 260, 150, 101]),
    ]
    steps = list(range(0, 500, 50))
    masked = [
        MaskedLoss(
            name,
            steps,
            {
                "all": [2.4 * math.exp(-step / 900) + 0.4 for step in steps],
                "rare words": [start * math.exp(-step / 700) + 0.9 for step in steps],
                "实体": [None, *[4.0 * math.exp(-step / 800) + 0.7 for step in steps[1:]]],
            },
        )
        for name, start in (("pretrained, uniform", 4.4), ("pretrained, rare words", 3.6))
    ]
    return Curves(learning, exits, masked)


REALISTIC = results(
    *_realistic_rows(MATCH),
    *_realistic_rows(SENTIMENT),
    data={
        MATCH: DataFacts("qqp_dev", 9999, 8499, 1500, "3f" * 32),
        SENTIMENT: DataFacts("sst5", 11855, 8544, 1101, "a0" * 32),
    },
    curves=_realistic_curves(),
)
