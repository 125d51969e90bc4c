"""The commands `dualtower index` and `dualtower releases`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from index.files import json_text
from index.progress import Reporter

DEFAULT_RELEASES = Path("releases")

ReleasesOption = Annotated[
    Path, typer.Option("--releases", envvar="DUALTOWER_RELEASES", help="The directory of releases.")
]
RedisOption = Annotated[
    str | None,
    typer.Option("--redis", envvar="DUALTOWER_REDIS", help="Redis URL, such as redis://host:6379/0."),
]
MinRecallOption = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Publish only an index that finds this share of the true 10 best titles."
    ),
]
VersionArgument = Annotated[
    str, typer.Argument(help="16 hex digits, as `dualtower releases list` shows them.")
]

# index.releases.DEFAULT_MIN_RECALL, without importing numpy for --help; a test holds them together.
MIN_RECALL = 0.95


class OnBadRow(StrEnum):
    """What to do with rows that cannot be used."""

    refuse = "refuse"
    skip = "skip"


def _reporter() -> Reporter:
    return Reporter(Console(stderr=True))


def index_command(
    titles: Annotated[Path, typer.Argument(help=".csv .tsv .jsonl .json .txt (each also .gz) or .parquet.")],
    releases: ReleasesOption = DEFAULT_RELEASES,
    bundle: Annotated[
        Path | None,
        typer.Option(envvar="DUALTOWER_BUNDLE", help="A bundle directory; default: the one that is shipped."),
    ] = None,
    redis: RedisOption = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Make it the release that services use.")
    ] = False,
    id_column: Annotated[
        str, typer.Option(help="The column of ids; a .txt has line numbers instead.")
    ] = "id",
    title_column: Annotated[str, typer.Option(help="The column of titles.")] = "title",
    fields: Annotated[
        str | None, typer.Option(help='The columns to keep, with commas between; default: all, "": none.')
    ] = None,
    on_bad_row: Annotated[
        OnBadRow, typer.Option(help="Refuse the whole file, or leave bad rows out.")
    ] = OnBadRow.refuse,
    bad_rows: Annotated[
        Path | None, typer.Option(help="Write bad rows to this file; when skipping: RELEASES/bad-rows.jsonl.")
    ] = None,
    index_factory: Annotated[
        str | None,
        typer.Option(help="A FAISS factory string, such as IVF1024,SQ8; default: what suits the count."),
    ] = None,
    index_search: Annotated[
        str | None, typer.Option(help="FAISS search parameters, such as nprobe=64 or efSearch=256.")
    ] = None,
    min_recall: MinRecallOption = MIN_RECALL,
    reuse: Annotated[
        bool, typer.Option(help="Copy the vectors of unchanged titles from the published release.")
    ] = True,
) -> None:
    """Turn a file of titles into a release, and publish it.

    Killed at any moment, the same command goes on where it was and makes the same release, byte for byte.
    Standard output is the version; everything else goes to standard error.
    """
    from index.build import BuildOptions, index_titles
    from index.intake import Columns
    from index.releases import Releases
    from towers import open_bundle

    kept = None if fields is None else tuple(name.strip() for name in fields.split(",") if name.strip())
    options = BuildOptions(
        columns=Columns(id=id_column, title=title_column, kept=kept),
        skip_bad_rows=on_bad_row is OnBadRow.skip,
        bad_rows=bad_rows,
        index_factory=index_factory,
        index_search=index_search,
        reuse=reuse,
    )
    manifest = index_titles(
        titles,
        Releases(releases),
        open_bundle(bundle),
        options=options,
        report=_reporter(),
        redis_url=redis,
        publish=publish,
        min_recall=min_recall,
    )
    sys.stdout.write(manifest.version + "\n")


releases_app = typer.Typer(no_args_is_help=True, help="List, show, publish, roll back and prune releases.")


@releases_app.command("list")
def list_command(releases: ReleasesOption = DEFAULT_RELEASES) -> None:
    """List all releases: the published one, its rollback target, then the newest first."""
    from index.releases import Releases

    table = Table("version", "state", "titles", "index", "recall@10", "bundle", "MB", "problem")
    for info in Releases(releases).list():
        found = info.manifest
        facts = ("?",) * 4
        if found is not None:
            facts = (f"{found.count:,}", found.index_kind, f"{found.recall:.4f}", found.bundle_id[:16])
        table.add_row(info.version, info.state, *facts, f"{info.bytes / 1e6:,.1f}", info.problem)
    if not table.row_count:
        sys.stdout.write(f"there are no releases in {releases}\n")
        return
    # A pipe has no width: give the table what it needs, so that no version is cut.
    console = Console(file=sys.stdout)
    console.print(table) if console.is_terminal else Console(file=sys.stdout, width=200).print(table)


@releases_app.command("show")
def show_command(version: VersionArgument, releases: ReleasesOption = DEFAULT_RELEASES) -> None:
    """Check every file of a release and print its manifest as JSON."""
    from index.releases import Releases

    sys.stdout.write(json_text(Releases(releases).sound(version).to_json()))


@releases_app.command("publish")
def publish_command(
    version: VersionArgument,
    releases: ReleasesOption = DEFAULT_RELEASES,
    min_recall: MinRecallOption = MIN_RECALL,
) -> None:
    """Make a release the one that services use."""
    from index.releases import Releases

    Releases(releases).publish(version, min_recall=min_recall)
    sys.stdout.write(f"published release {version}\n")


@releases_app.command("rollback")
def rollback_command(releases: ReleasesOption = DEFAULT_RELEASES) -> None:
    """Publish the release that was published before."""
    from index.releases import Releases

    sys.stdout.write(f"published release {Releases(releases).rollback()} again\n")


@releases_app.command("prune")
def prune_command(
    keep: Annotated[
        int, typer.Option(min=1, help="How many releases to keep, the published one among them.")
    ] = 3,
    releases: ReleasesOption = DEFAULT_RELEASES,
    redis: RedisOption = None,
    drop_rollback: Annotated[
        bool, typer.Option("--drop-rollback", help="Do not spare the release that a rollback would publish.")
    ] = False,
) -> None:
    """Delete old releases, what interrupted jobs left and, with --redis, the deleted titles there."""
    from index.redis_release import delete_from_redis
    from index.releases import Releases

    deleted = Releases(releases).prune(keep, keep_rollback_target=not drop_rollback)
    for version in deleted:
        sys.stdout.write(f"deleted release {version}\n")
    if redis is not None:
        delete_from_redis(list(deleted), redis_url=redis, report=_reporter())
