"""Training commands."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.bundle import LAYOUT, Bundle, open_bundle
from towers.errors import InputError
from towers.train.adversarial import METHODS, AdversarialRecipe
from towers.train.base import DEFAULT_BASE, DEFAULT_LICENCE
from towers.train.build import build, fit_parts, read_text_sources, sentiment_parts
from towers.train.card import model_card
from towers.train.cross.cross_encoder import CrossRecipe
from towers.train.data import read_pair_set
from towers.train.early_exit.exits import ExitRecipe
from towers.train.exporting.export import Precision
from towers.train.finetune import TowerRecipe
from towers.train.fit import FitRecipe
from towers.train.scorer_training import ScorerRecipe
from towers.train.sentiment import SentimentRecipe
from towers.train.sources import DEFAULT_RECIPE, Source, read_recipe
from towers.train.write import Parts, check_target, read_parts, write_bundle

# Options that several commands have.
Out = Annotated[Path, typer.Option("--out", help="Directory of the bundle to make.")]
OutArgument = Annotated[Path, typer.Argument(help="Directory of the bundle to make.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same command.")]
Work = Annotated[
    Path | None, typer.Option(help="Folder for checkpoints; default: beside OUT, removed at the end.")
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the bundle in OUT.")]
Adversarial = Annotated[
    str | None,
    typer.Option(help=f"Perturb the embeddings in training: {', '.join(METHODS)}; default: not at all."),
]
Epsilon = Annotated[
    float | None,
    typer.Option(help=f"Length of a text's perturbation; default: {AdversarialRecipe.epsilon:g}."),
]
Steps = Annotated[int, typer.Option(min=0, help="Steps of the optimiser; 0: as many as --epochs makes.")]
Accumulation = Annotated[int, typer.Option(min=1, help="Batches per step of the optimiser.")]
Bf16 = Annotated[
    bool, typer.Option("--bf16", help="Multiply in bfloat16: faster with AVX512-BF16, slower without.")
]

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
    out: Out,
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
    steps: Steps = 0,
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs per batch of the tower.")] = 32,
    accumulation: Accumulation = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the tower.")] = 2e-5,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints of the tower.")] = 200,
    scorer_epochs: Annotated[
        int,
        typer.Option(min=1, help="Passes over the pairs to train the scorer; of few pairs it takes more."),
    ] = 15,
    dev_share: Annotated[float, typer.Option(help="Share of the pairs held out, by query.")] = 0.15,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longest query or title in tokens; default: the checkpoint's.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the split, the order of the pairs and all that is random.")
    ] = 13,
    bf16: Bf16 = False,
    adversarial: Adversarial = None,
    epsilon: Epsilon = None,
    teacher: Annotated[
        str,
        typer.Option(
            help="Who teaches the scorer: cross, a cross-encoder trained on the same pairs first, or the directory of "
            "one; default: nobody."
        ),
    ] = "",
    teacher_weight: Annotated[
        float, typer.Option(help="Weight of its scores against the labels, 0 to 1.")
    ] = ScorerRecipe.teacher,
    teacher_pairs: Annotated[
        float, typer.Option(help="New pairs that it labels alone, for each labelled pair.")
    ] = ScorerRecipe.teacher_pairs,
    cross_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the cross-encoder's training; 0: one pass over the pairs.")
    ] = 0,
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
    resume: Resume = False,
    work: Work = None,
    replace: Replace = False,
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
            steps=steps,
            accumulation=accumulation,
            bf16=bf16,
        ),
        scorer=ScorerRecipe(
            epochs=scorer_epochs, seed=seed, teacher=teacher_weight, teacher_pairs=teacher_pairs
        ),
        adversarial=adversarial_recipe(adversarial, epsilon),
        teacher=teacher,
        cross=CrossRecipe(steps=cross_steps, seed=seed, bf16=bf16, save_steps=save_steps),
    )
    of_base = base_licence(base)
    with working_folder(work, out) as folder:
        parts = fit_parts(
            sets,
            base=base,
            recipe=recipe,
            work=folder,
            resume=resume,
            precision=Precision(),
            base_licence=of_base,
            licence=licence or of_base,
        )
        bundle = write_out(out, parts, replace=replace)
    print_report(bundle.manifest.metrics["fit"])
    print(json.dumps({**summary(bundle), **bundle.manifest.metrics["fit"]}))


def fit_sentiment_command(
    texts: Annotated[
        list[Path],
        typer.Argument(help="Tables (csv, tsv, json lines, json, parquet) with text and label: -1, 0 or 1."),
    ],
    out: Out,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle that gets the head; default: the shipped one.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help=f"Checkpoint that the bundle was made from; default: {DEFAULT_BASE}."),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the texts.")] = 3.0,
    steps: Steps = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per batch.")] = 32,
    accumulation: Accumulation = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 5e-5,
    freeze_layers: Annotated[
        int, typer.Option(min=-1, help="Lowest layers kept as the tower has them, stored once; -1: none.")
    ] = 3,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest text in tokens.")] = 128,
    dev_share: Annotated[float, typer.Option(help="Share of the texts held out, at most 2,000.")] = 0.05,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the split, the head's start and the order of texts.")] = 13,
    bf16: Bf16 = False,
    adversarial: Adversarial = None,
    epsilon: Epsilon = None,
    exits: Annotated[
        bool, typer.Option("--exits", help="Let texts leave the head early, as soon as its answer is sure.")
    ] = False,
    exit_rule: Annotated[
        str, typer.Option(help="When it is sure: entropy, margin or patience.")
    ] = ExitRecipe.rule,
    exit_loss: Annotated[
        float, typer.Option(help="Share of accuracy that this may cost on held-out texts.")
    ] = ExitRecipe.max_loss,
    exit_steps: Annotated[
        int, typer.Option(min=1, help="Steps in which the exits are trained, after the head.")
    ] = ExitRecipe.steps,
    data_licence: Annotated[
        list[str] | None,
        typer.Option(help="Licence of a table of texts as its source states it; once for each table."),
    ] = None,
    resume: Resume = False,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Train a sentiment head for single texts and add it to a bundle."""
    check_target(out, replace=replace)
    towers = open_bundle(bundle)
    licences = _licences(texts, data_licence)
    sources = [Source(str(path), licence, "given") for path, licence in zip(texts, licences, strict=True)]
    entries, labelled = read_text_sources(sources, Path())
    recipe = SentimentRecipe(
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        freeze_layers=freeze_layers,
        dev_share=dev_share,
        seed=seed,
        max_tokens=max_tokens,
        bf16=bf16,
        save_steps=save_steps,
        steps=steps,
        accumulation=accumulation,
    )
    exit_recipe = ExitRecipe(
        rule=exit_rule,
        max_loss=exit_loss,
        steps=exit_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        seed=seed,
        bf16=bf16,
        save_steps=save_steps,
    )
    with working_folder(work, out) as folder:
        parts = sentiment_parts(
            read_parts(towers.path),
            labelled,
            data=entries,
            base=base,
            recipe=recipe,
            work=folder,
            resume=resume,
            vectors=towers.encode_titles,
            adversarial=adversarial_recipe(adversarial, epsilon),
            exits=exit_recipe if exits else None,
        )
        made = write_out(out, parts, replace=replace)
    metrics = made.manifest.metrics["sentiment"]
    print_sentiment(metrics)
    print(json.dumps({**summary(made), "metrics": metrics}))


