"""Services over fakes, in the process of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from tests.service.fakes import FakeRelease, fake_state


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service with four titles."""
    with TestClient(create_app(fake_state(tmp_path, release=FakeRelease()))) as client:
        yield client


@pytest.fixture
def bare_client(tmp_path: Path) -> Iterator[TestClient]:
    """A service for which nothing is published."""
    with TestClient(create_app(fake_state(tmp_path))) as client:
        yield client
