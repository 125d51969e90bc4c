"""Commands that run recipes: `compare` all of them, `recipe` one of them, `recipes` to read about them."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.errors import InputError
from towers.labelled import read_texts
from towers.tables import read_rows
from towers.train.base import DEFAULT_BASE, DEFAULT_LICENCE
from towers.train.compare.data import MatchData, TextData, match_data, text_data
from towers.train.compare.report import write_reports
from towers.train.compare.results import Results
from towers.train.compare.run import FIRST_SEED, Options, compare, cross_alone, make_alone
from towers.train.compare.ship import ship
from towers.train.data import read_pair_set
from towers.train.recipe import TASKS, find_recipes, shipped_recipes
from towers.train.sentiment import join_texts
from towers.train.short_texts import read_short_texts
from towers.train.sources import file_stem
from towers.train.write import check_target

_REPORT = "report.json"
_WORK = "work"
_UNITS = {"s": 1, "m": 60, "h": 3600}
# Rows that are held out, for each second, at least and at most: every row of the table answers all of them, and must
# leave time for training.
_HELD_OUT_A_SECOND, _FEW_HELD_OUT, _HELD_OUT = 0.6, 500, 5000
# Training pairs that are used, for each second: several rows encode all of them, some 400 texts a second.
_PAIRS_A_SECOND = 6

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Tables of pairs (query, title, label) or of labelled texts (text, label: -1, 0, 1); csv, tsv, json "
        "lines, json, parquet. Each is taken for what its columns say."
    ),
]
Base = Annotated[
    str | None, typer.Option("--base", help=f"Checkpoint directory or hub name; default: {DEFAULT_BASE}.")
]
Unlabelled = Annotated[
    list[Path] | None,
    typer.Option(
        "--unlabelled", help="Files of texts without labels, to distil and pretrain on; txt, csv, json lines."
    ),
]


def compare_command(
    files: Files = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("comparison"),
    budget: Annotated[
        str, typer.Option(help="Time in all: 20m, 2h. Longer trains longer, and with more seeds.")
    ] = "2h",
    recipes: Annotated[
        str,
        typer.Option(help="Names or TOML files, with commas between; default: all. See `dualtower recipes`."),
    ] = "",
    unlabelled: Unlabelled = None,
    base: Base = None,
    bf16: Annotated[
        bool | None,
        typer.Option("--bf16/--float32", help="Train in bfloat16; default: what is measured to be faster."),
    ] = None,
    shipped: Annotated[
        list[str] | None,
        typer.Option("--ship", help="Write the bundle of this row, or of one row of each task, to --to."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Directory of the bundle that --ship makes.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the bundle in --to.")] = False,
) -> None:
    """Measure every BERT optimisation on your own data, and ship the winner. A run that was stopped goes on."""
    if shipped and to is None:
        raise InputError("found --ship without --to; give the directory of the bundle to make")
    if files:
        options = _options(
            files, budget=budget, recipes=recipes, unlabelled=unlabelled or [], base=base, bf16=bf16
        )
        results = compare(options, work=out / _WORK, say=_say)
        write_reports(results, out)
        _say(f"Report: {out / 'report.html'}")
    elif not shipped:
        raise InputError(
            "found no tables to compare on; give pairs or labelled texts, or --ship with the --out of a run"
        )
    if shipped and to is not None:
        results = Results.read(out / _REPORT)
        bundle = ship(shipped, results, work=out / _WORK, out=to, replace=replace)
        _say(f"Bundle: {bundle.path}")
    failed = [f"{row.task}:{row.name}" for row in results.rows if row.failed]
    print(json.dumps({"report": str(out / _REPORT), "rows": len(results.rows), "failed": failed}))


def recipe_command(
    name: Annotated[
        str, typer.Argument(help="Name of a shipped recipe, or a TOML file; see `dualtower recipes`.")
    ],
    files: Annotated[list[Path], typer.Argument(help="Tables of pairs or of labelled texts.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the bundle or checkpoint to make.")],
    steps: Annotated[float, typer.Option(min=0.001, help="Share of the recipe's own steps.")] = 1.0,
    unlabelled: Unlabelled = None,
    base: Base = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = FIRST_SEED,
    bf16: Annotated[
        bool | None,
        typer.Option("--bf16/--float32", help="Train in bfloat16; default: what is measured to be faster."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder to go on from; default: beside OUT, kept.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the bundle in OUT.")] = False,
) -> None:
    """Make a bundle by one recipe, and measure it on held-out data. Running it again goes on.

    A cross-encoder, which has no vectors to keep in a bundle, is saved as a checkpoint.
    """
    options = _options(files, budget="24h", recipes=name, unlabelled=unlabelled or [], base=base, bf16=bf16)
    wanted = [recipe for recipe in options.recipes if recipe.task in options.data]
    if len(wanted) != 1:
        found = ", ".join(f"{one.task}:{one.name}" for one in wanted) or "none for this data"
        raise InputError(f"found the recipes {found}, expected one; say match:{name} or sentiment:{name}")
    settings: dict[str, Any] = {
        "seed": seed,
        "factor": steps,
        "work": work or out.with_name(f".{out.name}.work"),
        "out": out,
        "replace": replace,
    }
    options = dataclasses.replace(options, recipes=wanted)
    if "cross" in wanted[0].stages:
        made = cross_alone(options, **settings)
        told = {"checkpoint": str(out)}
    else:
        check_target(out, replace=replace)
        made, bundle = make_alone(options, **settings)
        told = {"bundle": str(bundle.path), "bundle_id": bundle.bundle_id}
    print(json.dumps({**told, "steps": made.steps, **made.quality}))


def recipes_command(
    name: Annotated[str, typer.Argument(help="One recipe, in full.")] = "",
) -> None:
    """List the recipes, or tell all about one: where it comes from, what it costs, when not to use it."""
    console = Console()
    if name:
        for recipe in find_recipes([name]):
            console.print(f"[bold]{recipe.task}:{recipe.name}[/bold]  {recipe.title}")
            for label, text in (
                ("source", recipe.source),
                ("cost", recipe.cost),
                ("not to use", recipe.avoid),
            ):
                console.print(f"  {label}: {text}")
            console.print_json(json.dumps(recipe.to_dict()["stages"]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("recipe", "task", "what it does", "source"):
        table.add_column(title)
    for one in shipped_recipes():
        table.add_row(one.name, one.task, one.title, one.source)
    console.print(table)


def seconds_of(text: str) -> float:
    """Return a length of time such as 20m, 90s or 1.5h in seconds.

    Raises:
        InputError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise InputError(f"found the budget {text!r}, expected a time such as 20m, 90s or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def quiet_libraries() -> None:
    """Dozens of trainings would print a bar and a table each; what failed is told by the rows."""
    import datasets
    import transformers
    from transformers.trainer_callback import PrinterCallback

    PrinterCallback.on_log = _say_nothing  # type: ignore[method-assign]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()


def _say_nothing(*arguments: Any, **more: Any) -> None:
    """In place of what a Trainer without a bar prints."""


def _options(
    files: Sequence[Path],
    *,
    budget: str,
    recipes: str,
    unlabelled: Sequence[Path],
    base: str | None,
    bf16: bool | None,
) -> Options:
    quiet_libraries()
    budget_s = seconds_of(budget)
    wanted = find_recipes([name.strip() for name in recipes.split(",") if name.strip()])
    extra = tuple(read_short_texts(unlabelled)) if unlabelled else ()
    most = min(_HELD_OUT, max(_FEW_HELD_OUT, round(_HELD_OUT_A_SECOND * budget_s)))
    match, sentiment = _data(files, extra=extra, most=most, most_train=round(_PAIRS_A_SECOND * budget_s))
    return Options(
        match=match,
        sentiment=sentiment,
        recipes=wanted,
        budget_s=budget_s,
        base=base,
        base_licence=DEFAULT_LICENCE if base in (None, DEFAULT_BASE) else "not given",
        bf16=bf16,
        command=shlex.join(["dualtower", *sys.argv[1:]]),
    )


def _data(
    files: Sequence[Path], *, extra: Sequence[str], most: int, most_train: int
) -> tuple[MatchData | None, TextData | None]:
    kinds = {path: _kind(path) for path in files}
    pairs = [read_pair_set(path) for path in files if kinds[path] == TASKS[0]]
    texts = [path for path in files if kinds[path] == TASKS[1]]
    match = None
    if pairs:
        match = match_data(pairs, seed=FIRST_SEED, extra=extra, most=most, most_train=most_train)
    if not texts:
        return match, None
    name = " + ".join(file_stem(path) for path in texts)
    labelled = join_texts([read_texts(path) for path in texts])
    return match, text_data(labelled, name=name, seed=FIRST_SEED, extra=extra, most=most)


def _kind(path: Path) -> str:
    """Tell pairs from labelled texts by the columns."""
    _, row = next(iter(read_rows(path)), (0, {}))
    columns: dict[str, Any] = row
    for task, wanted in zip(TASKS, (("query", "title", "label"), ("text", "label")), strict=True):
        if set(wanted) <= set(columns):
            return task
    raise InputError(
        f"{path}: found the columns {', '.join(columns) or 'none'}, expected query, title and label (pairs), or "
        "text and label (labelled texts)"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
