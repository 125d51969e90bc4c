"""`dualtower tune`: fine-tune a classifier on GLUE's tasks or one's own examples, and put it into a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from towers.bundle import Bundle, open_bundle
from towers.errors import InputError
from towers.train.base import DEFAULT_BASE, load_tower
from towers.train.classifiers.classifier_parts import as_sentiment, with_classifier, with_task_as_sentiment
from towers.train.classifiers.example_files import Columns, load_examples
from towers.train.classifiers.examples import TaskData
from towers.train.classifiers.glue import GLUE, glue_task, load_glue, load_glue_tests, load_hub, submission
from towers.train.classifiers.tune import Tuned, tune
from towers.train.classifiers.tune_training import TuneRecipe
from towers.train.cli import (
    Accumulation,
    Adversarial,
    Bf16,
    Epsilon,
    Out,
    Replace,
    Resume,
    Steps,
    Work,
    adversarial_recipe,
    base_licence,
    summary,
    working_folder,
    write_out,
)
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.export import Precision
from towers.train.sources import checked
from towers.train.write import Parts, check_target, read_parts

_DEFAULT = TuneRecipe()


def tune_command(
    sources: Annotated[
        list[str],
        typer.Argument(
            help=f"A task of GLUE ({', '.join(GLUE)}) with --data or --hub; or files of examples (csv, tsv, json "
            "lines, json, parquet, or txt with a tab before the label)."
        ),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with GLUE's official files, of the task or of all.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option("--hub", help="Data set on a hub with GLUE's tasks, such as glue.")
    ] = None,
    dev: Annotated[
        list[Path] | None, typer.Option(help="File of held-out examples; default: a share of the others.")
    ] = None,
    dev_share: Annotated[
        float, typer.Option(help="Share of the examples held out without --dev that chooses settings.")
    ] = 0.1,
    test_share: Annotated[
        float,
        typer.Option(
            help="Share held out without --dev that chooses nothing, on which the figures are measured; 0: none, and "
            "they come from the examples that chose the settings."
        ),
    ] = 0.1,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            help="Bundle that gets the classifier; default: the shipped one, or one made of --base.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help=f"Checkpoint to fine-tune, with the bundle's tokenizer; default: {DEFAULT_BASE}."
        ),
    ] = None,
    sentiment: Annotated[
        bool, typer.Option("--sentiment", help="Labels -1, 0, 1 or 0, 1: make it the sentiment head.")
    ] = False,
    trials: Annotated[
        int, typer.Option(min=0, help="Trials of a search for rate, batch, warm-up and decay; 0: none.")
    ] = 0,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the examples.")] = _DEFAULT.epochs,
    steps: Steps = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per batch.")] = _DEFAULT.batch_size,
    accumulation: Accumulation = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _DEFAULT.learning_rate,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longest example in tokens.")] = _DEFAULT.max_tokens,
    prefix: Annotated[str, typer.Option(help="Put before every first text.")] = "",
    regression: Annotated[
        bool | None,
        typer.Option(help="Whether labels are numbers; default: where one of them has a fraction."),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts.")] = Columns.text,
    pair_column: Annotated[
        str, typer.Option(help="Column of the second texts; a table without it has single ones.")
    ] = Columns.text_pair,
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = Columns.label,
    submission_to: Annotated[
        Path | None,
        typer.Option("--submission", help="Folder for answers to the task's test sets, as GLUE takes them."),
    ] = None,
    data_licence: Annotated[str, typer.Option(help="Licence of the examples as their source states it.")] = (
        "not given"
    ),
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = _DEFAULT.seed,
    bf16: Bf16 = False,
    save_steps: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints.")
    ] = _DEFAULT.save_steps,
    adversarial: Adversarial = None,
    epsilon: Epsilon = None,
    resume: Resume = False,
    work: Work = None,
    replace: Replace = False,
) -> None:
    """Fine-tune a classifier, after a search for good settings with --trials, and put it into a bundle."""
    check_target(out, replace=replace)
    recipe = TuneRecipe(
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        accumulation=accumulation,
        learning_rate=learning_rate,
        max_tokens=max_tokens,
        prefix=prefix,
        seed=seed,
        bf16=bf16,
        save_steps=save_steps,
        trials=trials,
    )
    perturbed = adversarial_recipe(adversarial, epsilon)
    columns = Columns(text_column, pair_column, label_column)
    own: dict[str, Any] = {
        "dev_share": dev_share,
        "test_share": test_share,
        "seed": seed,
        "regression": regression,
        "columns": columns,
    }
    examples = load_sources(sources, data=data, hub=hub, dev=dev or (), licence=data_licence, own=own)
    _check_uses(sentiment, prefix, submission_to, data)
    examples = as_sentiment(examples) if sentiment else examples
    parts = _parts(bundle, base)
    with working_folder(work, out) as folder:
        tuned = tune(
            examples,
            checkpoint=base,
            recipe=recipe,
            adversarial=perturbed,
            work=folder / "tune",
            resume=resume,
        )
        add = with_task_as_sentiment if sentiment else with_classifier
        made = write_out(out, add(parts, tuned, examples, precision=_precision(parts)), replace=replace)
    if submission_to is not None and data is not None:
        write_submission(made, sources[0], data, submission_to)
    _report(tuned, made)


def load_sources(
    sources: Sequence[str],
    *,
    data: Path | None,
    hub: str | None,
    dev: Sequence[Path],
    licence: str,
    own: Mapping[str, Any],
) -> TaskData:
    """Load what the command line names: a task of GLUE from a folder or a hub, or the user's own files.

    Raises:
        InputError: A mixture of these, or files that cannot be used.
    """
    if data is None and hub is None:
        if len(sources) == 1 and not Path(sources[0]).exists() and sources[0].lower() in GLUE:
            raise InputError(
                f"found the task {sources[0]} and no place to load it from; give --data with the folder of the "
                "official files, or --hub glue"
            )
        return load_examples(sources, list(dev), licence=licence, **own)
    if len(sources) > 1 or dev or (data is not None and hub is not None):
        raise InputError(
            f"found {len(sources)} sources with {'--data' if data else ''} {'--hub' if hub else ''}; expected one task "
            "of GLUE with either, or files with neither. A task brings its own held-out examples."
        )
    if data is not None:
        return load_glue(sources[0], data, licence=licence)
    return load_hub(sources[0], str(hub), licence=licence)


def write_submission(bundle: Bundle, task: str, data: Path, folder: Path) -> list[Path]:
    """Answer a task's test sets with a bundle's classifier, in files as GLUE takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = glue_task(task).task(bundle.classifier_facts.task)
    written = []
    for name, examples in load_glue_tests(task, data).items():
        path = folder / f"{name}.tsv"
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(
            submission(asked, bundle.classify(examples.texts, examples.pairs)), encoding="utf-8"
        )
        temporary.replace(path)
        written.append(path)
    return written