def build_command(
    out: OutArgument,
    data: Annotated[Path, typer.Option("--data", help="Folder to which the recipe's files are relative.")],
    recipe: Annotated[
        Path, typer.Option("--recipe", help="TOML file; default: the one that makes the shipped bundle.")
    ] = DEFAULT_RECIPE,
    base: Annotated[
        str | None, typer.Option("--base", help="Start from this checkpoint instead of the recipe's.")
    ] = None,
    resume: Resume = False,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Make a whole bundle from a recipe: tower, scorer, sentiment head, model card."""
    wanted = read_recipe(recipe)
    if base is not None:
        wanted = dataclasses.replace(wanted, base=base, base_licence=base_licence(base))
    with working_folder(work, out) as folder:
        bundle = build(wanted, data=data, out=out, work=folder, resume=resume, replace=replace)
    print_report(bundle.manifest.metrics["fit"])
    if bundle.has_sentiment:
        print_sentiment(bundle.manifest.metrics["sentiment"])
    print(json.dumps(summary(bundle)))


def print_sentiment(metrics: dict[str, Any]) -> None:
    """Print how the head did on held-out texts, beside the baseline, as a table for people."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in (
        f"{metrics['rows']:,} dev texts",
        "macro recall",
        "macro F1",
        "accuracy",
        "calibration error",
    ):
        table.add_column(title, justify="left" if "dev" in title else "right")
    rows = {
        "head in float32": metrics,
        "head as written": metrics["quantized"],
        "logistic regression on the vectors": metrics["logistic_regression_on_vectors"],
    }
    for name, values in rows.items():
        keys = ("macro_recall", "macro_f1", "accuracy", "calibration_error")
        table.add_row(name, *(_number(values[key]) for key in keys))
    Console().print(table)
    if "exits" in metrics:
        Console().print(_exits_line(metrics["exits"]["chosen"]))


