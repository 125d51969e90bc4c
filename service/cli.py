"""The service's commands: `serve`, and `search`, `match` and `sentiment` for asking without a server.

The three go the way of the HTTP routes, so that `--json` prints what the service would answer.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from towers.errors import InputError

if TYPE_CHECKING:
    from service.route import Handler
    from service.state import State

ReleasesOption = Annotated[
    Path | None,
    typer.Option("--releases", help="Directory of releases; default: releases.", show_default=False),
]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle directory; default: the one that is shipped.", show_default=False),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the answer of the HTTP service instead of a table.")
]


def serve_command(
    releases: ReleasesOption = None,
    bundle: BundleOption = None,
    redis: Annotated[
        str | None, typer.Option(help="Redis URL, for title vectors and the query cache.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one; default: 8000.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes that answer; default: one a core, at most 8.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Requests that a process computes at the same time; default: cores ÷ processes."),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR; default: INFO.")
    ] = None,
) -> None:
    """Answer match, search and sentiment requests over HTTP.

    Every setting can also come from the environment as DUALTOWER_NAME, see the README. Options go first.
    """
    from service import logs
    from service.settings import load_settings, unknown_variables
    from service.telemetry import cannot_send

    settings = load_settings(
        releases=releases,
        bundle=bundle,
        redis=redis,
        host=host,
        port=port,
        processes=processes,
        workers=workers,
        log_level=log_level,
    )
    logs.configure(settings.log_level)
    log = logging.getLogger(__name__)
    log.info("settings", extra=settings.shown())
    for name in unknown_variables(os.environ):
        log.warning("environment variable is no setting, ignored", extra={"variable": name})
    if (reason := cannot_send()) is not None:
        log.warning("nothing is traced", extra={"reason": reason})
    if settings.processes > 1:
        from service.parent import run_processes

        run_processes(settings)
        return
    from service.compose import open_state
    from service.server import run

    run(open_state(settings))


def search_command(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    releases: ReleasesOption = None,
    bundle: BundleOption = None,
    k: Annotated[int, typer.Option("-k", help="How many titles to show.")] = 10,
    candidates: Annotated[int | None, typer.Option(help="How many nearest titles are scored.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--filter", help="FIELD=VALUE of a kept field; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the titles that mean what QUERY means."""
    from service import handlers

    body = {"query": query, "k": k, "candidates": candidates, "filter": _filter(where)}
    answer = _ask(handlers.search, body, local_state(releases, bundle), release=True)
    rows = [
        (found["id"], found["title"], f"{found['score']:.3f}", f"{found['cosine']:.3f}", _yes(found["match"]))
        for found in answer["matches"]
    ]
    _show(answer, as_json, ("id", "title", "score", "cosine", "match"), rows)


def match_command(
    query: Annotated[str, typer.Argument(help="The query.")],
    titles: Annotated[list[str], typer.Argument(help="Titles to hold against it.")],
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how well TITLES match QUERY."""
    from service import handlers

    answer = _ask(handlers.match, {"query": query, "titles": titles}, local_state(None, bundle))
    rows = [
        (title, f"{item['score']:.3f}", f"{item['cosine']:.3f}", _yes(item["match"]))
        for title, item in zip(titles, answer["matches"], strict=True)
    ]
    _show(answer, as_json, ("title", "score", "cosine", "match"), rows)


def sentiment_command(
    texts: Annotated[list[str], typer.Argument(help="Texts to classify.")],
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether TEXTS are positive, neutral or negative."""
    from service import handlers

    answer = _ask(handlers.sentiment, {"texts": texts}, local_state(None, bundle))
    first = answer["sentiments"][0]
    exits = ("exit layer",) if "exit_layer" in first else ()
    rows = [
        (
            text,
            str(item["label"]),
            item["name"],
            *(f"{p:.3f}" for p in item["probabilities"].values()),
            *([str(item["exit_layer"])] if exits else []),
        )
        for text, item in zip(texts, answer["sentiments"], strict=True)
    ]
    _show(answer, as_json, ("text", "label", "name", *first["probabilities"], *exits), rows)


def local_state(releases: Path | None, bundle: Path | None) -> State:
    """What the service would hold, for use in this process and without Redis."""
    from service.compose import compose
    from service.settings import load_settings
    from towers import open_bundle

    settings = load_settings(releases=releases, bundle=bundle).model_copy(
        update={"redis": None, "api_keys_file": None}
    )
    return compose(settings, open_bundle(settings.bundle, threads=settings.threads))


def _ask(handler: Handler, body: dict[str, Any], state: State, *, release: bool = False) -> dict[str, Any]:
    """The service's answer to a body; with `release`, the published one has to be there and sound."""
    from index.releases import Releases

    try:
        if release:
            state.follower.take(Releases(state.settings.releases).published())
        answer: dict[str, Any] = json.loads(handler(state, json.dumps(body, ensure_ascii=False).encode()))
        return answer
    except UnicodeEncodeError as exc:
        raise InputError(
            "an argument is not valid UTF-8; pass text in the encoding of this terminal"
        ) from exc
    finally:
        state.close()


def _filter(where: list[str] | None) -> dict[str, str] | None:
    if not where:
        return None
    parts = [text.partition("=") for text in where]
    for text, (_, sign, _) in zip(where, parts, strict=True):
        if not sign:
            raise typer.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--filter")
    return {field: value for field, _, value in parts}


def _yes(match: bool) -> str:
    return "yes" if match else "no"


def _show(
    answer: dict[str, Any], as_json: bool, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    if as_json:
        typer.echo(json.dumps(answer, ensure_ascii=False))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: brackets in a title are no markup
    table.caption = ", ".join(f"{stage} {spent:.1f} ms" for stage, spent in answer["milliseconds"].items())
    console = Console()
    # A pipe has no width: give the table what it needs, so that no id is cut.
    console.print(table) if console.is_terminal else Console(width=200).print(table)
