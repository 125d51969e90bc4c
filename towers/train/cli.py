"""Training commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.bundle import LAYOUT, Bundle
from towers.errors import InputError
from towers.train.base import DEFAULT_BASE, DEFAULT_LICENCE
from towers.train.data import PairSet, read_pair_set
from towers.train.export import Precision, TowerGraph, export_graph, quantize, tokenizer_json
from towers.train.finetune import TowerRecipe
from towers.train.fit import FitRecipe, FitResult, fit
from towers.train.scorer import ResidualScorer, export_scorer
from towers.train.scorer_training import ScorerRecipe
from towers.train.write import Parts, check_target, write_bundle

# In the order that a person reads them: the title of a column, the metric's name in the report.
_COLUMNS = (
    ("AUC", "auc"),
    ("accuracy", "accuracy"),
    ("Spearman", "spearman"),
    ("nDCG@10", "ndcg@10"),
    ("calibration error", "calibration_error"),
)


def fit_command(
    pairs: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of pairs (csv, tsv, json lines, json, parquet) with query, title and label."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory of the bundle to make.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help=f"Checkpoint directory or hub name to start from; default: {DEFAULT_BASE}."
        ),
    ] = None,
    freeze_towers: Annotated[
        bool, typer.Option("--freeze-towers", help="Train the scorer alone, on the tower as it is.")
    ] = False,
    epochs: Annotated[
        float, typer.Option(min=0.01, help="Passes over the pairs to fine-tune the tower.")
    ] = 1.0,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs per step of the tower.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the tower.")] = 2e-5,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints of the tower.")] = 200,
    scorer_epochs: Annotated[
        int, typer.Option(min=1, help="Passes over the pairs to train the scorer.")
    ] = 15,
    dev_share: Annotated[float, typer.Option(help="Share of the pairs held out, by query.")] = 0.15,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longest query or title in tokens; default: the checkpoint's.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the split, the order of the pairs and all that is random.")
    ] = 13,
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "query",
    title_column: Annotated[str, typer.Option(help="Column of the titles.")] = "title",
    label_column: Annotated[
        str, typer.Option(help="Column of the labels: 1 or 0, grades, similarities.")
    ] = "label",
    data_licence: Annotated[
        list[str] | None,
        typer.Option(help="Licence of a table of pairs as its source states it; once for each table."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the bundle; default: that of the default base.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; default: beside OUT, removed at the end.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the bundle in OUT.")] = False,
) -> None:
    """Train a bundle on labelled pairs: fine-tune the tower, train and calibrate the scorer, choose the threshold."""
    check_target(out, replace=replace)
    licences = _licences(pairs, data_licence)
    sets = [
        read_pair_set(path, licence=stated, query=query_column, title=title_column, label=label_column)
        for path, stated in zip(pairs, licences, strict=True)
    ]
    recipe = FitRecipe(
        freeze_towers=freeze_towers,
        dev_share=dev_share,
        max_tokens=max_tokens,
        seed=seed,
        tower=TowerRecipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            save_steps=save_steps,
            seed=seed,
        ),
        scorer=ScorerRecipe(epochs=scorer_epochs, seed=seed),
    )
    bundle = fit_bundle(
        sets,
        out=out,
        base=base,
        recipe=recipe,
        work=work or out.with_name(f".{out.name}.work"),
        licence=licence or (DEFAULT_LICENCE if base in (None, DEFAULT_BASE) else "not given"),
        resume=resume,
        replace=replace,
    )
    if work is None:
        shutil.rmtree(out.with_name(f".{out.name}.work"), ignore_errors=True)
    print_report(bundle.manifest.metrics["fit"])
    print(json.dumps({"bundle": str(out), "bundle_id": bundle.bundle_id, **bundle.manifest.metrics["fit"]}))


def fit_bundle(
    sets: list[PairSet],
    *,
    out: Path,
    base: str | None,
    recipe: FitRecipe,
    work: Path,
    licence: str,
    resume: bool,
    replace: bool,
) -> Bundle:
    """Train and write a bundle. The scorer is trained on the vectors of the int8 graph that will be served."""
    # Holds the tower's parts from the moment its training ends, for the bundle that is written at the end.
    made: list[Parts] = []

    def served(tower: Any) -> Bundle:
        made.append(_tower_parts(tower, work=work, base=base, licence=licence))
        return write_bundle(work / "served", made[0], replace=True)

    result = fit(sets, checkpoint=base, recipe=recipe, work=work, resume=resume, served=served)
    return write_bundle(out, _with_scorer(made[0], result, work), replace=replace)


def print_report(report: dict[str, Any]) -> None:
    """Print the comparison of scorer and calibrated cosine as a table for people."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("dev pairs of", "pairs", "", *(title for title, _ in _COLUMNS)):
        table.add_column(title, justify="left" if title in ("dev pairs of", "") else "right")
    for row in [*report["sets"], {"name": "all", **report["total"]}]:
        for kind in ("score", "cosine"):
            first = (row["name"], f"{row['pairs']:,}") if kind == "score" else ("", "")
            table.add_row(*first, kind, *(_number(row[kind][name]) for _, name in _COLUMNS))
    console = Console()
    console.print(table)
    kept = "the scorer with its MLP" if report["scorer"] == "residual" else "calibrated cosine alone"
    console.print(f"Kept: {kept} (gain over cosine: {100 * report['gain']:+.2f} points, mean over the sets).")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _licences(pairs: list[Path], stated: list[str] | None) -> list[str]:
    if not stated:
        return ["not given"] * len(pairs)
    if len(stated) != len(pairs):
        raise InputError(
            f"found {len(stated)} × --data-licence for {len(pairs)} tables of pairs; give one for each, in order."
        )
    return stated


def _tower_parts(tower: Any, *, work: Path, base: str | None, licence: str) -> Parts:
    """A bundle of the tower with a scorer that is cosine alone, only there so that the bundle can be opened."""
    max_tokens = int(tower.max_seq_length)
    dim = int(tower.get_embedding_dimension())
    encoder = quantize(export_graph(TowerGraph(tower), output="vectors", max_tokens=max_tokens), Precision())
    return Parts(
        graphs={
            LAYOUT.encoder: encoder,
            LAYOUT.scorer: export_scorer(ResidualScorer(dim, hidden=0), work / LAYOUT.scorer),
        },
        tokenizer=tokenizer_json(tower.tokenizer),
        facts={
            "dim": dim,
            "max_tokens": max_tokens,
            "threshold": 0.5,
            "scorer": "cosine",
            "base_model": {"name": base or DEFAULT_BASE},
            "licence": licence,
        },
    )


def _with_scorer(tower: Parts, result: FitResult, work: Path) -> Parts:
    facts = tower.facts | {
        "threshold": result.threshold,
        "scorer": result.scorer_kind,
        "training_data": result.training_data,
        "recipe": {"fit": result.recipe},
        "metrics": {"fit": result.metrics},
    }
    scorer = export_scorer(result.scorer, work / LAYOUT.scorer)
    return Parts(graphs=tower.graphs | {LAYOUT.scorer: scorer}, tokenizer=tower.tokenizer, facts=facts)
