"""`dualtower classify`: ask a bundle's classifier without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from towers.bundle import open_bundle
from towers.errors import InputError

_SHOWN = 5  # classes that get a column; of more, the best one is shown


def classify_command(
    texts: Annotated[
        list[str], typer.Argument(help="Texts to classify; for a classifier of pairs, two and two.")
    ],
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle directory; default: the one that is shipped.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which class of the bundle's classifier TEXTS belong to, or which number it gives them."""
    opened = open_bundle(bundle)
    facts = opened.classifier_facts
    firsts, seconds = _two_and_two(texts) if facts.pair else (texts, None)
    found = [
        answer(facts.labels, row.tolist(), first, seconds[i] if seconds else None)
        for i, (first, row) in enumerate(zip(firsts, opened.classify(firsts, seconds), strict=True))
    ]
    if as_json:
        print(json.dumps({"task": facts.task, "answers": found}, ensure_ascii=False))
    else:
        _show(facts.labels, found)


def answer(labels: tuple[str, ...], outputs: list[float], text: str, pair: str | None) -> dict[str, Any]:
    """One text's answer: its label with the probabilities of all, or its value."""
    asked = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    if not labels:
        return {**asked, "value": round(outputs[0], 4)}
    probabilities = dict(zip(labels, (round(x, 4) for x in outputs), strict=True))
    return {**asked, "label": labels[outputs.index(max(outputs))], "probabilities": probabilities}


def _two_and_two(texts: list[str]) -> tuple[list[str], list[str]]:
    if len(texts) % 2:
        raise InputError(f"found {len(texts)} texts for a classifier of pairs, expected an even number")
    return texts[::2], texts[1::2]


def _show(labels: tuple[str, ...], found: list[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    columns = labels if len(labels) <= _SHOWN else ("probability",)
    asked = [name for name in ("text", "text_pair") if name in found[0]]
    for name in (*asked, *(("label", *columns) if labels else ("value",))):
        table.add_column(name, justify="left" if name in (*asked, "label") else "right")
    for row in found:
        table.add_row(*(Text(row[name]) for name in asked), *_numbers(row, columns))
    Console().print(table)


def _numbers(row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    if "value" in row:
        return [f"{row['value']:.3f}"]
    shown = row["probabilities"]
    values = [max(shown.values())] if columns == ("probability",) else [shown[name] for name in columns]
    return [row["label"], *(f"{value:.3f}" for value in values)]
