"""Turning rows of a comparison into a bundle: what is shipped is what was measured, file for file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from towers.bundle import LAYOUT, Bundle, check_files, open_bundle
from towers.errors import InputError
from towers.train.card import model_card
from towers.train.compare.results import Results, Row
from towers.train.whole import whole_directory
from towers.train.write import Parts, check_target, read_parts, write_bundle


def ship(names: Sequence[str], results: Results, *, work: Path, out: Path, replace: bool = False) -> Bundle:
    """Write the bundle of a row; of a match row and a sentiment row together, one bundle with both.

    Args:
        names: Of one row, or of one row of each task; "match:int8" where both tasks have a row of that name.
        results: Of the comparison.
        work: Its working folder.
        out: The bundle's directory.
        replace: Replace the bundle in `out`.

    Raises:
        InputError: No such row, one that cannot be shipped, two of one task, or rows of different base checkpoints.
    """
    check_target(out, replace=replace)
    rows = [_row(name, results) for name in names]
    if not rows or len({row.task for row in rows}) != len(rows):
        found = ", ".join(f"{row.task}:{row.name}" for row in rows) or "none"
        raise InputError(f"found the rows {found} to ship, expected one, or one of each task")
    bundles = {row.task: _bundle(row, work) for row in rows}
    if len(bundles) == 1:
        return copied(next(iter(bundles.values())), out, replace=replace)
    parts = _joined(read_parts(bundles["match"]), read_parts(bundles["sentiment"]))
    parts.extra_files[LAYOUT.card] = model_card(parts.facts)
    return write_bundle(out, parts, replace=replace)


def _row(name: str, results: Results) -> Row:
    task, _, short = name.rpartition(":")
    found = [row for row in results.rows if row.name == short and task in ("", row.task)]
    if not found:
        known = ", ".join(f"{row.task}:{row.name}" for row in results.rows if row.bundle)
        raise InputError(f"found no row {name!r} in this comparison, expected one of {known}")
    if len(found) > 1:
        raise InputError(f"both tasks have a row {name!r}; say match:{name} or sentiment:{name}, or both")
    return found[0]


def _bundle(row: Row, work: Path) -> Path:
    if row.bundle is None:
        reason = row.failed or " ".join(row.notes) or "it has no bundle"
        raise InputError(f"row {row.name!r} cannot be shipped: {reason}. Choose another row.")
    return work / row.bundle


def copied(source: Path, out: Path, *, replace: bool) -> Bundle:
    """Copy a bundle to `out`, whole or not at all.

    Raises:
        InputError: `out` may not be replaced.
    """
    check_target(out, replace=replace)
    bundle = open_bundle(source)
    with whole_directory(out) as copy:
        shutil.copytree(source, copy, dirs_exist_ok=True)
        check_files(copy, bundle.manifest)
    return open_bundle(out)


def _joined(match: Parts, sentiment: Parts) -> Parts:
    """The towers of one bundle with the head of another."""
    if match.tokenizer != sentiment.tokenizer:
        raise InputError(
            "the two rows have different tokenizers: they were not made from one base. Ship them apart."
        )
    head = {name: graph for name, graph in sentiment.graphs.items() if name.startswith("sentiment")}
    facts = {**match.facts, **{key: sentiment.facts[key] for key in ("labels", "sentiment_max_tokens")}}
    for table in ("recipe", "metrics"):
        own = sentiment.facts[table]
        facts[table] = {
            **match.facts[table],
            **{key: own[key] for key in own if key.startswith(("sentiment", "exits"))},
        }
        if "compare" in own:
            facts[table]["compare_sentiment"] = own["compare"]
    facts["training_data"] = [*match.facts["training_data"], *sentiment.facts["training_data"]]
    files = {name: text for name, text in sentiment.extra_files.items() if name.startswith("sentiment")}
    return Parts(graphs=match.graphs | head, tokenizer=match.tokenizer, facts=facts, extra_files=files)
