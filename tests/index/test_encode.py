from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.encode import Reuse, assemble, encode_blocks, finished_titles, make_plan
from index.titles import Title, TitleStore, WrittenTitles, write_titles
from index.vectors import TitleVectors
from tests.index.conftest import sample_rows
from tests.index.fake_encoder import FakeEncoder
from towers.errors import BundleError


def prepared(directory: Path, *, backwards: bool = False) -> tuple[TitleStore, WrittenTitles]:
    directory.mkdir(exist_ok=True)
    rows = sample_rows()
    titles = [Title(row["id"], row["title"], {}) for row in (reversed(rows) if backwards else rows)]
    written = write_titles(directory, titles)
    return TitleStore(directory), written


def encoded(directory: Path, *, backwards: bool = False, reuse: Reuse | None = None) -> TitleVectors:
    titles, written = prepared(directory, backwards=backwards)
    plan = make_plan(written, reuse=reuse, block_titles=50)
    encoder = FakeEncoder()
    encode_blocks(titles, written, plan, encoder=encoder, directory=directory, advance=lambda _: None)
    assemble(written, plan, reuse=reuse, blocks=directory, dim=encoder.dim, release=directory)
    return TitleVectors(directory)


def test_each_different_text_is_encoded_once(tmp_path: Path) -> None:
    """The plan has every different text once, in blocks of like lengths, and equal texts get one vector."""
    titles, written = prepared(tmp_path)
    plan = make_plan(written, reuse=None, block_titles=50)
    texts = [titles.title(int(row)).title for block in plan.blocks for row in block]
    assert len(texts) == len(set(texts)) == 270
    lengths = [len(text.encode()) for text in texts]
    assert lengths == sorted(lengths)
    vectors = encoded(tmp_path)
    assert np.array_equal(vectors.rows(np.array([8, 18])), vectors.rows(np.array([9, 19])))


def test_the_order_of_the_file_changes_no_vector(tmp_path: Path) -> None:
    """A block is decided by the texts, not by where they stand."""
    forwards, backwards = encoded(tmp_path / "f"), encoded(tmp_path / "b", backwards=True)
    assert np.array_equal(forwards.stored, backwards.stored[::-1])


def test_reused_vectors_are_copied_bit_for_bit(tmp_path: Path) -> None:
    """A text that an earlier release has gets that vector, and only the others are planned."""
    before = encoded(tmp_path / "before")
    titles, _ = prepared(tmp_path / "before")
    some = np.arange(100, 200)
    reuse = Reuse.of(titles.digests()[some], before.stored[some])
    _, written = prepared(tmp_path / "after")
    plan = make_plan(written, reuse=reuse)
    assert (len(plan.reused), plan.to_encode) == (90, 180)
    after = encoded(tmp_path / "after", reuse=reuse)
    assert np.array_equal(after.stored[some], before.stored[some])


def test_a_finished_block_is_not_encoded_again(tmp_path: Path) -> None:
    """A block is done when its file is there, and only then."""
    titles, written = prepared(tmp_path)
    plan = make_plan(written, reuse=None, block_titles=50)
    encoder = FakeEncoder()
    encode_blocks(titles, written, plan, encoder=encoder, directory=tmp_path, advance=lambda _: None)
    assert finished_titles(written, plan, tmp_path) == (6, 270)
    sorted(tmp_path.glob("block-*.npy"))[2].unlink()
    before = len(encoder.calls)
    encode_blocks(titles, written, plan, encoder=encoder, directory=tmp_path, advance=lambda _: None)
    assert len(encoder.calls) == before + 1


@pytest.mark.parametrize(("scale", "dim"), [(1.1, 24), (np.nan, 24), (1.0, 23)])
def test_vectors_that_are_none_are_refused(tmp_path: Path, scale: float, dim: int) -> None:
    """A bundle that gives another shape, another length than 1, or NaN is an error before anything is written."""

    class Broken(FakeEncoder):
        def encode_titles(self, texts, *, progress=None):  # type: ignore[no-untyped-def]
            return super().encode_titles(texts, progress=progress)[:, :dim] * np.float32(scale)

    titles, written = prepared(tmp_path)
    plan = make_plan(written, reuse=None)
    with pytest.raises(BundleError, match=r"the bundle gave"):
        encode_blocks(titles, written, plan, encoder=Broken(), directory=tmp_path, advance=lambda _: None)
    assert not list(tmp_path.glob("block-*"))
