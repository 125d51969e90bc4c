from __future__ import annotations

import json
import os
import resource
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from index import redis_release
from index.build import BAD_ROWS_FILE
from index.redis_titles import RedisTitles
from index.release import open_release
from index.releases import INTAKE, WORK_PREFIX
from tests.index.conftest import Desk, sample_rows, write_rows
from tests.index.fake_encoder import DIM, FakeEncoder
from tests.redis_server import RedisServer
from towers.errors import InputError, RedisUnavailableError, ReleaseError


class Killed(BaseException):
    """Ends a job where no handler of errors can notice, as a kill would."""


class Mortal(FakeEncoder):
    """Dies after some blocks."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self._left = blocks

    def encode_titles(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        if self._left == 0:
            raise Killed
        self._left -= 1
        return super().encode_titles(texts, progress=progress)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def release_of(desk: Desk, version: str) -> dict[str, bytes]:
    return contents(desk.releases.path(version))


def unfinished(desk: Desk) -> list[str]:
    return [path.name for path in desk.releases.root.iterdir() if path.name.startswith((WORK_PREFIX, INTAKE))]


def test_the_same_input_gives_the_same_release(desk: Desk, tmp_path: Path) -> None:
    """A release has no time and no place in it: built elsewhere, it is the same, byte for byte."""
    other = Desk(tmp_path / "other")
    (tmp_path / "other").mkdir()
    one, two = desk.index(sample_rows()), other.index(sample_rows())
    assert one == two
    assert release_of(desk, one.version) == release_of(other, two.version)
    assert unfinished(desk) == []


@pytest.mark.parametrize("blocks", [0, 1, 4])
def test_a_job_that_died_is_taken_up(desk: Desk, shared_desk: Desk, blocks: int) -> None:
    """After a death the same command encodes the other blocks only, says so, and ends with the same release."""
    desk.encoder = Mortal(blocks)
    with pytest.raises(Killed):
        desk.index(sample_rows(), publish=True)
    assert desk.releases.current() is None
    assert desk.releases.versions() == []

    desk.encoder = FakeEncoder()
    version = desk.index(publish=True).version
    assert len(desk.encoder.calls) == 6 - blocks
    assert f"in 6 blocks, {blocks} of them finished by an earlier run" in desk.said
    assert release_of(desk, version) == release_of(shared_desk, version)
    assert unfinished(desk) == []


def test_a_finished_release_is_not_built_again(desk: Desk) -> None:
    """The same titles, bundle and parameters are the same release; what a killed job has left is cleared."""
    first = desk.index(sample_rows())
    (desk.releases.root / (WORK_PREFIX + first.version) / "blocks").mkdir(parents=True)
    before = desk.encoded
    assert desk.index(publish=True) == first
    assert desk.encoded == before
    assert "is complete already" in desk.said
    assert unfinished(desk) == []
    assert desk.releases.current() == first.version


def test_a_damaged_release_is_built_again(desk: Desk) -> None:
    """Indexing again is the way out of a damaged release, also of the published one."""
    version = desk.index(sample_rows(), publish=True).version
    whole = release_of(desk, version)
    path = desk.releases.path(version) / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert desk.index(publish=True).version == version
    assert "there but broken" in desk.said
    assert release_of(desk, version) == whole


@pytest.mark.parametrize(
    "other",
    [
        {"rows": sample_rows()[:-1]},
        {"rows": sample_rows()[::-1]},
        {"index_factory": "Flat"},
        {"index_search": "", "index_factory": "HNSW8"},
        {"block_titles": 51},
    ],
)
def test_another_input_is_another_version(desk: Desk, other: dict[str, object]) -> None:
    """A version names its titles, their order, the index and the blocks."""
    first = desk.index(sample_rows())
    assert desk.index(**{"rows": sample_rows(), **other}).version != first.version  # type: ignore[arg-type]


def test_another_bundle_is_another_version(desk: Desk) -> None:
    """A version names the bundle; nothing of another bundle's release is reused, and the job says so."""
    first = desk.index(sample_rows(), publish=True)
    desk.encoder = FakeEncoder(bundle_id="a" * 64)
    second = desk.index(publish=True)
    assert second.version != first.version
    assert second.reused_from is None
    assert "no vectors are reused" in desk.said
    assert desk.encoded == 270