def _exits_line(chosen: dict[str, Any]) -> str:
    left = ", ".join(f"{texts:,} after layer {layer}" for layer, texts in chosen["histogram"].items())
    return (
        f"Early exit by {chosen['rule']}: {chosen['mean_layers']:.2f} layers in the mean, "
        f"{100 * chosen['lost']:.2f} points lost against the last exit; {left}."
    )


def print_report(report: dict[str, Any]) -> None:
    """Print the comparison of scorer, calibrated cosine and teacher, if there was one, as a table for people."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("dev pairs of", "pairs", "", *(title for title, _ in _COLUMNS)):
        table.add_column(title, justify="left" if title in ("dev pairs of", "") else "right")
    for row in [*report["sets"], {"name": "all", **report["total"]}]:
        for kind in (kind for kind in ("score", "cosine", "teacher") if kind in row):
            first = (row["name"], f"{row['pairs']:,}") if kind == "score" else ("", "")
            table.add_row(*first, kind, *(_number(row[kind][name]) for _, name in _COLUMNS))
    console = Console()
    console.print(table)
    kept = "the scorer with its MLP" if report["scorer"] == "residual" else "calibrated cosine alone"
    console.print(f"Kept: {kept} (gain over cosine: {100 * report['gain']:+.2f} points, mean over the sets).")


def adversarial_recipe(method: str | None, epsilon: float | None) -> AdversarialRecipe | None:
    """The settings that --adversarial and --epsilon stand for."""
    if method is None:
        if epsilon is not None:
            raise InputError(
                f"found --epsilon {epsilon:g} without --adversarial; say {' or '.join(METHODS)}."
            )
        return None
    return AdversarialRecipe(method) if epsilon is None else AdversarialRecipe(method, epsilon)


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


def base_licence(base: str | None) -> str:
    """The licence of a checkpoint: known for the default base only."""
    return DEFAULT_LICENCE if base in (None, DEFAULT_BASE) else "not given"


@contextmanager
def working_folder(work: Path | None, out: Path) -> Iterator[Path]:
    """The folder that a run goes on from; the one beside OUT is removed when all went well."""
    folder = work or out.with_name(f".{out.name}.work")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    if work is None:
        shutil.rmtree(folder, ignore_errors=True)


def write_out(out: Path, parts: Parts, *, replace: bool) -> Bundle:
    """Write a bundle with its model card."""
    parts.extra_files[LAYOUT.card] = model_card(parts.facts)
    return write_bundle(out, parts, replace=replace)


def summary(bundle: Bundle) -> dict[str, Any]:
    """What the JSON line of a training command says of the bundle."""
    size = sum(int(entry["bytes"]) for entry in bundle.manifest.files.values())
    return {"bundle": str(bundle.path), "bundle_id": bundle.bundle_id, "bytes": size}
