"""Bundles are written whole or not at all, and store equal tensors once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from towers import BundleError, InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.write import check_target, read_parts, share_weights, write_bundle


def test_a_bundle_survives_reading_and_writing(tiny_bundle_path: Path, tmp_path: Path) -> None:
    """Read into parts and written again, a bundle has the same content, hence the same id."""
    again = write_bundle(tmp_path / "again", read_parts(tiny_bundle_path))
    assert again.bundle_id == open_bundle(tiny_bundle_path).bundle_id


def test_equal_tensors_are_stored_once(tiny_bundle_path: Path, tmp_path: Path) -> None:
    """Two graphs with the same weights need the space of one."""
    graphs = {name: read_parts(tiny_bundle_path).graphs[LAYOUT.encoder] for name in ("one.onnx", "two.onnx")}
    share_weights({"one.onnx": graphs["one.onnx"]}, tmp_path / "alone.bin")
    share_weights(
        {name: read_parts(tiny_bundle_path).graphs[LAYOUT.encoder] for name in graphs}, tmp_path / "both.bin"
    )
    assert (tmp_path / "both.bin").stat().st_size == (tmp_path / "alone.bin").stat().st_size > 0


def test_the_head_shares_the_frozen_layers(tiny_bundle_path: Path) -> None:
    """The embeddings of tower and head are one place in weights.bin."""
    places = []
    for name in (LAYOUT.encoder, LAYOUT.sentiment):
        graph = onnx.load(str(tiny_bundle_path / name), load_external_data=False).graph
        external = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        places.append({entry.value for t in external for entry in t.external_data if entry.key == "offset"})
    assert places[0] & places[1]


def test_an_existing_bundle_is_kept_unless_replaced(tiny_copy: Path, tiny_bundle_path: Path) -> None:
    parts = read_parts(tiny_bundle_path)
    parts.facts["threshold"] = 0.25
    with pytest.raises(
        InputError, match=r"already holds a bundle\. Choose another directory, or pass --replace"
    ):
        write_bundle(tiny_copy, parts)
    assert open_bundle(tiny_copy).threshold == 0.5

    assert write_bundle(tiny_copy, parts, replace=True).threshold == 0.25


def test_anything_but_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no bundle; nothing was written"):
        check_target(tmp_path, replace=True)


def test_a_failed_write_leaves_nothing(tmp_path: Path, tiny_bundle_path: Path) -> None:
    """A bundle that does not open is not put in place, and its pieces are removed."""
    parts = read_parts(tiny_bundle_path)
    parts.tokenizer = "no tokenizer"
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "out", parts)
    assert list(tmp_path.iterdir()) == []


def test_extra_files_are_part_of_the_bundle(tmp_path: Path, tiny_bundle_path: Path) -> None:
    """A model card counts towards the id: changing it afterwards is noticed."""
    parts = read_parts(tiny_bundle_path)
    parts.extra_files[LAYOUT.card] = "# Model card\n"
    bundle = write_bundle(tmp_path / "out", parts)
    assert LAYOUT.card in bundle.manifest.files
    np.testing.assert_array_equal(
        bundle.encode_queries(["tea"]), open_bundle(tiny_bundle_path).encode_queries(["tea"])
    )
