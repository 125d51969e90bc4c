from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from index import cli
from index.redis_titles import RedisTitles
from index.release import open_release
from index.releases import DEFAULT_MIN_RECALL, Releases
from tests.index.conftest import sample_rows, write_rows
from towers import Bundle
from towers.errors import InputError, ReleaseError

app = typer.Typer()
app.command("index")(cli.index_command)
app.add_typer(cli.releases_app, name="releases")


@pytest.fixture
def run(tmp_path: Path, tiny_bundle_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs a command in an empty directory with the tiny bundle, and gives its result or raises its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUALTOWER_BUNDLE", str(tiny_bundle_path))

    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_from_titles_to_a_search(run, tmp_path: Path, tiny_bundle: Bundle) -> None:  # type: ignore[no-untyped-def]
    """The command prints the version and nothing else on standard output; the release is published and answers."""
    write_rows(tmp_path / "titles.jsonl", sample_rows(40))
    result = run("index", "titles.jsonl", "--publish")
    assert (result.exit_code, len(result.stdout)) == (0, 17)
    assert "read 40 titles from titles.jsonl" in result.stderr
    release = open_release(tmp_path / "releases", bundle=tiny_bundle)
    assert release.version == result.stdout.strip()
    query = tiny_bundle.encode_queries([sample_rows(40)[6]["title"]])[0]
    assert 6 in release.search(query, 3)[1]


def test_the_life_of_releases(run, tmp_path: Path, redis_url: str) -> None:  # type: ignore[no-untyped-def]
    """List, show, publish, roll back and prune, with Redis following."""
    versions = []
    for count in (20, 21, 22):
        write_rows(tmp_path / "titles.jsonl", sample_rows(count))
        result = run("index", "titles.jsonl", "--releases", "r", "--redis", redis_url, "--publish")
        versions.append(result.stdout.strip())
    a, b, c = versions
    shown = json.loads(run("releases", "show", a, "--releases", "r").stdout)
    assert (shown["version"], shown["count"], shown["index_kind"]) == (a, 20, "flat")
    assert run("releases", "rollback", "--releases", "r").stdout == f"published release {b} again\n"
    lines = run("releases", "list", "--releases", "r").stdout.splitlines()
    assert [version for line in lines for version in versions if version in line] == [b, a, c]
    assert "current" in next(line for line in lines if b in line)
    assert run("releases", "publish", c, "--releases", "r").stdout == f"published release {c}\n"
    assert Releases(tmp_path / "r").rollback_target() == b
    pruned = run("releases", "prune", "--releases", "r", "--keep", "2", "--redis", redis_url)
    assert pruned.stdout == f"deleted release {a}\n"
    left = {}
    for version in versions:
        redis = RedisTitles(redis_url, prefix=f"dualtower:{version}", dim=16)
        left[version] = redis.delete_release()
        redis.close()
    assert left == {a: 0, b: 21, c: 22}


def test_an_empty_directory_has_no_releases(run) -> None:  # type: ignore[no-untyped-def]
    """Listing nothing says so."""
    assert run("releases", "list").stdout == "there are no releases in releases\n"


def test_columns_and_bad_rows(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Columns, kept fields and the treatment of bad rows are chosen by options."""
    (tmp_path / "t.csv").write_text(
        "sku,name,brand,note\n1,red shoe,HP,x\n1,blue shoe,HP,y\n2,green shoe,Acer,z\n"
    )
    columns = ("--id-column", "sku", "--title-column", "name", "--fields", "brand")
    with pytest.raises(InputError, match="row 3: the id '1' is already that of row 2"):
        run("index", "t.csv", *columns)
    run("index", "t.csv", *columns, "--on-bad-row", "skip", "--bad-rows", "bad.jsonl", "--publish")
    release = open_release(tmp_path / "releases")
    assert (release.count, release.filterable) == (2, ("brand",))
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 3


def test_options_reach_the_index(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A factory string, its search parameters and the bound on recall are the user's to choose."""
    write_rows(tmp_path / "titles.jsonl", sample_rows(60))
    index = ("index", "titles.jsonl", "--index-factory", "IVF30,PQ1x4", "--index-search", "nprobe=1")
    with pytest.raises(ReleaseError, match=r"the bound is 1\.0000"):
        run(*index, "--publish", "--min-recall", "1")
    run(*index, "--publish", "--min-recall", "0")
    manifest = open_release(tmp_path / "releases").manifest
    assert manifest.index_kind == "custom"
    assert manifest.index_parameters["factory"] == "IVF30,PQ1x4"
    assert manifest.index_parameters["search"] == "nprobe=1"


def test_the_bound_on_recall_is_stated_once() -> None:
    """The command line's default is the package's."""
    assert cli.MIN_RECALL == DEFAULT_MIN_RECALL
