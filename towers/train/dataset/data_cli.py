"""`dualtower data clean | augment | mine`: better training data, from a table to a table."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.bundle import open_bundle
from towers.errors import InputError
from towers.train.dataset.augment import AugmentRecipe, changes
from towers.train.dataset.clean import CleanRecipe, sift
from towers.train.dataset.data_rows import (
    REMOVED,
    changed_row,
    mined_row,
    pair_set,
    read_titles,
    recombined_rows,
    removed_row,
    sides_of,
    teacher_score,
)
from towers.train.dataset.doubt import bundle_signals
from towers.train.dataset.mine import MineRecipe, mine_titles
from towers.train.dataset.row_files import Columns, check_writable, read_row_file, write_row_file
from towers.train.sources import checked

data_app = typer.Typer(no_args_is_help=True, help="Clean and augment training data, and mine hard negatives.")

T = TypeVar("T")

FileArgument = Annotated[
    Path,
    typer.Argument(
        help="Pairs (query, title, label) or texts (text, label): csv, tsv, json lines, json, parquet."
    ),
]
PairsArgument = Annotated[
    Path, typer.Argument(help="Pairs (query, title, label): csv, tsv, json lines, json, parquet.")
]
Out = Annotated[
    Path, typer.Option("--out", help="File to write; its name says the format, as that of the input does.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace files that exist.")]
RecipeOption = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file with settings in a table of the command's name.")
]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Bundle whose vectors are used; default: the shipped one.")
]
Teacher = Annotated[
    Path | None, typer.Option("--teacher", help="Folder of a saved CrossEncoder whose scores are used.")
]
QueryColumn = Annotated[str, typer.Option(help="Column of the queries.")]
TitleColumn = Annotated[str, typer.Option(help="Column of the titles.")]
TextColumn = Annotated[str, typer.Option(help="Column of the texts.")]
LabelColumn = Annotated[str, typer.Option(help="Column of the labels.")]
Seed = Annotated[int | None, typer.Option(help="Of all that is drawn.")]


@data_app.command("clean")
def clean_command(
    file: FileArgument,
    out: Out,
    removed: Annotated[
        Path | None,
        typer.Option(
            "--removed", help="File for the removed rows; default: beside OUT, with .removed in its name."
        ),
    ] = None,
    bundle: BundleOption = None,
    recipe: RecipeOption = None,
    near: Annotated[
        float | None,
        typer.Option(help="Least similarity of near duplicates; 1: exact ones only. Default: 0.8."),
    ] = None,
    conflicts: Annotated[
        str | None, typer.Option(help="Contradicting labels: majority, drop or keep. Default: majority.")
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Remove labels at most this share as likely as another; 1: all suspects. Default: 0.25."
        ),
    ] = None,
    label_errors: Annotated[
        bool | None, typer.Option("--label-errors/--no-label-errors", help="Look for likely label errors.")
    ] = None,
    seed: Seed = None,
    query_column: QueryColumn = "query",
    title_column: TitleColumn = "title",
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    replace: Replace = False,
) -> None:
    """Set repeats, contradictions and likely label errors aside, each row with its reason."""
    removed = removed or _beside(out, "removed")
    settings = _settings(
        CleanRecipe,
        recipe,
        "clean",
        {"near": near, "conflicts": conflicts, "ratio": ratio, "label_errors": label_errors, "seed": seed},
    )
    _check_targets([out, removed], file, replace=replace)
    table = read_row_file(file, Columns(query_column, title_column, text_column, label_column))
    opened = bundle_signals(open_bundle(bundle)) if settings.label_errors else None
    sifted = sift(sides_of(table), table.labels, recipe=settings, encode=opened)
    # The removed rows first: whoever sees the kept ones has both.
    write_row_file(removed, [removed_row(table, entry) for entry in sifted.removed], [*table.names, *REMOVED])
    write_row_file(out, [table.rows[i] for i in sifted.kept], table.names)
    counts = {"kept": len(sifted.kept), **sifted.counts}
    _print_counts(f"{len(table.rows):,} {table.kind}", counts, sifted.notes)
    _print_json(settings, rows=len(table.rows), kind=table.kind, **counts, out=str(out), removed=str(removed))


@data_app.command("augment")
def augment_command(
    file: FileArgument,
    out: Out,
    teacher: Teacher = None,
    bundle: BundleOption = None,
    recipe: RecipeOption = None,
    operations: Annotated[
        str | None, typer.Option(help="Some of delete,swap,typing,homophone, between commas. Default: all.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Share of a text's words that change. Default: 0.1.")
    ] = None,
    copies: Annotated[int | None, typer.Option(help="New rows for each row. Default: 1.")] = None,
    sides: Annotated[
        str | None, typer.Option(help="Text of a pair that changes: either, query or title. Default: either.")
    ] = None,
    new_pairs: Annotated[
        float | None, typer.Option(help="With --teacher: pairs to try for each given pair. Default: 1.")
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(help="With --teacher: find titles for a query by bm25 or vectors. Default: bm25."),
    ] = None,
    seed: Seed = None,
    query_column: QueryColumn = "query",
    title_column: TitleColumn = "title",
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    replace: Replace = False,
) -> None:
    """Write the rows and new ones after them: with changed words or, with a teacher, other pairs that it labels."""
    settings = _settings(
        AugmentRecipe,
        recipe,
        "augment",
        {
            "operations": None if operations is None else tuple(operations.split(",")),
            "rate": rate,
            "copies": copies,
            "sides": sides,
            "new_pairs": new_pairs,
            "sampling": sampling,
            "seed": seed,
        },
    )
    _check_targets([out], file, replace=replace)
    table = read_row_file(file, Columns(query_column, title_column, text_column, label_column))
    table.labels  # noqa: B018  a row without a label is told before work is spent
    if teacher is None:
        made = changes(sides_of(table), recipe=settings)
        rows = [changed_row(table, change) for change in made]
        counts = {name: sum(change.operation == name for change in made) for name in settings.operations}
    else:
        rows, counts = recombined_rows(table, settings, teacher_score(teacher), bundle)
    write_row_file(out, [*table.rows, *rows], table.names)
    counts = {"given": len(table.rows), **counts}
    _print_counts(f"{len(table.rows) + len(rows):,} {table.kind}", counts, [])
    _print_json(settings, kind=table.kind, new=len(rows), **counts, out=str(out))


@data_app.command("mine")
def mine_command(
    pairs: PairsArgument,
    out: Out,
    titles: Annotated[
        Path | None, typer.Option("--titles", help="Table or .txt of further titles to mine among.")
    ] = None,
    teacher: Teacher = None,
    bundle: BundleOption = None,
    recipe: RecipeOption = None,
    count: Annotated[int | None, typer.Option(help="Most for each query with a match. Default: 5.")] = None,
    share_of_positive: Annotated[
        float | None,
        typer.Option(help="Stay below this share of the cosine of the query's weakest match. Default: 0.95."),
    ] = None,
    copy: Annotated[
        float | None, typer.Option(help="Leave out titles with this cosine to a known match. Default: 0.95.")
    ] = None,
    most_score: Annotated[
        float | None,
        typer.Option(help="With --teacher: leave out what it gives more than this. Default: 0.1."),
    ] = None,
    query_column: QueryColumn = "query",
    title_column: TitleColumn = "title",
    label_column: LabelColumn = "label",
    replace: Replace = False,
) -> None:
    """Write hard negatives of the pairs' queries, with label 0 and their cosine."""
    given = {"count": count, "share_of_positive": share_of_positive, "copy": copy, "most_score": most_score}
    settings = _settings(MineRecipe, recipe, "mine", given)
    _check_targets([out], pairs, replace=replace)
    table = read_row_file(pairs, Columns(query=query_column, title=title_column, label=label_column))
    data = pair_set(table)
    signals = bundle_signals(open_bundle(bundle))
    mined = mine_titles(
        data.queries,
        data.titles,
        data.positive,
        candidates=[] if titles is None else read_titles(titles, title_column),
        encode=signals.encode,
        encode_queries=signals.encode_queries,
        score=None if teacher is None else teacher_score(teacher),
        recipe=settings,
    )
    names = [query_column, title_column, label_column, "cosine", *(["score"] if teacher else [])]
    write_row_file(out, [mined_row(entry, names, data.lowest) for entry in mined], names)
    counts = {"hard negatives": len(mined), "queries with one": len({entry.query for entry in mined})}
    _print_counts(f"{len(table.rows):,} pairs", counts, [])
    _print_json(settings, rows=len(table.rows), **counts, out=str(out))


