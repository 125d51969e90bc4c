"""A directory of releases for a real service."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.releases import Releases
from tests.service.served import make_release
from towers import Bundle


@pytest.fixture
def root(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    root = tmp_path / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    return root
