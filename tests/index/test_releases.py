from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from index.release import open_release
from index.releases import CURRENT_FILE, REMEMBERED, Releases
from tests.index.conftest import Desk, sample_rows
from towers.errors import ReleaseError


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four releases that were built once; every test gets copies."""
    desk = Desk(tmp_path_factory.mktemp("models"))
    return [desk.releases.path(desk.index(sample_rows(20 + i)).version) for i in range(4)]


@pytest.fixture
def built(desk: Desk, models: list[Path]) -> Callable[..., list[str]]:
    def build(count: int = 3, *, publish: int = 0) -> list[str]:
        """Some releases, the first ones published in turn; older ones have older dates."""
        for i, model in enumerate(models[:count]):
            copy = shutil.copytree(model, desk.releases.root / model.name)
            os.utime(copy, (1000 + i, 1000 + i))
            if i < publish:
                desk.releases.publish(model.name)
        return [model.name for model in models[:count]]

    return build


def test_publish_and_rollback_move_one_file(desk: Desk, built: Callable[..., list[str]]) -> None:
    """Publishing names the release and remembers the earlier ones; a rollback goes back one by one."""
    a, b, c = built()
    releases = desk.releases
    assert (releases.current(), releases.rollback_target()) == (None, None)
    for version in (a, b, c):
        releases.publish(version)
    assert json.loads((releases.root / CURRENT_FILE).read_text()) == {"version": c, "previous": [b, a]}
    assert open_release(releases.root).version == c
    assert [releases.rollback(), releases.rollback()] == [b, a]
    with pytest.raises(ReleaseError, match="nothing to roll back to"):
        releases.rollback()
    assert releases.current() == a


def test_publishing_again_changes_nothing(desk: Desk, built: Callable[..., list[str]]) -> None:
    """A release is never its own rollback target."""
    a, b = built(2, publish=2)
    desk.releases.publish(b)
    assert (desk.releases.current(), desk.releases.rollback_target()) == (b, a)
    desk.releases.publish(a)
    assert (desk.releases.current(), desk.releases.rollback_target()) == (a, b)


def test_only_some_earlier_versions_are_remembered(desk: Desk, built: Callable[..., list[str]]) -> None:
    """CURRENT does not grow for ever."""
    a, b = built(2)
    path = desk.releases.root / CURRENT_FILE
    path.write_text(json.dumps({"version": a, "previous": [f"{i:016x}" for i in range(50)]}))
    desk.releases.publish(b)
    assert len(json.loads(path.read_text())["previous"]) == REMEMBERED


def test_a_deleted_release_is_no_rollback_target(desk: Desk, built: Callable[..., list[str]]) -> None:
    """A rollback skips what is not there any more."""
    a, b, c = built(3, publish=3)
    desk.releases.remove(b)
    assert desk.releases.rollback() == a
    assert c in desk.releases.versions()


def test_a_release_below_the_bound_is_not_published(desk: Desk, built: Callable[..., list[str]]) -> None:
    """The recall in the manifest is held against the bound at every publication."""
    (version,) = built(1)
    with pytest.raises(ReleaseError, match=r"finds 1\.0000 of the true 10 best titles, the bound is 1\.5000"):
        desk.releases.publish(version, min_recall=1.5)
    assert desk.releases.current() is None


def test_a_damaged_release_is_not_published_nor_rolled_back_to(
    desk: Desk, built: Callable[..., list[str]]
) -> None:
    """What cannot be served never becomes current."""
    a, b, c = built(3, publish=2)
    for version in (a, c):
        (desk.releases.path(version) / "vectors.npy").write_bytes(b"")
    with pytest.raises(ReleaseError, match="has 0 bytes"):
        desk.releases.publish(c)
    with pytest.raises(ReleaseError, match="has 0 bytes"):
        desk.releases.rollback()
    assert desk.releases.current() == b


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "x"', '{"version": "x", "previous": 3}'])
def test_a_broken_current_says_so(desk: Desk, built: Callable[..., list[str]], content: str) -> None:
    """CURRENT is not guessed at: the error names the file and what to do."""
    (version,) = built(1, publish=1)
    (desk.releases.root / CURRENT_FILE).write_text(content)
    with pytest.raises(ReleaseError, match=f"CURRENT cannot be read.*{version}"):
        desk.releases.current()


def test_current_names_a_release_that_is_gone(desk: Desk, built: Callable[..., list[str]]) -> None:
    """Opening says which release is missing."""
    (version,) = built(1, publish=1)
    desk.releases.remove(version)
    with pytest.raises(ReleaseError, match=version):
        open_release(desk.releases.root)


def test_list_shows_current_first_and_names_problems(desk: Desk, built: Callable[..., list[str]]) -> None:
    """The published one, its rollback target, then the newest; a damaged one is listed with its problem."""
    a, b, c = built(3, publish=2)
    (desk.releases.path(c) / "titles.jsonl").unlink()
    found = desk.releases.list()
    assert [(info.version, info.state) for info in found] == [(b, "current"), (a, "rollback target"), (c, "")]
    assert "lacks" in found[2].problem
    assert found[0].manifest is not None
    assert found[0].bytes > 0


def test_prune_keeps_what_is_needed(desk: Desk, built: Callable[..., list[str]]) -> None:
    """The published one and its rollback target stay, then the newest; leftovers of killed jobs go."""
    a, b, c, d = built(4, publish=2)
    left = desk.releases.root / ".building-0123456789abcdef" / "blocks"
    left.mkdir(parents=True)
    assert desk.releases.prune(3) == [c]
    assert not left.exists()
    assert sorted(desk.releases.versions()) == sorted([a, b, d])
    assert desk.releases.prune(1) == [d]
    assert desk.releases.prune(1, keep_rollback_target=False) == [a]
    assert desk.releases.versions() == [b]
    with pytest.raises(ReleaseError, match="at least 1"):
        desk.releases.prune(0)


def test_prune_waits_for_no_index_job(desk: Desk, built: Callable[..., list[str]]) -> None:
    """While a job is at work nothing is deleted under it."""
    built(3)
    with (
        desk.releases.building(),
        pytest.raises(ReleaseError, match=rf"another index job .* \(process {os.getpid()}\)"),
    ):
        Releases(desk.releases.root).prune(1)
    assert len(desk.releases.versions()) == 3


def test_publishing_from_many_threads_loses_nothing(desk: Desk, built: Callable[..., list[str]]) -> None:
    """Readers always see a complete CURRENT, and every publication is remembered."""
    versions = built(3)
    stop = threading.Event()
    seen: set[str | None] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(Releases(desk.releases.root).current())

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=Releases(desk.releases.root).publish, args=(v,)) for v in versions * 5]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert seen <= {None, *versions}
    state = json.loads((desk.releases.root / CURRENT_FILE).read_text())
    assert sorted([state["version"], *state["previous"]]) == sorted(versions)


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    """Listing nothing is empty; publishing or rolling back there says that the directory is missing."""
    releases = Releases(tmp_path / "nowhere")
    assert (list(releases.list()), releases.current(), list(releases.versions())) == ([], None, [])
    with pytest.raises(ReleaseError, match="does not exist"):
        releases.publish("0" * 16)
    with pytest.raises(ReleaseError, match="does not exist"):
        releases.rollback()