def _settings(kind: type[T], path: Path | None, name: str, given: dict[str, Any]) -> T:
    """The recipe: the file's settings, and over them the options that were given."""
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8")).get(name, {})
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise InputError(f"cannot read the recipe {path}: {exc}") from exc
    chosen = {option: value for option, value in given.items() if value is not None}
    return checked(kind, {**content, **chosen}, where=f"{path}, [{name}]" if path else "options")


def _beside(path: Path, word: str) -> Path:
    """kept.csv -> kept.removed.csv, kept.jsonl.gz -> kept.removed.jsonl.gz."""
    ending = "".join(path.suffixes[-2:]) if path.suffix.lower() == ".gz" else path.suffix
    return path.with_name(f"{path.name.removesuffix(ending)}.{word}{ending}")


def _check_targets(targets: Sequence[Path], source: Path, *, replace: bool) -> None:
    if len({path.resolve() for path in (*targets, source)}) <= len(targets):
        raise InputError(
            f"{', '.join(map(str, targets))}: expected files other than {source} and each other."
        )
    for path in targets:
        check_writable(path)
        if path.exists() and not replace:
            raise InputError(f"{path} exists; nothing was written. Choose another name, or pass --replace.")


def _print_counts(title: str, counts: dict[str, int], notes: Sequence[str]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(title)
    table.add_column("rows", justify="right")
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    console = Console()
    console.print(table)
    for note in notes:
        console.print(f"Note: {note}.", highlight=False)


def _print_json(settings: Any, **facts: Any) -> None:
    print(json.dumps({**facts, "recipe": asdict(settings)}, ensure_ascii=False))
