from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.service.served import make_release
from towers import Bundle, InputError, open_bundle
from towers.bundle import LAYOUT
from towers.train.bodies import body_of
from towers.train.distillation.query_tower import with_query_tower
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.precision import Precision
from towers.train.structures.cut import cut
from towers.train.write import read_parts, write_bundle

TEXTS = ["red running shoes", "a", "手机订单", "warm milk and coffee", "lost bank card"]
LICENCES: dict[str, Any] = {"base": None, "base_licence": "Apache-2.0", "licence": "Apache-2.0"}


@pytest.fixture(scope="module")
def original(tower: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny tower, both towers one graph."""
    parts = tower_parts(tower, texts=TEXTS, **LICENCES)
    return write_bundle(tmp_path_factory.mktemp("bundles") / "original", parts).path


@pytest.fixture
def student(tower: Any) -> Any:
    shallow = copy.deepcopy(tower)
    cut(shallow, (0,))
    return shallow


def test_a_cut_query_tower_serves_old_releases(original: Path, student: Any, tmp_path: Path) -> None:
    """Queries are the student's, titles the original's bit for bit, and the original's release is searched."""
    from index.release import open_release

    root = tmp_path / "releases"
    version = make_release(root, open_bundle(original), prefix="a", count=30)
    parts = with_query_tower(
        read_parts(original),
        student,
        texts=TEXTS,
        precision=Precision("float32", "float32"),
        settings={"cut": [0]},
    )
    bundle, before = write_bundle(tmp_path / "cut", parts), open_bundle(original)

    assert np.array_equal(bundle.encode_titles(TEXTS), before.encode_titles(TEXTS))
    expected = np.asarray(student.encode(TEXTS, batch_size=1, show_progress_bar=False))
    assert np.allclose(bundle.encode_queries(TEXTS), expected, atol=1e-5)
    release = open_release(root, version, bundle=bundle)
    cosines, _ = release.search(bundle.encode_queries(["red shoe 0"])[0], 3)
    assert len(cosines) == 3
    release.close()


def test_what_was_done_is_in_the_manifest(original: Path, student: Any, tmp_path: Path) -> None:
    """The settings, the loss of the export, and how far the new queries are from the old ones."""
    bundle = write_bundle(
        tmp_path / "cut", with_query_tower(read_parts(original), student, texts=TEXTS, settings={"cut": [0]})
    )
    recipe, metrics = bundle.manifest.recipe["query_tower"], bundle.manifest.metrics["query_tower"]
    assert recipe["cut"] == [0]
    assert recipe["precision"]["matmul"] == "int8"
    by_hand = (bundle.encode_queries(TEXTS) * open_bundle(original).encode_queries(TEXTS)).sum(axis=1)
    assert metrics["to_replaced"]["mean_cosine"] == pytest.approx(float(by_hand.mean()), abs=1e-4)
    assert metrics["export"]["float32"]["mean_cosine"] == pytest.approx(1.0)
    assert bundle.manifest.recipe["title_tower"]["bundle_id"] == open_bundle(original).bundle_id


def test_weights_in_common_are_stored_once(original: Path, student: Any, tmp_path: Path) -> None:
    """Embeddings and the layer that stayed are the title tower's own: the second graph costs next to nothing."""
    bundle = write_bundle(tmp_path / "cut", with_query_tower(read_parts(original), student, texts=TEXTS))
    assert LAYOUT.encoder not in bundle.manifest.files
    assert _weights(bundle) < 1.1 * _weights(open_bundle(original))


def _weights(bundle: Bundle) -> int:
    return int(bundle.manifest.files[LAYOUT.weights]["bytes"])


def test_a_second_query_tower_takes_the_place_of_the_first(
    original: Path, student: Any, tmp_path: Path
) -> None:
    """A bundle that has two graphs already keeps its title graph and gets another query graph."""
    write_bundle(tmp_path / "cut", with_query_tower(read_parts(original), student, texts=TEXTS))
    last = copy.deepcopy(student)
    body_of(last).encoder.layer[0].output.dense.weight.data.mul_(0.5)
    bundle = write_bundle(
        tmp_path / "last", with_query_tower(read_parts(tmp_path / "cut"), last, texts=TEXTS)
    )
    assert bundle.titles_id == open_bundle(original).bundle_id
    assert sorted(name for name in bundle.manifest.files if name.endswith(".onnx")) == [
        LAYOUT.query,
        LAYOUT.scorer,
        LAYOUT.title,
    ]


def test_a_tower_that_does_not_fit_is_refused(original: Path, student: Any) -> None:
    """Another tokenizer, another width, fewer tokens, nothing to measure on: each is an error."""
    parts = read_parts(original)
    with pytest.raises(InputError, match="found no texts"):
        with_query_tower(parts, student, texts=[])
    short = copy.deepcopy(student)
    short.max_seq_length = 16
    with pytest.raises(InputError, match="16 tokens at most, expected the bundle's 32"):
        with_query_tower(parts, short, texts=TEXTS)
    parts.facts["dim"] = 8
    with pytest.raises(InputError, match="width 16, expected the bundle's 8"):
        with_query_tower(parts, student, texts=TEXTS)
    parts.tokenizer = "{}"
    with pytest.raises(InputError, match="another tokenizer than the bundle's"):
        with_query_tower(parts, student, texts=TEXTS)
