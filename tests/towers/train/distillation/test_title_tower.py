"""A bundle opens another one's releases if, and only if, it makes the same title vectors bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.service.served import make_release
from towers import Bundle, BundleError, open_bundle
from towers.bundle import LAYOUT, Manifest
from towers.errors import BundleMismatchError
from towers.train.distillation.title_tower import title_tower_sha256
from towers.train.write import Parts, read_parts, write_bundle


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> tuple[Path, str]:
    """A release of the tiny bundle."""
    root = tmp_path_factory.mktemp("titles") / "releases"
    return root, make_release(root, tiny_bundle, prefix="a", count=20)


def opened(releases: tuple[Path, str], bundle: Bundle) -> int:
    from index.release import open_release

    release = open_release(releases[0], releases[1], bundle=bundle)
    release.close()
    return release.manifest.count


def nudged(parts: Parts, name: str) -> None:
    """Change the last bit of an int8 matrix's weights."""
    tensor = next(
        t for t in parts.graphs[name].graph.initializer if t.data_type == TensorProto.INT8 and t.raw_data
    )
    tensor.raw_data = bytes(byte ^ 1 for byte in tensor.raw_data)


def split(parts: Parts) -> Parts:
    """The same towers as two graphs."""
    encoder = parts.graphs[LAYOUT.encoder]
    graphs = {name: graph for name, graph in parts.graphs.items() if name != LAYOUT.encoder}
    parts.graphs = graphs | {
        LAYOUT.title: encoder,
        LAYOUT.query: type(encoder).FromString(encoder.SerializeToString()),
    }
    return parts


def test_another_query_tower_opens_the_release(
    tiny_bundle_path: Path, tmp_path: Path, releases: tuple[Path, str]
) -> None:
    """Queries get other vectors, titles the very same: the release of the first bundle is opened."""
    parts = split(read_parts(tiny_bundle_path))
    nudged(parts, LAYOUT.query)
    bundle, original = write_bundle(tmp_path / "out", parts), open_bundle(tiny_bundle_path)
    assert bundle.bundle_id != original.bundle_id
    assert bundle.titles_id == original.titles_id == original.bundle_id
    texts = ["red shoe", "手机订单", "warm milk and coffee"]
    assert np.array_equal(bundle.encode_titles(texts), original.encode_titles(texts))
    assert not np.array_equal(bundle.encode_queries(texts), original.encode_queries(texts))
    assert opened(releases, bundle) == 20


def test_a_bundle_made_from_such_a_bundle_opens_it_too(
    tiny_bundle_path: Path, tmp_path: Path, releases: tuple[Path, str]
) -> None:
    """The id is handed on: a second change of the query tower still names the first bundle."""
    first = split(read_parts(tiny_bundle_path))
    nudged(first, LAYOUT.query)
    write_bundle(tmp_path / "first", first)
    second = read_parts(tmp_path / "first")
    second.facts["threshold"] = 0.25
    bundle = write_bundle(tmp_path / "second", second)
    assert bundle.titles_id == open_bundle(tiny_bundle_path).bundle_id
    assert opened(releases, bundle) == 20


def other_weights(parts: Parts) -> None:
    nudged(parts, LAYOUT.encoder)


def other_prefix(parts: Parts) -> None:
    parts.facts["title_prefix"] = "title: "


def other_length(parts: Parts) -> None:
    parts.facts["max_tokens"] = 16


def other_tokenizer(parts: Parts) -> None:
    content = json.loads(parts.tokenizer)
    content["normalizer"]["lowercase"] = not content["normalizer"]["lowercase"]
    parts.tokenizer = json.dumps(content)


def other_operator(parts: Parts) -> None:
    graph = parts.graphs[LAYOUT.encoder].graph
    next(node for node in graph.node if node.attribute).attribute[0].i += 1


@pytest.mark.parametrize(
    "change", [other_weights, other_prefix, other_length, other_tokenizer], ids=lambda f: f.__name__
)
def test_another_title_tower_is_refused(
    tiny_bundle_path: Path, tmp_path: Path, releases: tuple[Path, str], change: Any
) -> None:
    """The weights' last bits, the prefix, the length or the tokenizer changed: the release is refused by both names."""
    parts = read_parts(tiny_bundle_path)
    change(parts)
    bundle = write_bundle(tmp_path / "out", parts)
    assert bundle.titles_id == bundle.bundle_id
    assert "title_tower" not in bundle.manifest.recipe
    with pytest.raises(BundleMismatchError, match=bundle.bundle_id[:16]):
        opened(releases, bundle)


@pytest.mark.parametrize(
    "change",
    [other_weights, other_prefix, other_length, other_tokenizer, other_operator],
    ids=lambda f: f.__name__,
)
def test_whatever_makes_a_title_vector_counts(tiny_bundle_path: Path, change: Any) -> None:
    parts = read_parts(tiny_bundle_path)
    before = title_tower_sha256(parts.graphs, parts.tokenizer, parts.facts)
    change(parts)
    assert title_tower_sha256(parts.graphs, parts.tokenizer, parts.facts) != before


def test_what_makes_no_title_vector_does_not_count(tiny_bundle_path: Path) -> None:
    """Two graphs for one, another query prefix, another threshold: titles keep their vectors."""
    parts = read_parts(tiny_bundle_path)
    before = title_tower_sha256(parts.graphs, parts.tokenizer, parts.facts)
    parts = split(parts)
    parts.facts |= {"query_prefix": "query: ", "threshold": 0.9}
    assert title_tower_sha256(parts.graphs, parts.tokenizer, parts.facts) == before


def test_a_claim_by_hand_is_found_out(tiny_bundle_path: Path, tmp_path: Path) -> None:
    """A manifest that names a title tower that the bundle does not have is refused when the bundle is changed."""
    parts = read_parts(tiny_bundle_path)
    nudged(parts, LAYOUT.encoder)
    directory = write_bundle(tmp_path / "out", parts).path
    content = json.loads((directory / LAYOUT.manifest).read_text())
    content["recipe"]["title_tower"] = {"bundle_id": "a" * 64, "sha256": "b" * 64}
    content["labels"] = tuple(content["labels"])
    (directory / LAYOUT.manifest).write_text(Manifest(**content).to_json())
    with pytest.raises(BundleError, match=r"says that its title tower has SHA-256 bbbb.*, found"):
        read_parts(directory)


def test_a_bundle_that_is_read_and_written_is_itself(tiny_bundle_path: Path, tmp_path: Path) -> None:
    """Unchanged, it needs no claim to its own releases; with one, it keeps it and its id."""
    parts = split(read_parts(tiny_bundle_path))
    derived = write_bundle(tmp_path / "derived", parts)
    again = write_bundle(tmp_path / "again", read_parts(tmp_path / "derived"))
    assert again.bundle_id == derived.bundle_id
    assert again.titles_id == open_bundle(tiny_bundle_path).bundle_id
