"""Fixtures that every part uses: the tiny bundle, and a real Redis server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.redis_server import RedisServer
from tests.tools import need
from towers import Bundle, open_bundle

settings.register_profile("dualtower", deadline=None)  # wall-clock limits fail on a busy machine
settings.load_profile("dualtower")

TINY = Path(__file__).parent / "golden" / "tiny"
TINY_EXITS = Path(__file__).parent / "golden" / "tiny_exits"


@pytest.fixture(scope="session")
def tiny_bundle_path() -> Path:
    """A real bundle of 2 layers, 16 wide; tests/golden/make_tiny.py says how it is made."""
    return TINY


@pytest.fixture(scope="session")
def tiny_bundle() -> Bundle:
    return open_bundle(TINY)


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may break."""
    return Path(shutil.copytree(TINY, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def tiny_exits() -> Bundle:
    """The tiny bundle with a sentiment head of two stages; tests/golden/make_tiny_exits.py says how it is made."""
    return open_bundle(TINY_EXITS)


@pytest.fixture
def tiny_exits_copy(tmp_path: Path) -> Path:
    """A copy of it that a test may break."""
    return Path(shutil.copytree(TINY_EXITS, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a real Redis server that lives as long as the test run."""
    need("redis-server", "redis-server")
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def redis_factory() -> Iterator[Callable[[], RedisServer]]:
    """Makes real Redis servers that a test may stop and start again; all are stopped at its end."""
    need("redis-server", "redis-server")
    servers: list[RedisServer] = []

    def make() -> RedisServer:
        server = RedisServer()
        server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