def test_the_same_title_tower_is_the_same_version(desk: Desk) -> None:
    """Only the title tower counts: a bundle with another query tower finds the release complete already."""
    first = desk.index(sample_rows())
    desk.encoder = FakeEncoder()  # whatever else its bundle holds, titles_id is the same
    assert desk.index().version == first.version
    assert "complete already" in desk.said


def test_vectors_of_unchanged_titles_are_reused(desk: Desk) -> None:
    """Only new texts are encoded; the others keep the very vector that the published release has."""
    first = desk.index(sample_rows(), publish=True)
    desk.encoder = FakeEncoder()
    changed = sample_rows(310)[::-1]
    changed[0]["title"] = "a new title"
    second = desk.index(changed, publish=True)
    assert desk.encoded == 10
    assert second.reused_from == first.version
    assert "270 vectors reused from release" in desk.said
    before, after = open_release(desk.releases.root, first.version), open_release(desk.releases.root)
    assert np.array_equal(before.stored_vectors(), after.stored_vectors()[:9:-1])
    desk.index(changed, reuse=False, block_titles=49)
    assert desk.encoded == 10 + 280


def test_an_unrelated_release_leaves_no_trace(desk: Desk, shared_desk: Desk) -> None:
    """When no text is shared with the published release, the new one is what it would be without it."""
    desk.index([{"id": "a", "title": "something else"}], publish=True)
    version = desk.index(sample_rows()).version
    assert release_of(desk, version) == release_of(shared_desk, version)


def test_another_index_over_the_same_titles_encodes_nothing(desk: Desk) -> None:
    """A release that was not good enough to be published still spares its successor the encoding."""
    first = desk.index(sample_rows(), index_factory="IVF16,SQ8")
    before = desk.encoded
    second = desk.index(publish=True)
    assert desk.encoded == before
    assert second.reused_from == first.version
    files = [release_of(desk, version)["vectors.npy"] for version in (first.version, second.version)]
    assert files[0] == files[1]


def test_what_is_reused_is_decided_once(desk: Desk, tmp_path: Path) -> None:
    """A job that died goes on with the release that it began to copy from, whatever was published since."""
    base = desk.index(sample_rows(100), publish=True)
    extra = desk.index(sample_rows(200))
    shutil.copytree(desk.releases.root, tmp_path / "uninterrupted" / "releases")
    uninterrupted = Desk(tmp_path / "uninterrupted")
    expected = uninterrupted.index(sample_rows())

    desk.encoder = Mortal(1)
    with pytest.raises(Killed):
        desk.index(sample_rows())
    desk.encoder = FakeEncoder()
    desk.releases.publish(extra.version)
    found = desk.index(publish=True)
    assert found.reused_from == base.version
    assert release_of(desk, found.version) == release_of(uninterrupted, expected.version)


def test_a_source_that_was_deleted_is_not_needed(desk: Desk) -> None:
    """When the release to copy from is gone, a job that died begins anew instead of failing."""
    base = desk.index(sample_rows(100), publish=True)
    desk.encoder = Mortal(1)
    with pytest.raises(Killed):
        desk.index(sample_rows())
    desk.releases.remove(base.version)
    desk.encoder = FakeEncoder()
    assert desk.index(publish=True).reused_from is None


def test_two_jobs_in_one_directory_exclude_each_other(desk: Desk) -> None:
    """The second job is told that there is a first, and nothing of the first is touched."""
    with desk.releases.building(), pytest.raises(ReleaseError, match="another index job is at work"):
        desk.index(sample_rows())
    assert desk.encoded == 0
    desk.index()


