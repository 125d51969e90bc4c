"""The manifest of a release: what it is, what made it, and what its files must be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from index.files import json_text, sha256_of, write_json
from towers.errors import ReleaseError

MANIFEST_FILE: Final = "manifest.json"
FORMAT: Final = "dualtower-release/1"
WAY_OUT: Final = (
    "build it again with `dualtower index`, or publish another one with `dualtower releases rollback`"
)


@dataclass(frozen=True)
class ReleaseManifest:
    """What a release says about itself; nothing in it depends on when or where it was built.

    Attributes:
        format: of the release directory.
        version: 16 hex digits, the hash of bundle_id, titles_sha256 and index_parameters.
        bundle_id: of the bundle whose title tower made the vectors; bundles that have the very same one open it too.
        titles_sha256: of `titles.jsonl`.
        count: how many titles.
        dim: the length of a vector.
        vectors: the type that they are stored in.
        index_kind: flat, codes, hnsw, ivf or custom.
        index_parameters: what decides the index and the vectors, beside the titles and the bundle.
        recall: recall@10 against exact search.
        redis_prefix: of the release's hashes, in any Redis that it was written to.
        fields: the kept fields and their types.
        filterable: those that can be filtered on.
        reused_from: the release that vectors of unchanged titles were copied from, or None. A vector depends
            a little on its neighbours in the batch, so this, too, says where the vectors come from.
        files: the size and the SHA-256 of each file.
    """

    format: str
    version: str
    bundle_id: str
    titles_sha256: str
    count: int
    dim: int
    vectors: str
    index_kind: str
    index_parameters: dict[str, Any]
    recall: float
    redis_prefix: str | None
    fields: dict[str, str]
    filterable: tuple[str, ...]
    reused_from: str | None
    files: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain values."""
        return {**asdict(self), "filterable": list(self.filterable)}


def version_of(bundle_id: str, titles_sha256: str, parameters: dict[str, Any]) -> str:
    """The name of the release that this bundle, these titles and these parameters make: 16 hex digits."""
    content = json_text([FORMAT, bundle_id, titles_sha256, parameters])
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def describe_files(directory: Path) -> dict[str, dict[str, Any]]:
    """The size and the SHA-256 of each file that a manifest covers."""
    paths = sorted(path for path in directory.iterdir() if path.name != MANIFEST_FILE)
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}


def write_manifest(directory: Path, manifest: ReleaseManifest) -> None:
    """Write the manifest, after all other files."""
    write_json(directory / MANIFEST_FILE, manifest.to_json())


def read_manifest(directory: Path) -> ReleaseManifest:
    """Read the manifest of a release.

    Raises:
        ReleaseError: it is missing, broken, or of another format.
    """
    path = directory / MANIFEST_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ReleaseError(f"{directory} has no {MANIFEST_FILE}, so it is no release; {WAY_OUT}") from exc
    except (OSError, ValueError) as exc:
        raise ReleaseError(f"{path} cannot be read ({exc}); {WAY_OUT}") from exc
    form = found.get("format") if isinstance(found, dict) else None
    if form != FORMAT:
        raise ReleaseError(
            f"{path} says format {form!r}, this version of dualtower reads {FORMAT!r}; {WAY_OUT}"
        )
    expected = {field.name for field in fields(ReleaseManifest)}
    if found.keys() != expected:
        odd = ", ".join(sorted(found.keys() ^ expected))
        raise ReleaseError(f"{path} lacks, or has beyond its format, {odd}; {WAY_OUT}")
    return ReleaseManifest(**{**found, "filterable": tuple(found["filterable"])})


def check_files(directory: Path, manifest: ReleaseManifest, *, contents: bool) -> None:
    """Hold the files against the manifest.

    Args:
        directory: of the release.
        manifest: its manifest.
        contents: also compare hashes, about a second per GB; else sizes only.

    Raises:
        ReleaseError: names the first file that is missing or different.
    """
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise ReleaseError(f"release {manifest.version} lacks {path}; {WAY_OUT}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise ReleaseError(
                f"{path} has {size:,} bytes, its manifest says {expected['bytes']:,}; {WAY_OUT}"
            )
        if contents and (found := sha256_of(path)) != expected["sha256"]:
            raise ReleaseError(
                f"{path} has SHA-256 {found}, its manifest says {expected['sha256']}; {WAY_OUT}"
            )
