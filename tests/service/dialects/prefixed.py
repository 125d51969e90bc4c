"""A service for dialects: its two towers differ, so that a test sees which one has encoded, and it asks for a key."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from index.releases import Releases
from tests.conftest import TINY
from tests.service.served import Served, make_release
from towers import Bundle, open_bundle
from towers.bundle import LAYOUT, Manifest

KEY = "a-key-of-the-tests"


def prefixed_bundle(directory: Path) -> Bundle:
    """The tiny bundle, but with a text before each query, and as if its vectors could be cut to 8 numbers."""
    path = Path(shutil.copytree(TINY, directory / "bundle"))
    manifest = Manifest.read(path)
    recipe = {**manifest.recipe, "bilingual": {"short_dim": 8}}
    manifest = replace(manifest, query_prefix="music box ", recipe=recipe)
    (path / LAYOUT.manifest).write_text(manifest.to_json(), encoding="utf-8")
    return open_bundle(path)


def served_release(root: Path, bundle: Bundle, **settings: Any) -> Served:
    """A server with a published release of 40 titles, `a-0` and so on, that asks for `KEY`."""
    Releases(root).publish(make_release(root, bundle, prefix="a", count=40))
    return Served(root, bundle=bundle.path, api_key=KEY, **settings)
