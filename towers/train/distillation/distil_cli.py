"""`dualtower distil`: a smaller tower that learns to answer as a checkpoint does, as a bundle or as a query tower."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from towers.bundle import open_bundle
from towers.errors import InputError
from towers.tables import read_rows
from towers.train.base import DEFAULT_BASE, load_tower
from towers.train.bodies import layer_stack
from towers.train.cli import (
    Bf16,
    Out,
    Replace,
    Resume,
    Work,
    base_licence,
    summary,
    working_folder,
    write_out,
)
from towers.train.data import text_key
from towers.train.distillation.distil import DistilRecipe, distil_tower
from towers.train.distillation.query_tower import with_query_tower
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.export import parity
from towers.train.exporting.export_cli import Embedding, Matmul
from towers.train.exporting.precision import Precision
from towers.train.short_texts import LONGEST, read_short_texts
from towers.train.structures.cut import CutRecipe, cut
from towers.train.structures.narrow import NarrowRecipe, narrow
from towers.train.write import Parts, check_target, read_parts

_DEFAULTS = DistilRecipe()
_MEASURED = 400  # texts on which the manifest says what was lost


def distil_command(
    texts: Annotated[
        list[Path],
        typer.Argument(
            help="Texts to learn from, without labels: tables with query, title or text, or txt with one a line."
        ),
    ],
    out: Out,
    base: Annotated[
        str | None,
        typer.Option("--base", help=f"Checkpoint that teaches and is made smaller; default: {DEFAULT_BASE}."),
    ] = None,
    queries_of: Annotated[
        Path | None,
        typer.Option(
            "--queries-of",
            help="Bundle made from the same checkpoint: it gets the student for its queries, and its titles keep "
            "their vectors, so that its releases stay.",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Layers that stay, as 0,2,5; counted from 0. Default: half, spread.")
    ] = "",
    keep: Annotated[int, typer.Option(min=0, help="How many layers stay; 0: half of them.")] = 0,
    width: Annotated[
        int, typer.Option(min=0, help="Make the student this narrow as well; 0: as wide as the teacher.")
    ] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = _DEFAULTS.steps,
    batch_size: Annotated[int, typer.Option(min=2, help="Texts per step.")] = _DEFAULTS.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _DEFAULTS.learning_rate,
    save_steps: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints.")
    ] = _DEFAULTS.save_steps,
    structure: Annotated[
        float, typer.Option(help="Weight of the cosines between all texts of a step.")
    ] = _DEFAULTS.structure,
    scores: Annotated[
        float, typer.Option(help="Weight of the cosines of pairs, the rows that have both query and title.")
    ] = _DEFAULTS.scores,
    hidden: Annotated[
        float,
        typer.Option(help="Weight of the mean hidden states of matched layers; not with --width."),
    ] = _DEFAULTS.hidden,
    seed: Annotated[int, typer.Option(help="Of the choice and order of texts.")] = _DEFAULTS.seed,
    bf16: Bf16 = False,
    matmul: Matmul = "int8",
    embedding: Embedding = "int4",
    licence: Annotated[
        str | None, typer.Option(help="Licence of the bundle; default: that of the default base.")
    ] = None,
    resume: Resume = False,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Make a smaller tower that gives a checkpoint's vectors: fewer layers, narrower, or for queries alone."""
    check_target(out, replace=replace)
    where = "query" if queries_of is not None else "both"
    cuts = CutRecipe(layers=_numbers(layers), keep=keep, where=where)
    recipe = DistilRecipe(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        save_steps=save_steps,
        seed=seed,
        bf16=bf16,
        structure=structure,
        scores=scores,
        hidden=hidden,
        against="teacher" if queries_of is not None else "student",
        freeze_embeddings=not width,
    )
    precision = Precision(matmul, embedding)
    before, before_title = _prefixes(queries_of)
    learned, held = _split(read_short_texts(texts), seed)
    pairs = [(before + query, before_title + title) for query, title in _pairs(texts, held)] if scores else []
    learned, held = [before + text for text in learned], [before + text for text in held]
    teacher = load_tower(base, max_tokens=None if queries_of is None else open_bundle(queries_of).max_tokens)
    student, made = _student(teacher, cuts, width, learned)
    settings = {**made, "distil": asdict(recipe)}
    with working_folder(work, out) as folder:
        distil_tower(
            student, teacher, learned, recipe=recipe, work=folder / "distil", resume=resume, pairs=pairs
        )
        if queries_of is None:
            parts = _own_bundle(
                student, teacher, settings, base=base, licence=licence, precision=precision, held=held
            )
        else:
            parts = with_query_tower(
                read_parts(queries_of), student, texts=held, precision=precision, settings=settings
            )
        bundle = write_out(out, parts, replace=replace)
    metrics = bundle.manifest.metrics
    found = metrics["distil"] if queries_of is None else metrics["query_tower"]["to_replaced"]
    Console().print(
        f"Mean cosine to the teacher's vectors {found['mean_cosine']:.4f}, on {len(held)} other texts."
    )
    print(json.dumps({**summary(bundle), "titles_id": bundle.titles_id, "to_teacher": found}))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise InputError(f"found --layers {text!r}, expected numbers of layers, as 0,2,5") from exc


