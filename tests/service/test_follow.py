from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from index.releases import CURRENT_FILE
from service.follow import Follower
from service.serving import Serving
from service.state import State
from tests.service.fakes import FakeBundle, FakeRelease, fake_state, serving_of
from towers.errors import BundleMismatchError, ReleaseError


class World:
    """A directory in which releases are published, a follower, and a clock that is moved by hand."""

    def __init__(self, root: Path) -> None:
        self.root, self.time, self.opened = root, 0.0, []
        self.broken: dict[str, Exception] = {}
        self.state: State = fake_state(root)
        self.follower = Follower(
            root, self.state.in_use, self.open, self.state.metrics, retry_s=5, now=lambda: self.time
        )
        self.state.follower = self.follower

    def open(self, version: str) -> Serving:
        self.opened.append(version)
        if version in self.broken:
            raise self.broken[version]
        return serving_of(version, FakeBundle(), FakeRelease(), self.state.metrics)

    def publish(self, version: str) -> None:
        """As index.releases does it: a new file takes the name."""
        temporary = self.root / "new"
        temporary.write_text(json.dumps({"version": version, "previous": []}))
        os.replace(temporary, self.root / CURRENT_FILE)

    @property
    def version(self) -> str | None:
        return self.state.in_use.version


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_published_release_is_taken_into_use(world: World) -> None:
    """The first, and each one after; metrics name the one in use and only that."""
    world.follower.look()
    assert world.version is None
    assert world.follower.problem is None
    for version in ("a" * 16, "b" * 16):
        world.publish(version)
        world.follower.look()
        assert world.version == version
        lines = [line for line in world.state.metrics.text().decode().splitlines() if "release_info{" in line]
        assert len(lines) == 1
        assert version in lines[0]


def test_nothing_is_opened_while_nothing_changes(world: World) -> None:
    """A look at an unchanged CURRENT costs one stat; publishing the same version again opens nothing."""
    world.publish("a" * 16)
    for _ in range(3):
        world.follower.look()
    world.publish("a" * 16)
    world.follower.look()
    assert world.opened == ["a" * 16]


@pytest.mark.parametrize(
    "error",
    [ReleaseError("vectors.npy is truncated"), BundleMismatchError("other bundle"), RuntimeError("odd")],
)
def test_the_old_release_stays_when_the_new_one_is_refused(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Ready stays 200, names the reason under degraded, and the log says it once, not at every look."""
    world.publish("a" * 16)
    world.follower.look()
    world.broken["b" * 16] = error
    world.publish("b" * 16)
    with caplog.at_level(logging.ERROR):
        for _ in range(30):
            world.time += 1
            world.follower.look()
    assert world.version == "a" * 16
    assert [record.message for record in caplog.records] == ["published release refused"]
    ready = world.state.ready()
    assert ready["ready"]
    assert str(error) in ready["degraded"][0]
    assert "stays in use" in ready["degraded"][0]
    assert "dualtower_release_refused 1.0" in world.state.metrics.text().decode()


def test_a_refused_release_is_tried_again(world: World) -> None:
    """It may have been copied while it was published; once it is sound it is used, and all is well."""
    world.broken["a" * 16] = ReleaseError("titles.faiss is missing")
    world.publish("a" * 16)
    world.follower.look()
    assert "titles.faiss is missing" in world.state.ready()["not_ready"][0]
    del world.broken["a" * 16]
    world.time += 4
    world.follower.look()
    assert world.version is None
    world.time += 2
    world.follower.look()
    assert world.version == "a" * 16
    assert world.state.ready()["degraded"] == []
    assert "dualtower_release_refused 0.0" in world.state.metrics.text().decode()


def test_a_refused_release_is_forgotten_when_another_is_published(world: World) -> None:
    """Rolling back to the one in use ends the trouble."""
    world.publish("a" * 16)
    world.follower.look()
    world.broken["b" * 16] = ReleaseError("broken")
    world.publish("b" * 16)
    world.follower.look()
    world.publish("a" * 16)
    world.follower.look()
    assert world.follower.problem is None
    assert world.opened == ["a" * 16, "b" * 16]


def test_an_unreadable_current_is_a_problem_not_the_end(world: World) -> None:
    """Somebody wrote CURRENT by hand, badly."""
    world.publish("a" * 16)
    world.follower.look()
    (world.root / CURRENT_FILE).write_text("latest, please")
    world.follower.look()
    assert world.version == "a" * 16
    assert CURRENT_FILE in str(world.follower.problem)


def test_a_missing_current_takes_nothing_out_of_use(world: World) -> None:
    """A directory that vanishes, for example a lost mount, must not stop a service that can go on."""
    world.publish("a" * 16)
    world.follower.look()
    (world.root / CURRENT_FILE).unlink()
    world.follower.look()
    assert world.version == "a" * 16
