from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import dualtower
from index.releases import Releases
from service.schemas import MatchAnswer, SearchAnswer, SentimentsAnswer
from tests.conftest import TINY
from tests.service.served import make_release
from towers import Bundle


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Path:
    root = tmp_path_factory.mktemp("cli") / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line with the tiny bundle: (status, output, errors)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = dualtower.main([*arguments, "--bundle", str(TINY)])
        return status, *capsys.readouterr()

    return run


Run = Callable[..., tuple[int, str, str]]


def test_search_prints_a_table(run: Run, releases: Path) -> None:
    """The nearest titles with id, text, score, cosine and match."""
    status, output, _ = run("search", "red shoe", "--releases", str(releases), "-k", "3")
    assert status == 0
    assert [name for name in ("id", "title", "score", "cosine", "match") if name not in output] == []
    assert output.count("a-") == 3


def test_json_is_what_the_service_answers(run: Run, releases: Path) -> None:
    """Each command's --json has the shape of its route."""
    _, output, _ = run("search", "red shoe", "--releases", str(releases), "--filter", "release=a", "--json")
    assert len(SearchAnswer.model_validate_json(output, strict=True).matches) == 10
    _, output, _ = run("match", "red shoe", "a red shoe", "灯", "--json")
    assert len(MatchAnswer.model_validate_json(output, strict=True).matches) == 2
    _, output, _ = run("sentiment", "good", "bad", "--json")
    assert len(SentimentsAnswer.model_validate_json(output, strict=True).sentiments) == 2


def test_brackets_in_texts_are_shown_as_they_are(run: Run) -> None:
    """A title may look like markup."""
    assert "[bold]lamp" in run("match", "red", "[bold]lamp")[1]
    assert "[/red]" in run("sentiment", "[/red]")[1]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["search", "a", "--releases", "/nowhere"], 1, "no release is published in /nowhere"),
        (["search", "a", "-k", "0"], 2, "k must be at least 1"),
        (["search", "a", "--filter", "nonsense"], 2, "not FIELD=VALUE"),
        (["search", "a", "--filter", "colour=red"], 2, "cannot filter on 'colour'"),
        (["match", "", "a"], 2, "query must not be empty"),
        (["match", "a", "b\udcff"], 2, "not valid UTF-8"),
    ],
)
def test_a_wrong_command_line_gets_a_message(
    run: Run, releases: Path, arguments: list[str], status: int, words: str
) -> None:
    """What is wrong and the way out, on stderr; no traceback."""
    if arguments[0] == "search" and "--releases" not in arguments:
        arguments = [*arguments, "--releases", str(releases)]
    found, _, errors = run(*arguments)
    assert found == status
    assert words in " ".join(errors.split())
    assert "Traceback" not in errors


def test_directories_also_come_from_the_environment(
    run: Run, releases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name for the service, the job and these commands; a Redis that is set is not needed here."""
    monkeypatch.setenv("DUALTOWER_RELEASES", str(releases))
    monkeypatch.setenv("DUALTOWER_REDIS", "redis://127.0.0.1:1/0")
    assert run("search", "red shoe")[0] == 0
