from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from index.faiss_index import INDEX_FILE
from index.manifest import MANIFEST_FILE
from index.release import Release, open_release
from index.titles import TITLES_FILE
from index.vectors import VECTORS_FILE, cosines_of
from tests.index.conftest import Desk, sample_rows
from tests.index.fake_encoder import DIM, FakeEncoder
from towers.errors import BundleMismatchError, DualtowerError, InputError, ReleaseError


def test_a_title_is_found_by_its_text(shared_desk: Desk, release: Release) -> None:
    """The best match of a title's own text is that title, and the answer leads back to its id and fields."""
    rows = sample_rows()
    for row in (0, 57, 298):
        query = shared_desk.encoder.encode_queries([rows[row]["title"]])[0]
        cosines, found = release.search(query, 3)
        title = release.title(int(found[0]))
        assert (title.id, title.title) == (rows[row]["id"], rows[row]["title"])
        assert title.fields == {name: rows[row][name] for name in ("supplier", "price", "stock")}
        assert cosines[0] > 0.99


def test_a_filtered_search_is_exact(shared_desk: Desk, release: Release) -> None:
    """Restricted to some rows, a search is a sort of those rows' cosines; repeated rows count once."""
    query = shared_desk.encoder.encode_queries(["title 7"])[0]
    rows = release.rows_where("supplier", "联想")
    assert rows.tolist() == [i for i, row in enumerate(sample_rows()) if row["supplier"] == "联想"]
    cosines, found = release.search(query, 5, rows=np.concatenate([rows[::-1], rows]))
    everything = cosines_of(query, release.vectors(rows))
    assert found.tolist() == rows[np.argsort(-everything, kind="stable")[:5]].tolist()
    assert np.array_equal(cosines, np.sort(everything)[::-1][:5])


def test_a_search_within_all_rows_is_the_search(shared_desk: Desk, release: Release) -> None:
    """One cosine for a title, whichever way it is found."""
    query = shared_desk.encoder.encode_queries(["title 7"])[0]
    free, within = release.search(query, 20), release.search(query, 20, rows=np.arange(release.count))
    assert free[1].tolist() == within[1].tolist()
    assert np.array_equal(free[0], within[0])


def test_a_search_within_no_rows_finds_nothing(shared_desk: Desk, release: Release) -> None:
    """A filter that no title passes gives an empty answer."""
    query = shared_desk.encoder.encode_queries(["title 7"])[0]
    cosines, rows = release.search(query, 5, rows=release.rows_where("supplier", "nobody"))
    assert (len(cosines), len(rows), rows.dtype) == (0, 0, np.int64)


def test_wrong_arguments_are_input_errors(release: Release) -> None:
    """A vector of another length, a k below 1 and a row outside are refused with what was expected."""
    unit = np.eye(1, DIM, dtype=np.float32)[0]
    with pytest.raises(InputError, match=r"shape \(5,\), this release expects \(24,\)"):
        release.search(np.ones(5, np.float32), 3)
    with pytest.raises(InputError, match="k is 0"):
        release.search(unit, 0)
    with pytest.raises(InputError, match="no row 300: rows go from 0 to 299"):
        release.search(unit, 1, rows=np.array([3, 300]))
    with pytest.raises(InputError, match="no row -1"):
        release.vectors(np.array([-1]))


def test_vectors_have_length_one(release: Release) -> None:
    """Rows are float32 of length 1, in the order asked for."""
    vectors = release.vectors([5, 3, 5])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[2])
    assert release.vectors([]).shape == (0, DIM)


def test_ids_lead_to_rows(release: Release) -> None:
    """Known ids have rows, unknown ones None."""
    assert release.rows_of(["sku-4", "nope", "sku-0"]) == [4, None, 0]
    assert release.rows_of([]) == []
    assert (release.row_of("sku-299"), release.row_of("SKU-299")) == (299, None)


def test_closing_is_final(shared_desk: Desk) -> None:
    """A closed release says so; closing twice is fine."""
    release = open_release(shared_desk.releases.root)
    release.close()
    release.close()
    with pytest.raises(ReleaseError, match="is closed"):
        release.row_of("sku-1")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (VECTORS_FILE, truncate, r"vectors\.npy has 14,428 bytes, its manifest says 14,528"),
        (VECTORS_FILE, flip, r"vectors\.npy has SHA-256"),
        (VECTORS_FILE, Path.unlink, r"lacks .*vectors\.npy"),
        (INDEX_FILE, truncate, r"titles\.faiss has .* bytes"),
        (INDEX_FILE, flip, r"titles\.faiss has SHA-256"),
        (TITLES_FILE, truncate, r"titles\.jsonl has .* bytes"),
        (MANIFEST_FILE, Path.unlink, r"has no manifest\.json"),
        (MANIFEST_FILE, truncate, r"manifest\.json cannot be read"),
    ],
)
def test_a_damaged_release_is_refused(
    shared_desk: Desk, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    """Whatever file is damaged, opening names the file, and the way out."""
    root = Path(shutil.copytree(shared_desk.releases.root, tmp_path / "releases"))
    version = shared_desk.releases.published()
    damage(root / version / name)
    with pytest.raises(ReleaseError, match=message) as caught:
        open_release(root)
    assert "dualtower index" in str(caught.value)
    assert "rollback" in str(caught.value)


@pytest.mark.parametrize("change", [{"format": "dualtower-release/9"}, {"extra": 1}, {"count": 7}])
def test_a_manifest_of_another_kind_is_refused(
    shared_desk: Desk, tmp_path: Path, change: dict[str, object]
) -> None:
    """A manifest of another format, with other keys, or that does not fit the files is an error, not a guess."""
    root = Path(shutil.copytree(shared_desk.releases.root, tmp_path / "releases"))
    path = root / shared_desk.releases.published() / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ReleaseError):
        open_release(root)


def test_another_bundle_is_refused_by_both_names(shared_desk: Desk) -> None:
    """A reader with another bundle hears which bundle built the release, which is open, and what to do."""
    root = shared_desk.releases.root
    open_release(root, bundle=FakeEncoder()).close()
    with pytest.raises(
        BundleMismatchError, match=r"bundle bbbbbbbbbbbbbbbb…, but bundle aaaaaaaaaaaaaaaa… is open"
    ):
        open_release(root, bundle=FakeEncoder(bundle_id="a" * 64))


@pytest.mark.parametrize("version", ["0" * 16, "../elsewhere", "x"])
def test_a_version_that_is_not_there(shared_desk: Desk, version: str) -> None:
    """An unknown version is an error, also one that would lead out of the directory."""
    with pytest.raises(DualtowerError):
        open_release(shared_desk.releases.root, version)


def test_nothing_published(tmp_path: Path) -> None:
    """Without CURRENT the error says how to get one."""
    with pytest.raises(ReleaseError, match="dualtower index TITLES --publish"):
        open_release(tmp_path)
