"""From made and timed rows to the results that the report tells."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from towers.bundle import LAYOUT, open_bundle
from towers.train.compare.measure import BATCH, Timing
from towers.train.compare.results import (
    Curves,
    DataFacts,
    ExitCounts,
    LearningPoint,
    MaskedLoss,
    Measure,
    Row,
)
from towers.train.compare.setting import BUNDLE, Made, Setting
from towers.train.exporting.count import Counts, count_bundle
from towers.train.recipe import Recipe

TOKENS = 16  # of the text whose multiply-adds are counted: a long query, a short title
_PACKAGES = ("torch", "transformers", "sentence-transformers", "onnxruntime", "numpy")
_GRAPHS = {
    "match": (LAYOUT.query, LAYOUT.encoder, LAYOUT.title),
    "sentiment": (LAYOUT.sentiment,),
}


def row_of(
    recipe: Recipe,
    made: Sequence[Made],
    seeds: Sequence[int],
    *,
    seeded: bool,
    timing: Timing | None,
    counts: Sequence[Counts],
) -> Row:
    """Return the report's row.

    Args:
        recipe: What it was made from.
        made: One for each seed.
        seeds: The seeds.
        seeded: Whether they play a part; of rows that are alike for all of them one is told.
        timing: None where nothing was timed.
        counts: Of the graphs that answer, the one that a query goes through first; empty where there are none.
    """
    failed = next((one.failed for one in made if one.failed), None)
    facts: dict[str, Any] = {
        "name": recipe.name,
        "task": recipe.task,
        "technique": recipe.technique,
        "about": recipe.title,
        "against": recipe.against,
    }
    if failed is not None:
        return Row(**facts, seeds=list(seeds), failed=failed)
    used = list(seeds) if seeded else [seeds[0]]
    shown = made if seeded else made[:1]
    metric = made[0].metric
    others = {name for one in shown for name in one.quality} - {metric}
    quality = Measure(
        metric,
        [one.quality[metric] for one in shown],
        {
            name: [one.quality[name] for one in shown]
            for name in sorted(others)
            if all(name in one.quality for one in shown)
        },
    )
    return Row(
        **facts,
        seeds=used,
        steps=made[0].steps,
        seeded=seeded,
        trained_s=sum(one.seconds for one in shown),
        quality=quality,
        latency_ms=timing.one.scaled(1000) if timing else None,
        per_second=timing.batch.rate(BATCH) if timing else None,
        bytes=sum(one.bytes for one in counts) or None,
        parameters=sum(one.parameters for one in counts) or None,
        multiply_adds=counts[0].multiply_adds if counts else None,
        cost=made[0].curves.get("cost"),
        notes=list(dict.fromkeys(note for one in made for note in one.notes)),
        bundle=None if made[0].bundle is None else bundle_path(recipe, seeds[0]),
    )


def bundle_path(recipe: Recipe, seed: int) -> str:
    """Return where the bundle of a row lies in the working folder."""
    return f"rows/{recipe.task}/{recipe.name}/seed-{seed}/{BUNDLE}"


def counts_of(recipe: Recipe, setting: Setting) -> list[Counts]:
    """Count the graphs of a row's bundle that answer: of towers the query's first."""
    folder = setting.folder(recipe) / BUNDLE
    if not folder.is_dir():
        return []
    found = count_bundle(open_bundle(folder, verify=False), tokens=TOKENS)
    names = [name for name in _GRAPHS[recipe.task] if name in found]
    if recipe.task == "sentiment" and not names:
        names = sorted(name for name in found if name.startswith("sentiment"))
        return [_together([found[name] for name in names])]
    return [found[name] for name in names]


def curves_of(made: Mapping[tuple[str, str], Sequence[Made]], learning: Sequence[LearningPoint]) -> Curves:
    """Collect what rows found besides their quality."""
    exits, masked = [], []
    for (_, name), rows in made.items():
        figures = rows[0].curves if rows else {}
        if "exits" in figures:
            exits.append(ExitCounts(name, **figures["exits"]))
        if "masked_loss" in figures:
            masked.append(MaskedLoss(name, **figures["masked_loss"]))
    return Curves(list(learning), exits, masked)


def data_facts(facts: Mapping[str, Any]) -> DataFacts:
    """Return what the report says of a task's data; its dev side is what the table is measured on."""
    return DataFacts(facts["name"], facts["rows"], facts["train"], facts["test"], facts["sha256"])


def machine_facts() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    import os

    import torch

    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what trains and serves."""
    return {name: version(name) for name in _PACKAGES}


def _together(stages: Sequence[Counts]) -> Counts:
    """Stages of one model, as if all were run: the most that a text can cost."""
    return Counts(
        parameters=sum(one.parameters for one in stages),
        bytes=sum(one.bytes for one in stages),
        multiply_adds=sum(one.multiply_adds for one in stages),
    )


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.readlines()
    except OSError:
        return []