def _prefixes(queries_of: Path | None) -> tuple[str, str]:
    """What comes before texts, and before titles of pairs: a bundle's prefixes, as when it serves."""
    if queries_of is None:
        return "", ""
    manifest = open_bundle(queries_of).manifest
    return manifest.query_prefix, manifest.title_prefix


def _pairs(files: Sequence[Path], without: Sequence[str]) -> list[tuple[str, str]]:
    """The rows with query and title, each pair once, without those that have a text to leave out or a long one.

    Raises:
        InputError: There are none.
    """
    left_out = {text_key(text) for text in without} | {""}
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for _, row in (entry for path in files for entry in read_rows(path)):
        query, title = row.get("query"), row.get("title")
        if not (isinstance(query, str) and isinstance(title, str)) or max(len(query), len(title)) > LONGEST:
            continue
        keys = text_key(query), text_key(title)
        if left_out.isdisjoint(keys):
            found.setdefault(keys, (query, title))
    if not found:
        raise InputError(
            f"found no row with query and title, beside held-out texts, in {', '.join(map(str, files))}; expected "
            "pairs for --scores. Give a table that has both columns, or leave --scores at 0."
        )
    return list(found.values())


def _split(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Texts to learn from, and some to say on what was lost: a tenth, at most 400."""
    held = min(_MEASURED, len(texts) // 10)
    if not held:
        raise InputError(f"found {len(texts)} different texts, expected 10 at least, better 10,000")
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[i] for i in order[held:]], [texts[i] for i in order[:held]]


def _student(teacher: Any, cuts: CutRecipe, width: int, texts: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """The student before it learns, and what it was made by."""
    chosen = cuts.chosen(len(layer_stack(teacher)))
    student = copy.deepcopy(teacher)
    cut(student, chosen)
    made: dict[str, Any] = {"cut": {"layers": list(chosen), "where": cuts.where}}
    if not width:
        return student, made
    recipe = NarrowRecipe(width=width, layers=len(chosen))
    return narrow(student, recipe, texts=texts), {**made, "narrow": asdict(recipe)}


def _own_bundle(
    student: Any,
    teacher: Any,
    settings: dict[str, Any],
    *,
    base: str | None,
    licence: str | None,
    precision: Precision,
    held: list[str],
) -> Parts:
    """A bundle of its own, whose scorer is the cosine until `dualtower fit` trains one."""
    stated = licence or base_licence(base)
    licences: dict[str, Any] = {"base_licence": base_licence(base), "licence": stated}
    parts = tower_parts(student, base=base, precision=precision, texts=held, **licences)
    vectors = [np.asarray(tower.encode(held, show_progress_bar=False)) for tower in (teacher, student)]
    parts.facts["recipe"] |= settings
    parts.facts["metrics"]["distil"] = {"texts": len(held), **parity(*vectors)}
    return parts
