"""The directory of releases: which there are, which is published, which was before."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from index.files import exclusive, sync, write_json
from index.manifest import MANIFEST_FILE, ReleaseManifest, check_files, read_manifest
from towers.errors import ReleaseError

CURRENT_FILE: Final = "CURRENT"
BUILD_LOCK: Final = ".build.lock"
CURRENT_LOCK: Final = ".current.lock"
WORK_PREFIX: Final = ".building-"
INTAKE: Final = ".intake"
DOOMED_PREFIX: Final = ".deleting-"
REMEMBERED: Final = 10  # earlier versions that CURRENT names, for rolling back
DEFAULT_MIN_RECALL: Final = 0.95
_VERSION: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ReleaseInfo:
    """A release in a list.

    Attributes:
        version: its name.
        state: "current", "rollback target" or "".
        manifest: None when it cannot be read.
        problem: why it cannot be read, or "".
        bytes: on disk.
    """

    version: str
    state: str
    manifest: ReleaseManifest | None
    problem: str
    bytes: int


def check_recall(manifest: ReleaseManifest, bound: float) -> None:
    """Refuse a release whose index misses too much.

    Raises:
        ReleaseError: its recall is below the bound.
    """
    if manifest.recall < bound:
        raise ReleaseError(
            f"release {manifest.version} is not published: its index finds {manifest.recall:.4f} of the "
            f"true 10 best titles, the bound is {bound:.4f}; build it with another --index-factory or "
            "--index-search, or lower --min-recall"
        )


class Releases:
    """The releases in a directory.

    Args:
        root: the directory; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, version: str) -> Path:
        """The directory of a release, whether or not it exists.

        Raises:
            ReleaseError: no release can have this name.
        """
        if not _VERSION.fullmatch(version):
            raise ReleaseError(f"{version!r} is no version: expected 16 hex digits, {self._those_there()}")
        return self.root / version

    def versions(self) -> Sequence[str]:
        """All complete releases, the newest first."""
        if not self.root.is_dir():
            return []
        found = [
            p for p in self.root.iterdir() if _VERSION.fullmatch(p.name) and (p / MANIFEST_FILE).is_file()
        ]
        return [p.name for p in sorted(found, key=lambda p: (-p.stat().st_mtime_ns, p.name))]

    def list(self) -> Sequence[ReleaseInfo]:
        """All complete releases: the published one, its rollback target, then the newest first."""
        return [self.info(version) for version in self._ranked()]

    def info(self, version: str) -> ReleaseInfo:
        """One release."""
        directory, manifest, problem = self.path(version), None, ""
        try:
            manifest = read_manifest(directory)
            check_files(directory, manifest, contents=False)
        except ReleaseError as exc:
            problem = str(exc)
        state = {self.current(): "current", self.rollback_target(): "rollback target"}.get(version, "")
        size = sum(path.stat().st_size for path in directory.iterdir()) if directory.is_dir() else 0
        return ReleaseInfo(version, state, manifest, problem, size)

    def current(self) -> str | None:
        """The published version, or None."""
        current: str | None = self._read_current()["version"]
        return current

    def published(self) -> str:
        """The published version.

        Raises:
            ReleaseError: nothing is published.
        """
        current = self.current()
        if current is None:
            raise ReleaseError(
                f"no release is published in {self.root}: {self._those_there()}; publish one with "
                "`dualtower releases publish VERSION`, or build one with `dualtower index TITLES --publish`"
            )
        return current

    def rollback_target(self) -> str | None:
        """The version that a rollback would publish, or None."""
        there = set(self.versions())
        return next((version for version in self._read_current()["previous"] if version in there), None)

    def sound(self, version: str) -> ReleaseManifest:
        """The manifest of a release, once all its files have been found to be as it says.

        Raises:
            ReleaseError: it is missing or corrupt.
        """
        directory = self.path(version)
        if not directory.is_dir():
            raise ReleaseError(f"there is no release {version} in {self.root}: {self._those_there()}")
        manifest = read_manifest(directory)
        check_files(directory, manifest, contents=True)
        return manifest

    def publish(self, version: str, *, min_recall: float = DEFAULT_MIN_RECALL) -> None:
        """Make a release the published one, in one step.

        Raises:
            ReleaseError: it is missing or corrupt, or its recall is below the bound.
        """
        with self._changing_current():
            check_recall(self.sound(version), min_recall)
            state = self._read_current()
            if state["version"] == version:
                return
            previous = [state["version"], *state["previous"]] if state["version"] else state["previous"]
            self._write_current(version, [name for name in dict.fromkeys(previous) if name != version])

    def rollback(self) -> str:
        """Publish the version that was published before.

        Returns:
            The version that is published now.

        Raises:
            ReleaseError: there is none, or it is corrupt.
        """
        with self._changing_current():
            target = self.rollback_target()
            if target is None:
                raise ReleaseError(f"there is nothing to roll back to in {self.root}: {self._those_there()}")
            self.sound(target)
            previous = self._read_current()["previous"]
            self._write_current(target, previous[previous.index(target) + 1 :])
        return target

    def prune(self, keep: int, *, keep_rollback_target: bool = True) -> Sequence[str]:
        """Delete all but some releases, and what interrupted jobs have left.

        Args:
            keep: how many to keep: the published one, its rollback target, then the newest.
            keep_rollback_target: never delete the version that a rollback would publish.

        Returns:
            The deleted versions. The published one is never among them.

        Raises:
            ReleaseError: an index job is running.
        """
        if keep < 1:
            raise ReleaseError(
                f"cannot keep {keep} releases: expected at least 1, the published one always stays"
            )
        with self.building(), self._changing_current():
            kept = set(self._ranked()[:keep]) | {self.current()}
            if keep_rollback_target:
                kept.add(self.rollback_target())
            doomed = [version for version in self._ranked() if version not in kept]
            for version in doomed:
                self.remove(version)
            for left in [
                *self.root.glob(WORK_PREFIX + "*"),
                *self.root.glob(DOOMED_PREFIX + "*"),
                self.root / INTAKE,
            ]:
                shutil.rmtree(left, ignore_errors=True)
        return doomed

    def remove(self, version: str) -> None:
        """Delete a release; it loses its name first, so that no half of it can be opened."""
        doomed = self.root / (DOOMED_PREFIX + version)
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(self.path(version), doomed)
        sync(self.root)
        shutil.rmtree(doomed)

    def building(self) -> AbstractContextManager[None]:
        """Hold the lock of index jobs.

        Raises:
            ReleaseError: another job holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        busy = (
            f"another index job is at work in {self.root}; wait for it, or use another --releases directory"
        )
        return exclusive(self.root / BUILD_LOCK, busy=busy)

    @contextmanager
    def _changing_current(self) -> Iterator[None]:
        if not self.root.is_dir():
            raise ReleaseError(f"there are no releases in {self.root}: {self._those_there()}")
        with exclusive(self.root / CURRENT_LOCK, busy="another process is publishing", wait=True):
            yield

    def _ranked(self) -> Sequence[str]:
        there = self.versions()
        first = [
            name for name in (self.current(), self.rollback_target()) if name is not None and name in there
        ]
        return tuple(dict.fromkeys([*first, *there]))

    def _read_current(self) -> dict[str, Any]:
        path = self.root / CURRENT_FILE
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            return {
                "version": str(state["version"]),
                "previous": [str(version) for version in state["previous"]],
            }
        except FileNotFoundError:
            return {"version": None, "previous": []}
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ReleaseError(
                f'{path} cannot be read ({exc}); expected {{"version": …, "previous": […]}}; delete it and '
                "publish a release "
                f"again with `dualtower releases publish VERSION`: {self._those_there()}"
            ) from exc

    def _write_current(self, version: str, previous: Sequence[str]) -> None:
        write_json(self.root / CURRENT_FILE, {"version": version, "previous": previous[:REMEMBERED]})
        sync(self.root)

    def _those_there(self) -> str:
        return (
            f"there are {', '.join(self.versions()) or 'none'}"
            if self.root.is_dir()
            else "the directory does not exist"
        )
