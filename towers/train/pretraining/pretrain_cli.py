"""The command `dualtower pretrain`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.errors import InputError
from towers.tables import read_rows, require_columns
from towers.train.base import DEFAULT_BASE
from towers.train.cli import Resume, Work
from towers.train.pretraining.marking import CLASSES
from towers.train.pretraining.masking import MaskRecipe, parse_masks
from towers.train.pretraining.pretrain import FACTS, PretrainRecipe, PretrainResult, pretrain
from towers.train.whole import check_replaceable, whole_directory

_DEFAULTS = PretrainRecipe()


def pretrain_command(
    files: Annotated[
        list[Path], typer.Argument(help="Texts: txt with one a line, or csv, tsv, json lines, json, parquet.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the checkpoint to make.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help=f"Checkpoint directory or hub name to start from; default: {DEFAULT_BASE}."
        ),
    ] = None,
    masks: Annotated[
        str, typer.Option(help="Weights of uniform, whole, rare and entity masks; each text draws one.")
    ] = "uniform=1,whole=0,rare=0,entity=0",
    entities: Annotated[
        Path | None,
        typer.Option(help="Your own entities: txt with one a line, or a table with the column entity."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column of the texts, in tables; may be given several times; default: text."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = _DEFAULTS.steps,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per step.")] = _DEFAULTS.batch_size,
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate of the body.")
    ] = _DEFAULTS.learning_rate,
    max_tokens: Annotated[
        int, typer.Option(min=8, help="Longer texts are cut into stretches of so many tokens.")
    ] = _DEFAULTS.max_tokens,
    dev_share: Annotated[
        float, typer.Option(help="Share of the texts held out, at most 1,000.")
    ] = _DEFAULTS.dev_share,
    save_steps: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints.")
    ] = _DEFAULTS.save_steps,
    seed: Annotated[
        int, typer.Option(help="Of the texts' order, the masks and a new head.")
    ] = _DEFAULTS.seed,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Multiply in bfloat16: faster with AVX512-BF16, slower without.")
    ] = False,
    resume: Resume = False,
    work: Work = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the checkpoint in OUT.")] = False,
) -> None:
    """Train a checkpoint further on your own texts by masked words; fine-tune or distil it afterwards."""
    made_here = "checkpoint made by `dualtower pretrain`"
    check_replaceable(out, what=made_here, marker=FACTS, replace=replace)
    listed = tuple(_values(entities, ["entity"])) if entities else ()
    recipe = PretrainRecipe(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        dev_share=dev_share,
        save_steps=save_steps,
        seed=seed,
        bf16=bf16,
        masks=parse_masks(masks, MaskRecipe(entities=listed)),
    )
    texts = [text for path in files for text in _values(path, column or ["text"])]
    folder = work or out.with_name(f".{out.name}.work")
    made = pretrain(base, texts, recipe=recipe, work=folder, resume=resume)
    with whole_directory(out) as copy:
        shutil.copytree(made.directory, copy, dirs_exist_ok=True)
    if work is None:
        shutil.rmtree(folder)
    result = PretrainResult.load(out)
    print_losses(result)
    print(json.dumps(_summary(result)))


def print_losses(result: PretrainResult) -> None:
    """Print the loss of each class of masked tokens: at the start, when a new head had learned, and at the end."""
    columns = {"start": result.at(0)}
    if result.head_steps:
        columns[f"head alone, step {result.head_steps}"] = result.at(result.head_steps)
    columns["end"] = result.at(-1)
    table = Table("masked token", "count", *columns, box=box.SIMPLE)
    counts = {"all": sum(result.masked.values())} | result.masked
    for name in ("all", *CLASSES):
        if name in counts:
            table.add_row(name, f"{counts[name]:,}", *(f"{losses[name]:.3f}" for losses in columns.values()))
    console = Console()
    console.print(table)
    console.print(
        f"Mean loss in nats on {result.texts['held_out']:,} held-out texts, whose masks never change."
    )
    if result.texts["trained_on"] < 1000:
        console.print(
            f"Only {result.texts['trained_on']} different texts were trained on: expect little of it."
        )


def _values(path: Path, columns: list[str]) -> Iterable[str]:
    """The texts of a file: the lines of a .txt, or what is in the columns of a table; empty ones are left out."""
    plain = path.name.lower().removesuffix(".gz").endswith(".txt")
    wanted = ["title"] if plain else columns  # read_rows names the lines of a .txt so
    for number, row in read_rows(path):
        require_columns(path, row, wanted)
        for name in wanted:
            value = row[name]
            if not isinstance(value, str | None):
                raise InputError(
                    f"{path}, row {number}: found {type(value).__name__} in the column {name}, expected text."
                )
            if value and value.strip():
                yield value


def _summary(result: PretrainResult) -> dict[str, Any]:
    return {
        "checkpoint": str(result.directory),
        "texts": result.texts,
        "masked": result.masked,
        "start": result.at(0),
        "head_steps": result.head_steps,
        "head_alone": result.at(result.head_steps),
        "end": result.at(-1),
        "curve": result.curve,
    }
