"""`dualtower evaluate` and `dualtower bundle`: tables for people, and last one JSON line for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from towers.bundle import Bundle, open_bundle
from towers.errors import InputError
from towers.evaluate import CANDIDATES, Progress, evaluate_match, evaluate_search, evaluate_sentiment
from towers.labelled import (
    SearchColumns,
    Searches,
    read_beir,
    read_pairs,
    read_searches,
    read_texts,
)
from towers.sentiment import NAMES

_KS = (1, 10, 100)

evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a bundle on labelled data.")

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="A bundle's directory; default: the one that is installed.")
]
Table_ = Annotated[
    Path, typer.Argument(help="A csv, tsv, json lines, json or parquet file; text formats also .gz.")
]


@evaluate_app.command("match")
def match_command(
    file: Table_,
    bundle: BundleOption = None,
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "query",
    title_column: Annotated[str, typer.Option(help="Column of the titles.")] = "title",
    label_column: Annotated[
        str, typer.Option(help="Column of the labels: 1 or 0, grades, similarities.")
    ] = "label",
    positive_from: Annotated[
        float | None,
        typer.Option(
            help="A pair is positive from this label on; default: above the middle of the label range."
        ),
    ] = None,
) -> None:
    """Compare the scorer with plain cosine on labelled pairs."""
    opened = open_bundle(bundle)
    pairs = read_pairs(file, query=query_column, title=title_column, label=label_column)
    with _progress_bar("encoding", len(set(pairs.queries)) + len(set(pairs.titles))) as progress:
        report = evaluate_match(opened, pairs, positive_from=positive_from, progress=progress)
    _print_match(report)
    _print_json("match", file, opened, report)


@evaluate_app.command("search")
def search_command(
    directory: Annotated[
        Path | None,
        typer.Argument(help="A directory in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv."),
    ] = None,
    titles: Annotated[
        Path | None, typer.Option(help="Titles with their ids, in place of a directory.")
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(help="Query id, title id, relevance; or the queries themselves in place of ids."),
    ] = None,
    queries: Annotated[Path | None, typer.Option(help="Queries with their ids.")] = None,
    bundle: BundleOption = None,
    k: Annotated[
        list[int] | None, typer.Option(min=1, help=f"Ranks for recall, repeatable; default: {_KS}.")
    ] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Titles that the scorer re-ranks.")] = CANDIDATES,
    id_column: Annotated[str | None, typer.Option(help="Column of the ids in the titles.")] = None,
    title_column: Annotated[str | None, typer.Option(help="Column of the titles.")] = None,
    query_id_column: Annotated[str | None, typer.Option(help="Column of the query ids.")] = None,
    query_column: Annotated[str | None, typer.Option(help="Column of the queries.")] = None,
    title_id_column: Annotated[str | None, typer.Option(help="Column of the title ids in the qrels.")] = None,
    relevance_column: Annotated[
        str | None, typer.Option(help="Column of the relevances in the qrels.")
    ] = None,
) -> None:
    """Search all titles, exactly, and compare the order by score with the order by cosine.

    Give a directory in BEIR's layout, or --titles and --qrels.
    """
    columns = SearchColumns(
        id=id_column,
        title=title_column,
        query_id=query_id_column,
        query=query_column,
        title_id=title_id_column,
        relevance=relevance_column,
    )
    opened = open_bundle(bundle)
    searches = _read_searches(directory, titles, qrels, queries, columns)
    with _progress_bar("encoding", len(searches.titles) + len(searches.queries)) as progress:
        report = evaluate_search(opened, searches, ks=k or _KS, candidates=candidates, progress=progress)
    _print_search(report)
    _print_json("search", directory or titles, opened, report)


def _read_searches(
    directory: Path | None,
    titles: Path | None,
    qrels: Path | None,
    queries: Path | None,
    columns: SearchColumns,
) -> Searches:
    if directory and not (titles or queries or columns != SearchColumns()):
        return read_beir(directory, qrels)
    if titles and qrels and not directory:
        return read_searches(titles, qrels, queries, columns=columns)
    raise InputError(
        "Expected a directory in BEIR's layout (and at most --qrels), or --titles and --qrels "
        "(and --queries, and the names of columns), not a mixture."
    )


@evaluate_app.command("sentiment")
def sentiment_command(
    file: Table_,
    bundle: BundleOption = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = "text",
    label_column: Annotated[
        str, typer.Option(help="Column of the labels: -1, 0, 1 or negative, neutral, positive.")
    ] = "label",
) -> None:
    """Compare the sentiment head's predictions with labels."""
    opened = open_bundle(bundle)
    texts = read_texts(file, text=text_column, label=label_column)
    with _progress_bar("classifying", len(texts.texts)) as progress:
        report = evaluate_sentiment(opened, texts, progress=progress)
    _print_sentiment(report)
    _print_json("sentiment", file, opened, report)


