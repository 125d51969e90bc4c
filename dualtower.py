"""The command line: one table of sub-commands, each of which is imported only when it is called.

A module exposes each of its sub-commands under the name in the table: a plain function with Typer's
annotations is one command, a `typer.Typer` is a group of commands. Commands raise the errors of
`towers.errors`, which become a message and an exit status here, and nowhere else.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "index": ("index.cli:index_command", "Make a release from a file of titles."),
    "releases": ("index.cli:releases_app", "List, show, publish, roll back and prune releases."),
    "serve": ("service.cli:serve_command", "Answer match, search and sentiment requests over HTTP."),
    "key": ("service.key_cli:key_command", "Make an API key and the line under which `serve` knows it."),
    "search": ("service.cli:search_command", "Find the titles of a release that match a query."),
    "match": ("service.cli:match_command", "Say how well a query and titles match."),
    "sentiment": ("service.cli:sentiment_command", "Say whether texts are positive, neutral or negative."),
    "classify": ("towers.classify_cli:classify_command", "Ask the classifier of a bundle."),
    "doctor": ("service.doctor:doctor_command", "Check this installation, a bundle, releases and Redis."),
    "evaluate": ("towers.cli:evaluate_app", "Measure a bundle on labelled data."),
    "bundle": ("towers.cli:bundle_command", "Show a bundle and check its files."),
    "fit": ("towers.train.cli:fit_command", "Train a bundle on labelled pairs."),
    "fit-sentiment": ("towers.train.cli:fit_sentiment_command", "Train a sentiment head on labelled texts."),
    "pretrain": (
        "towers.train.pretraining.pretrain_cli:pretrain_command",
        "Train a checkpoint further on your own texts.",
    ),
    "extend": (
        "towers.train.bilingual.extend_cli:extend_command",
        "Give an English checkpoint Chinese words.",
    ),
    "tune": (
        "towers.train.classifiers.tune_cli:tune_command",
        "Train a classifier on a task of GLUE or your own examples.",
    ),
    "distil": (
        "towers.train.distillation.distil_cli:distil_command",
        "Make a smaller tower that gives a checkpoint's vectors.",
    ),
    "export": ("towers.train.exporting.export_cli:export_command", "Make a bundle from a checkpoint."),
    "compare": (
        "towers.train.compare.cli:compare_command",
        "Measure all optimisations on your own data.",
    ),
    "recipe": ("towers.train.compare.cli:recipe_command", "Make a bundle by one recipe."),
    "recipes": ("towers.train.compare.cli:recipes_command", "List the recipes, or tell all about one."),
    "build": ("towers.train.cli:build_command", "Make a whole bundle from a recipe."),
    "data": (
        "towers.train.dataset.data_cli:data_app",
        "Clean and augment training data, mine hard negatives.",
    ),
}
"""Name: (module and object, what it does)."""


class LazyGroup(TyperGroup):
    """Commands by name and line of help; only the one that is called is imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _imported(name) if name else command, rest


def _imported(name: str) -> Any:
    module_name, target_name = COMMANDS[name][0].split(":")
    target = getattr(_module(module_name, name), target_name)
    shell = typer.Typer()
    if isinstance(target, typer.Typer):
        shell.add_typer(target, name=name)
    else:
        shell.command(name)(target)
    return typer.main.get_group(shell).commands[name]


def _module(module_name: str, command: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] in ("towers", "index", "service"):
            raise
        from towers.errors import MissingDependencyError

        extra = "[train]" if module_name.startswith("towers.train") else ""
        raise MissingDependencyError(
            f"`dualtower {command}` needs {exc.name}, which is not installed; pip install 'dualtower{extra}'"
        ) from exc


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = importlib.metadata.version("dualtower")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed: run from its source directory)"
    print(f"dualtower {version}")
    raise typer.Exit


app = typer.Typer(cls=LazyGroup, add_completion=False)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the titles that mean what a query means, and say how well any query and title match."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: Default: those of this process. None at all shows the help.

    Returns:
        The exit status: 0, or 2 for input that cannot be used, 1 for other errors, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as after `| head`. What is left in the buffer must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _run(arguments: list[str]) -> int:
    try:
        typer.main.get_command(app).main(arguments, prog_name="dualtower")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(bool(exc.code))
    except Exception as exc:
        status = _error_status(exc)
        if status is None:
            raise
        print(f"dualtower: {exc}", file=sys.stderr)
        return status
    return 0


def _error_status(exc: Exception) -> int | None:
    """The exit status for an error whose message is meant for a person, None for a fault of the program."""
    from towers.errors import DualtowerError, InputError

    if isinstance(exc, InputError):
        return 2
    told_by_system = isinstance(exc, OSError) and exc.errno != errno.EPIPE  # no space left, permission denied
    return 1 if isinstance(exc, DualtowerError) or told_by_system else None


if __name__ == "__main__":
    sys.exit(main())