BAD = [{"id": "sku-1", "title": "again"}, {"id": "new", "title": " "}]


def test_bad_rows_refuse_the_file(desk: Desk) -> None:
    """One bad row and nothing is built or published; the published release stays."""
    version = desk.index(sample_rows(20), publish=True).version
    with pytest.raises(InputError, match="2 bad rows; nothing was built or published") as caught:
        desk.index(sample_rows(30) + BAD, publish=True)
    assert "row 31: the id 'sku-1' is already that of row 2" in str(caught.value)
    assert "row 32: the title (column 'title') is empty" in str(caught.value)
    assert desk.releases.current() == version
    assert desk.releases.versions() == [version]
    assert unfinished(desk) == []


@pytest.mark.parametrize("named", [True, False])
def test_bad_rows_can_be_left_out(desk: Desk, tmp_path: Path, named: bool) -> None:
    """Skipped rows go to a file with number, reason and text, and the rest is the release of the good rows."""
    bad_rows = tmp_path / "bad.jsonl" if named else None
    manifest = desk.index(sample_rows(30) + BAD, skip_bad_rows=True, bad_rows=bad_rows)
    lines = (bad_rows or desk.releases.root / BAD_ROWS_FILE).read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [31, 32]
    assert json.loads(json.loads(lines[0])["raw"]) == BAD[0]
    assert "2 bad rows left out" in desk.said
    assert desk.index(sample_rows(30)).version == manifest.version


def test_a_file_for_bad_rows_that_cannot_be_written(desk: Desk, tmp_path: Path) -> None:
    """A wrong --bad-rows is named before anything is read."""
    with pytest.raises(InputError, match=r"bad rows cannot be written to .*/nowhere/bad\.jsonl"):
        desk.index(sample_rows(5), bad_rows=tmp_path / "nowhere" / "bad.jsonl")


def test_no_good_row_at_all(desk: Desk) -> None:
    """A file whose rows are all bad is refused, also when bad rows are left out."""
    with pytest.raises(InputError, match="1 bad row;"):
        desk.index([{"id": "a", "title": ""}], skip_bad_rows=True)


@pytest.mark.parametrize("name", ["missing.jsonl", "titles.xyz", "."])
def test_a_file_that_cannot_be_read(desk: Desk, tmp_path: Path, name: str) -> None:
    """A missing file, an unknown format and a directory are input errors."""
    desk.source = tmp_path / name
    if name == "titles.xyz":
        desk.source.write_text("x")
    with pytest.raises(InputError, match=str(desk.source)):
        desk.index()


def test_recall_below_the_bound_is_not_published(desk: Desk) -> None:
    """An index that finds too little is built and kept, so that one can look at it, but not published."""
    rows = sample_rows()
    with pytest.raises(ReleaseError, match="lower --min-recall"):
        desk.index(rows, publish=True, index_factory="IVF64,PQ2x4", index_search="nprobe=1", min_recall=0.99)
    assert desk.releases.current() is None
    (version,) = desk.releases.versions()
    manifest = desk.releases.sound(version)
    assert manifest.recall < 0.99
    desk.index(publish=True, index_factory="IVF64,PQ2x4", index_search="nprobe=1", min_recall=manifest.recall)
    assert desk.releases.current() == version


def test_a_wrong_factory_is_refused_before_any_work(desk: Desk) -> None:
    """A typing error in --index-factory does not cost the time of encoding."""
    with pytest.raises(InputError, match="FAISS makes no index from 'IFV64'"):
        desk.index(sample_rows(), index_factory="IFV64")
    assert desk.encoded == 0


def test_a_full_disk_is_a_release_error(desk: Desk) -> None:
    """When writing fails the error says what to do, and the job can go on afterwards."""
    write_rows(desk.source, sample_rows())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ReleaseError, match=r"cannot write the release to .*; make room"):
            desk.index()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    desk.index(publish=True)


