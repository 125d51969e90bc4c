"""`dualtower export`: a bundle from checkpoints as they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from towers.errors import InputError
from towers.train.base import DEFAULT_BASE, load_tower
from towers.train.cli import OutArgument, Replace, base_licence, summary, write_out
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.precision import EMBEDDING, MATMUL, Precision
from towers.train.short_texts import read_short_texts
from towers.train.write import check_target

Matmul = Annotated[str, typer.Option(help=f"Precision of matrices: {', '.join(MATMUL)}.")]
Embedding = Annotated[str, typer.Option(help=f"Precision of embeddings: {', '.join(EMBEDDING)}.")]


def export_command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help=f"Checkpoint directory or hub name, of sentence-transformers or a BERT; or {DEFAULT_BASE}."
        ),
    ],
    out: OutArgument,
    query: Annotated[
        str | None,
        typer.Option("--query", help="Another checkpoint for queries, in the same space as titles."),
    ] = None,
    matmul: Matmul = "int8",
    embedding: Embedding = "int4",
    title_matmul: Annotated[
        str | None, typer.Option(help="Precision of titles' matrices, where queries have another one.")
    ] = None,
    title_embedding: Annotated[
        str | None, typer.Option(help="Precision of titles' embeddings, where queries have another one.")
    ] = None,
    keep_float32: Annotated[
        str, typer.Option(help="Layers whose matrices stay float32, as 0,5; counted from 0.")
    ] = "",
    spare: Annotated[
        int, typer.Option(min=0, help="Keep that many layers in float32, those that lose most.")
    ] = 0,
    most_lost: Annotated[
        float,
        typer.Option(
            help="Keep as few layers in float32 as leave this loss, 1 - mean cosine; 0: do not choose."
        ),
    ] = 0.0,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Texts (txt, csv, tsv, json lines, json, parquet; columns query, title or text) to fix scales, "
            "choose layers and measure on; may be given several times."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longest query or title in tokens; default: the checkpoint's.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the checkpoint; default: known for the default base only.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Make a bundle from a checkpoint as it is: its scorer is the cosine, until `dualtower fit` trains one."""
    check_target(out, replace=replace)
    queries = Precision(matmul, embedding, _layers(keep_float32), spare, most_lost)
    titles = dataclasses.replace(
        queries, matmul=title_matmul or matmul, embedding=title_embedding or embedding
    )
    stated = licence or base_licence(checkpoint)
    parts = tower_parts(
        load_tower(checkpoint, max_tokens=max_tokens),
        base=checkpoint,
        base_licence=stated,
        licence=stated,
        precision=_bare(titles),
        texts=read_short_texts(calibrate) if calibrate else (),
        query=load_tower(query, max_tokens=max_tokens) if query else None,
        query_precision=_bare(queries),
    )
    bundle = write_out(out, parts, replace=replace)
    metrics = bundle.manifest.metrics
    _print_losses(metrics)
    lost = {"metrics": metrics["export"], "query_tower": metrics.get("query_tower")}
    print(json.dumps({**summary(bundle), **lost}))


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise InputError(f"found --keep-float32 {text!r}, expected numbers of layers, as 0,5") from exc


def _bare(precision: Precision) -> Precision:
    """Without layers to keep in float32 where all are."""
    if precision.matmul != "float32":
        return precision
    return Precision(matmul="float32", embedding=precision.embedding)


def _print_losses(metrics: Any) -> None:
    console = Console()
    lost = metrics["export"]["quantized"]
    console.print(f"Mean cosine to torch {lost['mean_cosine']:.4f}, least {lost['least_cosine']:.4f}.")
    if "layers" in metrics["export"]:
        console.print(f"Layers kept in float32: {metrics['export']['layers']['keep_float32']}.")
    if "query_tower" in metrics:
        own, other = metrics["query_tower"]["export"]["quantized"], metrics["query_tower"]["to_replaced"]
        console.print(
            f"Queries: mean cosine to their torch {own['mean_cosine']:.4f}, to the title tower's vectors "
            f"{other['mean_cosine']:.4f}."
        )
