"""The runbook's commands, given to a real service: each shows afterwards what the runbook says that it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from service.keys import new_key
from tests.conftest import TINY
from tests.redis_server import RedisServer
from tests.service.served import ROOT, Served, eventually

QUESTION = {"query": "red shoe", "k": 1}


def dualtower(*words: str | Path) -> str:
    """What a command of the runbook prints."""
    command = [sys.executable, "-m", "dualtower", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def index(root: Path, titles: list[str], *options: str) -> None:
    source = root.parent / "titles.csv"
    source.write_text("id,title\n" + "".join(f"{i},{title}\n" for i, title in enumerate(titles)))
    dualtower("index", source, "--releases", root, "--bundle", TINY, "--publish", *options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "releases"
    index(root, ["red shoe", "blue phone"])
    return root


def test_rebuild_then_rollback(root: Path) -> None:
    """Services follow both within moments, without a restart and without a failed request."""
    with Served(root) as server:
        first = server.ready()["release"]
        index(root, ["red shoe", "blue phone", "green lamp"])
        eventually(lambda: server.ready()["release"] != first, "the new release is in use")
        assert server.metric("dualtower_release_titles") == 3
        assert server.metric("dualtower_release_changes_total") == 2
        assert first in dualtower("releases", "list", "--releases", root)
        dualtower("releases", "rollback", "--releases", root)
        eventually(lambda: server.ready()["release"] == first, "the release before is in use")
        assert server.metric("dualtower_release_refused") == 0
        assert server.post("/v1/search", **QUESTION)[0] == 200
        dualtower("releases", "prune", "--releases", root, "--keep", "3")


def test_key_rotation(root: Path, tmp_path: Path) -> None:
    """Nobody is refused while both keys are in force; the old one is once its line is gone; no restart."""
    (old, old_line), (new, new_line) = new_key("shop"), new_key("shop")
    file = tmp_path / "keys"
    file.write_text(f"{old_line}\n")
    with Served(root, api_keys_file=file) as server, server.connect() as client:

        def status(key: str) -> int:
            return client.ask("POST", "/v1/search", QUESTION, headers={"X-API-Key": key})[0]

        assert (status(old), status(new)) == (200, 401)
        file.write_text(f"{old_line}\n{new_line}\n")
        eventually(lambda: status(new) == 200, "the new key is known")
        assert status(old) == 200
        file.write_text(f"{new_line}\n")
        eventually(lambda: status(old) == 401, "the old key is gone")
        assert status(new) == 200
        assert server.logged("keys read")[-1]["names"] == ["shop"]
        assert old not in server.log
        assert new not in server.log


def test_redis_that_came_back_empty(tmp_path: Path, redis_factory: Callable[[], RedisServer]) -> None:
    """The service goes on; the same index command fills Redis again, and the service reads from there."""
    store, root = redis_factory(), tmp_path / "releases"
    index(root, ["red shoe", "blue phone"], "--redis", store.url)

    def source() -> Any:
        return server.get("/info")[1]["title_vectors"]

    with Served(root, redis=store.url) as server:
        eventually(lambda: source() == "redis", "vectors come from Redis")
        release = server.ready()["release"]
        redis.Redis.from_url(store.url).flushall()
        eventually(lambda: bool(server.ready()["degraded"]), "the loss is noticed")
        assert source() == "memory map"
        assert server.post("/v1/match", query="red shoe", title_ids=["0", "1"])[0] == 200
        index(root, ["red shoe", "blue phone"], "--redis", store.url)
        eventually(lambda: source() == "redis", "vectors come from Redis again")
        assert server.ready() == {"ready": True, "not_ready": [], "degraded": [], "release": release}