def test_a_directory_that_cannot_be_written(desk: Desk, tmp_path: Path) -> None:
    """A file where the directory should be is named."""
    (tmp_path / "releases").write_text("")
    with pytest.raises(ReleaseError, match=str(tmp_path / "releases")):
        desk.index(sample_rows())


def test_redis_holds_what_the_release_holds(desk: Desk, redis_url: str) -> None:
    """Every title's vector in Redis is the release's, bit for bit; a second run writes nothing."""
    manifest = desk.index(sample_rows(), redis_url=redis_url, publish=True)
    assert "wrote 300 titles to Redis" in desk.said
    release = open_release(desk.releases.root)
    redis = RedisTitles(redis_url, prefix=manifest.redis_prefix or "", dim=DIM)
    ids = [title.id for title in release.titles(range(300))]
    vectors, found = redis.vectors(ids)
    assert found.all()
    assert np.array_equal(vectors, release.vectors(np.arange(300)))
    desk.index(redis_url=redis_url, publish=True)
    assert f"has release {manifest.version} already" in desk.said
    assert redis.delete_release() == 300
    redis.close()


def test_keys_that_redis_has_lost_are_written_again(desk: Desk, redis_url: str) -> None:
    """A release that is not whole in Redis is written again, though it was whole once."""
    manifest = desk.index(sample_rows(), redis_url=redis_url)
    redis = RedisTitles(redis_url, prefix=manifest.redis_prefix or "", dim=DIM)
    redis.delete_release()
    redis.seal(300)
    desk.index(redis_url=redis_url)
    assert redis.count(["sku-0", "sku-299"]) == 2
    redis.delete_release()
    redis.close()


def test_redis_that_fails_during_the_job(
    desk: Desk, redis_factory: Callable[[], RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published, the release is whole on disk, and a rerun encodes nothing."""
    server = redis_factory()
    monkeypatch.setattr(redis_release, "_ROWS", 100)
    real_write = RedisTitles.write

    def write_then_crash(self: RedisTitles, ids: Sequence[str], *rest: object) -> None:
        real_write(self, ids, *rest)  # type: ignore[arg-type]
        server.stop()

    monkeypatch.setattr(RedisTitles, "write", write_then_crash)
    with pytest.raises(
        RedisUnavailableError, match=r"is complete in .* but was not published; run the same command"
    ):
        desk.index(sample_rows(), redis_url=server.url, publish=True)
    assert desk.releases.current() is None
    before = desk.encoded
    monkeypatch.setattr(RedisTitles, "write", real_write)
    server.start()
    manifest = desk.index(redis_url=server.url, publish=True)
    assert desk.encoded == before
    assert desk.releases.current() == manifest.version


def test_a_redis_that_forgets_is_noticed(desk: Desk, redis_factory: Callable[[], RedisServer]) -> None:
    """A Redis whose memory limit evicts keys does not count as written."""
    server = redis_factory()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"CONFIG SET maxmemory 1200kb maxmemory-policy allkeys-random\r\n")
        assert connection.recv(100) == b"+OK\r\n"
    rows = [{**row, "text": "x" * 5000} for row in sample_rows()]
    with pytest.raises(RedisUnavailableError, match="memory limit or eviction policy"):
        desk.index(rows, redis_url=server.url, publish=True)
    assert desk.releases.current() is None


def test_redis_that_is_not_there_is_noticed_first(desk: Desk) -> None:
    """A wrong URL does not cost the time of encoding."""
    with pytest.raises(RedisUnavailableError, match="leave it out; nothing was built"):
        desk.index(sample_rows(), redis_url="redis://127.0.0.1:1/0")
    assert desk.encoded == 0


def test_the_process_id_of_the_other_job_is_named(desk: Desk) -> None:
    """The person can find the job that is in the way."""
    with desk.releases.building(), pytest.raises(ReleaseError, match=rf"process {os.getpid()}\)"):
        desk.index(sample_rows(5))