def bundle_command(
    directory: Annotated[
        Path | None, typer.Argument(help="A bundle's directory; default: the one that is installed.")
    ] = None,
) -> None:
    """Show what a bundle says of itself, after holding each of its files against its SHA-256."""
    opened = open_bundle(directory, verify=True)
    content = json.loads(opened.manifest.to_json())
    files = content.pop("files")
    print(f"{opened.path}: {len(files)} files, each as the manifest says\n")
    for name, entry in files.items():
        print(f"{name:<20} {entry['bytes']:>12,} bytes  sha256 {entry['sha256']}")
    print()
    for name, value in _flat(content):
        print(f"{name:<32} {value}")


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as (path, value) lines."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for i, item in enumerate(value):
                yield f"{prefix}{name}[{i}]", ", ".join(f"{key}: {part}" for key, part in item.items())
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# What people see.


@contextmanager
def _progress_bar(what: str, total: int) -> Iterator[Progress]:
    """Show progress on stderr, so that stdout stays what programs may read."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=Console(stderr=True)) as bar:
        yield partial(bar.advance, bar.add_task(what, total=total))


def _print_match(report: Mapping[str, Any]) -> None:
    table = _comparison(
        report,
        {
            "AUC": "auc",
            "accuracy at the threshold": "accuracy",
            "threshold": "threshold",
            "… chosen on": "threshold_from",
            "Spearman": "spearman",
            "nDCG@10": "ndcg@10",
            "calibration error": "calibration_error",
        },
    )
    lowest, highest = report["labels"]
    print(
        f"{report['pairs']:,} pairs of {report['queries']:,} queries, labels {lowest:g} to {highest:g}; "
        f"{report['positives']:,} pairs are positive (label {report['positive_from']:g} and above)"
    )
    _print_table(table)
    print("Cosine's threshold is the best for these very pairs, which flatters its accuracy.")
    if math.isnan(report["score"]["ndcg@10"]):
        print("No nDCG: no query has several titles of which one is relevant.")


def _print_search(report: Mapping[str, Any]) -> None:
    print(
        f"{report['queries']:,} queries over {report['titles']:,} titles, exact search; "
        f"the scorer re-ranks the first {report['candidates']:,}"
    )
    _print_table(
        _comparison(
            report, {name.replace("ndcg", "nDCG").replace("mrr", "MRR"): name for name in report["score"]}
        )
    )
    for what in ("queries", "titles"):
        if unknown := report[f"unknown_{what}"]:
            print(f"{unknown:,} judged {what} are not in the {what}.")


def _comparison(report: Mapping[str, Any], rows: Mapping[str, str]) -> Table:
    table = Table("", box=box.SIMPLE)
    for side in ("score", "cosine"):
        table.add_column(side, justify="right")
    for name, key in rows.items():
        table.add_row(name, *(_shown(report[side][key]) for side in ("score", "cosine")))
    return table


def _print_sentiment(report: Mapping[str, Any]) -> None:
    print(f"{report['texts']:,} texts")
    table = Table("", "", box=box.SIMPLE, show_header=False)
    for name in ("macro_recall", "macro_f1", "accuracy"):
        table.add_row(name.replace("_", " ").replace("f1", "F1"), _shown(report[name]))
    _print_table(table)
    names = [f"{NAMES[label]} {label}" for label in report["classes"]]
    matrix = Table("label ↓ predicted →", *names, "recall", box=box.SIMPLE)
    for name, counts, recall in zip(names, report["confusion"], report["recall"], strict=True):
        matrix.add_row(name, *(f"{count:,}" for count in counts), _shown(recall))
    _print_table(matrix)


def _print_table(table: Table) -> None:
    Console(highlight=False).print(table)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "–" if math.isnan(value) else f"{value:.4f}"


def _print_json(what: str, source: Path | None, bundle: Bundle, report: Mapping[str, Any]) -> None:
    line = {"evaluate": what, "data": str(source), "bundle_id": bundle.bundle_id, **report}
    print(json.dumps(_without_nan(line), ensure_ascii=False))


def _without_nan(value: Any) -> Any:
    """JSON has no nan: null says that a metric is undefined."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
