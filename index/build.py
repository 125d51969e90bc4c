"""The offline job: titles in, a finished release out, published when it is good enough.

    take in ─▶ encode ─▶ assemble ─▶ index ─▶ measure ─▶ manifest ─▶ name ─▶ Redis ─▶ publish

Each step leaves a finished file or nothing, and gives the same bytes whenever it is done again; so a job that
was killed anywhere is repeated with the same command, takes up the finished files, and ends with the same
release.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from index.encode import (
    BLOCK_TITLES,
    Plan,
    Reuse,
    TitleEncoder,
    assemble,
    encode_blocks,
    finished_titles,
    make_plan,
)
from index.faiss_index import (
    INDEX_FILE,
    IndexKind,
    VectorSearch,
    build_index,
    check_kind,
    choose_kind,
    new_index,
)
from index.fields import FieldFilter
from index.files import TEMPORARY, sync, write_json
from index.intake import BadRows, Columns, read_titles
from index.manifest import FORMAT, MANIFEST_FILE, ReleaseManifest, describe_files, version_of, write_manifest
from index.progress import Reporter
from index.recall import measure_recall, sample_queries
from index.redis_release import check_redis, write_redis
from index.redis_titles import release_prefix
from index.release import open_release
from index.releases import DEFAULT_MIN_RECALL, INTAKE, WORK_PREFIX, Releases, check_recall
from index.titles import TitleStore, WrittenTitles, write_titles
from index.vectors import VECTORS_FILE, TitleVectors
from towers.errors import InputError, ReleaseError

BAD_ROWS_FILE: Final = "bad-rows.jsonl"


@dataclass(frozen=True)
class BuildOptions:
    """How to build, beside the titles and the bundle.

    Attributes:
        columns: of the input.
        skip_bad_rows: leave bad rows out instead of refusing the file.
        bad_rows: where to write them; None: into the releases directory when they are skipped.
        index_factory: a FAISS factory string; None: what suits the count.
        index_search: FAISS search parameters; None: what suits the index.
        reuse: copy the vectors of unchanged titles from the published release.
        block_titles: how many titles are encoded as one unit of work.
    """

    columns: Columns = field(default_factory=Columns)
    skip_bad_rows: bool = False
    bad_rows: Path | None = None
    index_factory: str | None = None
    index_search: str | None = None
    reuse: bool = True
    block_titles: int = BLOCK_TITLES


def index_titles(
    source: Path,
    releases: Releases,
    encoder: TitleEncoder,
    *,
    options: BuildOptions,
    report: Reporter,
    redis_url: str | None = None,
    publish: bool = False,
    min_recall: float = DEFAULT_MIN_RECALL,
) -> ReleaseManifest:
    """Do the whole job.

    Args:
        source: the file of titles.
        releases: where the release goes.
        encoder: makes the vectors.
        options: how to build.
        report: told how it is going.
        redis_url: also write the release to this Redis.
        publish: make the release the published one, last of all.
        min_recall: do not publish a release whose index finds less of the true best titles.

    Returns:
        The manifest of the release, which is complete on disk.

    Raises:
        InputError: the file or an option cannot be used; nothing was built.
        ReleaseError: another job is running, the disk is full, or the recall is below the bound.
        RedisUnavailableError: Redis failed; the release is complete on disk and was not published.
    """
    if redis_url is not None:
        check_redis(redis_url)  # now rather than after hours of encoding
    with _disk_errors(releases.root), releases.building():
        manifest = _build(source, releases, encoder, options=options, report=report)
        if publish:
            check_recall(manifest, min_recall)
        if redis_url is not None:
            write_redis(releases, manifest, redis_url=redis_url, report=report)
        if publish:
            releases.publish(manifest.version, min_recall=min_recall)
            report.say(f"published release {manifest.version}")
    return manifest


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ReleaseError(
            f"cannot write the release to {root}: {exc}; make room or allow writing there, then run the "
            "same command again: it goes on where it was"
        ) from exc


def _build(
    source: Path, releases: Releases, encoder: TitleEncoder, *, options: BuildOptions, report: Reporter
) -> ReleaseManifest:
    if options.index_factory is not None:
        new_index(choose_kind(1, factory=options.index_factory, search=options.index_search), encoder.dim)
    written = _take_in(source, releases.root, options=options, report=report)
    kind = choose_kind(
        written.count, dim=encoder.dim, factory=options.index_factory, search=options.index_search
    )
    check_kind(kind, dim=encoder.dim, count=written.count)
    parameters = {"factory": kind.factory, "search": kind.search, "block_titles": options.block_titles}
    version = version_of(encoder.titles_id, written.sha256, parameters)
    if (finished := _sound_release(releases, version, report=report)) is not None:
        shutil.rmtree(releases.root / INTAKE)
        shutil.rmtree(releases.root / (WORK_PREFIX + version), ignore_errors=True)
        report.say(f"release {version} is complete already: the same titles, bundle and index parameters")
        return finished
    job = _Job(
        version, releases, written, encoder, kind=kind, parameters=parameters, options=options, report=report
    )
    return job.run()


def _take_in(source: Path, root: Path, *, options: BuildOptions, report: Reporter) -> WrittenTitles:
    """Read the input once, check every row, and write the titles into the directory that awaits a version."""
    intake = root / INTAKE
    shutil.rmtree(intake, ignore_errors=True)
    intake.mkdir()
    bad_file = options.bad_rows or (root / BAD_ROWS_FILE if options.skip_bad_rows else None)
    try:
        with BadRows(bad_file) as bad:
            written = write_titles(intake, read_titles(source, columns=options.columns, bad=bad))
        if bad.count and (not options.skip_bad_rows or not written.count):
            raise bad.refusal(source)
    except InputError:
        shutil.rmtree(intake)
        raise
    left_out = f", {bad.count:,} bad rows left out and written to {bad_file}" if bad.count else ""
    report.say(f"read {written.count:,} titles from {source}{left_out}")
    return written


def _sound_release(releases: Releases, version: str, *, report: Reporter) -> ReleaseManifest | None:
    """The manifest of the release if it is there and whole; a broken one is built again."""
    if not releases.path(version).exists():
        return None
    try:
        return releases.sound(version)
    except ReleaseError as exc:
        report.say(f"release {version} is there but broken, building it again: {exc}")
        return None


class _Job:
    """The building of one release in its working directory, `.building-<version>`.

    There, `blocks/` holds the finished blocks, `release/` the files of the release, and `reuse.json` says
    which release vectors are copied from: it is decided once, so that publishing in the meantime does not
    change the result.
    """

    def __init__(
        self,
        version: str,
        releases: Releases,
        written: WrittenTitles,
        encoder: TitleEncoder,
        *,
        kind: IndexKind,
        parameters: dict[str, Any],
        options: BuildOptions,
        report: Reporter,
    ) -> None:
        self._version, self._releases, self._written, self._encoder = version, releases, written, encoder
        self._kind, self._parameters, self._options, self._report = kind, parameters, options, report
        self._work = releases.root / (WORK_PREFIX + version)
        self._blocks = self._work / "blocks"
        self._release = self._work / "release"
        self._reuse_note = self._work / "reuse.json"

    def run(self) -> ReleaseManifest:
        """Do every step that is not done yet."""
        self._adopt_titles()
        source = self._reuse_source()
        if not (self._release / VECTORS_FILE).exists():
            source = self._make_vectors(source)
        vectors = TitleVectors(self._release)
        if not (self._release / INDEX_FILE).exists():
            with self._report.counting("indexing", vectors.count) as advance:
                build_index(vectors, self._kind, self._release, advance=advance)
        search = VectorSearch(self._release, vectors=vectors, kind=self._kind)
        queries = self._encoder.encode_queries(sample_queries(TitleStore(self._release)))
        recall = measure_recall(search, vectors, queries)
        self._report.say(f"index {self._kind.name} ({self._kind.factory}): recall@10 {recall:.4f}")
        manifest = self._manifest(recall, source)
        write_manifest(self._release, manifest)
        self._give_name()
        return manifest

    def _adopt_titles(self) -> None:
        """Move the titles in; an interrupted run has left the same ones, or a part of them."""
        self._blocks.mkdir(parents=True, exist_ok=True)
        self._release.mkdir(exist_ok=True)
        intake = self._releases.root / INTAKE
        for path in intake.iterdir():
            os.replace(path, self._release / path.name)
        intake.rmdir()
        for left in (self._release / MANIFEST_FILE, *self._release.glob(f"*{TEMPORARY}")):
            left.unlink(missing_ok=True)

    def _reuse_source(self) -> str | None:
        """The release to copy vectors from: what an interrupted run has chosen, or a new choice."""
        if self._reuse_note.exists():
            noted: str | None = json.loads(self._reuse_note.read_text(encoding="utf-8"))["from"]
            copied = (self._release / VECTORS_FILE).exists()
            if copied or noted is None or (self._options.reuse and self._releases.path(noted).exists()):
                return noted
        return self._note_reuse(next(filter(self._can_reuse, self._reuse_choices()), None))

    def _note_reuse(self, source: str | None) -> str | None:
        write_json(self._reuse_note, {"from": source})
        return source

    def _reuse_choices(self) -> Iterator[str]:
        """A release of the same titles with another index, then the published one."""
        if not self._options.reuse:
            return
        for version in sorted(self._releases.versions()):
            manifest = self._releases.info(version).manifest
            same = self._encoder.titles_id, self._written.sha256
            if manifest is not None and (manifest.bundle_id, manifest.titles_sha256) == same:
                yield version
        if (current := self._releases.current()) is not None:
            yield current

    def _can_reuse(self, version: str) -> bool:
        if version == self._version:
            return False
        try:
            open_release(self._releases.root, version, bundle=self._encoder).close()
        except ReleaseError as exc:
            self._report.say(f"no vectors are reused: {exc}")
            return False
        return True

    def _make_vectors(self, source: str | None) -> str | None:
        """Encode, copy and assemble; the release that something was copied from."""
        release = None if source is None else open_release(self._releases.root, source, bundle=self._encoder)
        reuse = None if release is None else Reuse.of(release.digests(), release.stored_vectors())
        plan = make_plan(self._written, reuse=reuse, block_titles=self._options.block_titles)
        if not len(plan.reused):
            source = self._note_reuse(None)
        finished, done = finished_titles(self._written, plan, self._blocks)
        self._say_plan(plan, source, finished)
        titles = TitleStore(self._release)
        with self._report.counting("encoding", plan.to_encode, done=done) as advance:
            encode_blocks(
                titles, self._written, plan, encoder=self._encoder, directory=self._blocks, advance=advance
            )
        assemble(
            self._written,
            plan,
            reuse=reuse,
            blocks=self._blocks,
            dim=self._encoder.dim,
            release=self._release,
        )
        return source

    def _say_plan(self, plan: Plan, source: str | None, finished: int) -> None:
        reused = f"; {len(plan.reused):,} vectors reused from release {source}" if source else ""
        self._report.say(
            f"release {self._version}: {plan.to_encode:,} different titles to encode in {len(plan.blocks)} "
            f"blocks, {finished} of them finished by an earlier run{reused}"
        )

    def _manifest(self, recall: float, source: str | None) -> ReleaseManifest:
        return ReleaseManifest(
            format=FORMAT,
            version=self._version,
            bundle_id=self._encoder.titles_id,
            titles_sha256=self._written.sha256,
            count=self._written.count,
            dim=self._encoder.dim,
            vectors="float16",
            index_kind=self._kind.name,
            index_parameters=self._parameters,
            recall=recall,
            redis_prefix=release_prefix(self._version),
            fields=self._written.field_types,
            filterable=FieldFilter(self._release).names,
            reused_from=source,
            files=describe_files(self._release),
        )

    def _give_name(self) -> None:
        """The release appears, whole, under its version; a broken one that had the name goes."""
        final = self._releases.path(self._version)
        if final.exists():
            self._releases.remove(self._version)
        sync(self._release)
        os.replace(self._release, final)
        sync(self._releases.root)
        shutil.rmtree(self._work)