def _check_uses(sentiment: bool, prefix: str, submission_to: Path | None, data: Path | None) -> None:
    if sentiment and prefix:
        raise InputError("found --prefix with --sentiment; the sentiment head takes texts as they are")
    if submission_to is not None and (sentiment or data is None):
        raise InputError(
            "--submission needs GLUE's official files (--data) and a classifier (no --sentiment)"
        )


def _parts(bundle: Path | None, base: str | None) -> Parts:
    """The bundle that gets the classifier: the one given, the shipped one, or one made of another base."""
    if bundle is not None or base in (None, DEFAULT_BASE):
        return read_parts(open_bundle(bundle).path)
    licence = base_licence(base)
    return tower_parts(load_tower(base), base=base, base_licence=licence, licence=licence)


def _precision(parts: Parts) -> Precision:
    return checked(Precision, parts.facts["recipe"].get("precision", {}), where="recipe of the bundle")


def _report(tuned: Tuned, bundle: Bundle) -> None:
    console = Console()
    if tuned.trials:
        console.print(trials_table(tuned))
    console.print(_measures(tuned))
    console.print(f"Measured on {tuned.measured_on}.", soft_wrap=True)
    found = {
        "metrics": dict(tuned.metrics),
        "measured_on": tuned.measured_on,
        "chosen": dict(tuned.parameters),
        "trials": list(tuned.trials),
    }
    print(json.dumps({**summary(bundle), **found}))


def trials_table(tuned: Tuned) -> Table:
    """The trials of a search, the best one marked."""
    table = Table(box=box.SIMPLE_HEAD)
    best = max((x["value"] for x in tuned.trials if x["state"] == "complete"), default=None)
    for name in tuned.trials[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for trial in tuned.trials:
        mark = " *" if trial["state"] == "complete" and trial["value"] == best else ""
        table.add_row(*(_cell(value) for value in trial.values()), style="bold" if mark else "")
    return table


def _measures(tuned: Tuned) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"{tuned.task.name}, held out")
    for name in ("rows", *tuned.task.metrics):
        table.add_column(name.replace("_", " "), justify="right")
    for name, found in tuned.metrics.items():
        table.add_row(name, f"{found['rows']:,}", *(_cell(found[x]) for x in tuned.task.metrics))
    return table


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
