"""A release: titles, their vectors and a search index that belong together, on disk.

    releases/
      CURRENT                 {"version": …, "previous": […]}: the only thing that publish and rollback change
      <version>/              complete or absent: it gets its name when it is finished
        manifest.json         what it is (manifest.py); written last
        titles.jsonl          one title per line (titles.py)
        titles.npy            where each line starts
        ids.npy               from an id to its row (ids.py)
        fields.json           the values that filters can ask for (fields.py)
        fields.npy            which row has which
        vectors.npy           float16 rows, the truth (vectors.py)
        titles.faiss          finds candidates (faiss_index.py)
      .building-<version>/    unfinished work, taken up again by the next `dualtower index` (build.py)

A version is a hash of the bundle, the titles and the index parameters; there is no time and no machine in a
release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from index.faiss_index import IndexKind, VectorSearch
from index.fields import FieldFilter
from index.manifest import WAY_OUT, ReleaseManifest, check_files, read_manifest
from index.releases import ReleaseInfo, Releases
from index.titles import Title, TitleStore, existing_rows
from index.vectors import TitleVectors
from towers.errors import BundleMismatchError, InputError, ReleaseError

__all__ = ["Release", "ReleaseInfo", "ReleaseManifest", "Releases", "open_release"]


class OpenBundle(Protocol):
    """What is compared with a release."""

    @property
    def titles_id(self) -> str:
        """The id of the bundle whose title vectors it makes."""


def open_release(
    root: str | Path, version: str | None = None, *, bundle: OpenBundle | None = None, verify: bool = True
) -> Release:
    """Open a release for reading.

    Args:
        root: the directory of releases.
        version: which one; None: the published one.
        bundle: refuse a release whose vectors its title tower has not made.
        verify: compare the hashes of all files, not only their sizes: about a second per GB.

    Raises:
        ReleaseError: there is no such release, or a file is missing, truncated or corrupt.
        BundleMismatchError: another title tower has made it.
    """
    releases = Releases(Path(root))
    directory = releases.path(version or releases.published())
    manifest = read_manifest(directory)
    check_files(directory, manifest, contents=verify)
    if bundle is not None and bundle.titles_id != manifest.bundle_id:
        raise BundleMismatchError(
            f"release {manifest.version} was built with bundle {manifest.bundle_id[:16]}…, but bundle "
            f"{bundle.titles_id[:16]}… is open; build the index again with the open bundle (`dualtower "
            "index … --publish`), or open the bundle that built it"
        )
    return Release(directory, manifest)


@dataclass(frozen=True)
class _Parts:
    """The readers of an open release."""

    titles: TitleStore
    vectors: TitleVectors
    filter: FieldFilter
    search: VectorSearch


def _open_parts(directory: Path, manifest: ReleaseManifest) -> _Parts:
    try:
        titles, vectors, fields = TitleStore(directory), TitleVectors(directory), FieldFilter(directory)
    except (OSError, ValueError) as exc:
        raise ReleaseError(f"release {manifest.version} cannot be read ({exc}); {WAY_OUT}") from exc
    found = (len(titles), vectors.count, vectors.dim)
    expected = (manifest.count, manifest.count, manifest.dim)
    if found != expected:
        raise ReleaseError(
            f"release {manifest.version} has (titles, vectors, dimensions) {found}, its manifest says "
            f"{expected}; {WAY_OUT}"
        )
    parameters = manifest.index_parameters
    kind = IndexKind(manifest.index_kind, parameters["factory"], parameters["search"])
    return _Parts(titles, vectors, fields, VectorSearch(directory, vectors=vectors, kind=kind))


class Release:
    """One release, open for reading; safe to use from many threads.

    Everything large is memory-mapped, so an open release costs little memory of its own, and several open
    ones share.

    Args:
        directory: of the release, whose files have been held against the manifest.
        manifest: its manifest.

    Raises:
        ReleaseError: the files cannot be read, or do not belong together.
    """

    def __init__(self, directory: Path, manifest: ReleaseManifest) -> None:
        self.manifest = manifest
        self.path = directory
        self._open: _Parts | None = _open_parts(directory, manifest)

    @property
    def _parts(self) -> _Parts:
        if self._open is None:
            raise ReleaseError(f"release {self.version} is closed; open it again with open_release")
        return self._open

    @property
    def version(self) -> str:
        """The release's name."""
        return self.manifest.version

    @property
    def count(self) -> int:
        """The number of titles."""
        return self.manifest.count

    @property
    def filterable(self) -> tuple[str, ...]:
        """The fields that `rows_where` takes."""
        return self._parts.filter.names

    def search(
        self, query_vector: np.ndarray, k: int, *, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The titles closest to a query.

        Args:
            query_vector: float32 (dim,), length 1.
            k: how many at most, at least 1.
            rows: int64 (n,): only these rows, for example from `rows_where`; then the result is exact.

        Returns:
            cosines float32 (m,), -1 to 1, exact for the rows that they belong to; rows int64 (m,). Best
            first, equal ones in the order of their rows. m is k, or less when there are fewer titles.

        Raises:
            InputError: the vector has another length, k is below 1, or a row does not exist.
        """
        query = np.asarray(query_vector, np.float32)
        if query.shape != (self.manifest.dim,):
            raise InputError(
                f"the query vector has shape {query.shape}, this release expects ({self.manifest.dim},)"
            )
        if k < 1:
            raise InputError(f"k is {k}, expected at least 1")
        if rows is None:
            return self._parts.search.search(query, k)
        return self._parts.vectors.search(query, k, rows=np.unique(existing_rows(rows, self.count)))

    def vectors(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The vectors of some rows, from the memory map.

        Args:
            rows: int64 (n,).

        Returns:
            float32 (n, dim), rows of length 1, in the order of `rows`.
        """
        return self._parts.vectors.rows(existing_rows(rows, self.count))

    def row_of(self, id: str) -> int | None:
        """The row of an id, or None."""
        return self._parts.titles.row_of(id)

    def rows_of(self, ids: Sequence[str]) -> list[int | None]:
        """The row of each id, None where there is no such id."""
        return self._parts.titles.rows_of(ids)

    def title(self, row: int) -> Title:
        """The title in a row, with its id and fields."""
        return self._parts.titles.title(row)

    def titles(self, rows: Sequence[int] | np.ndarray) -> list[Title]:
        """The titles in some rows, in the order of `rows`."""
        return self._parts.titles.titles(rows)

    def rows_where(self, field: str, value: Any) -> np.ndarray:
        """The rows whose kept field has a value, int64 (n,), ascending.

        Raises:
            InputError: the field cannot be filtered on; names those that can.
        """
        return self._parts.filter.rows_where(field, value)

    def digests(self) -> np.ndarray:
        """S16 (count,): equal where texts are equal."""
        return self._parts.titles.digests()

    def stored_vectors(self) -> np.ndarray:
        """float16 (count, dim), as on disk, memory-mapped."""
        return self._parts.vectors.stored

    def close(self) -> None:
        """Let go of the files; using the release afterwards is an error.

        The memory maps end with the last call that is still using them.
        """
        self._open = None
