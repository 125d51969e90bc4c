"""Writing a bundle: graphs, tokenizer and manifest into a directory, all or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

from towers.bundle import LAYOUT, TITLE_TOWER, Bundle, Manifest, file_entry, open_bundle
from towers.errors import BundleError
from towers.train.distillation.title_tower import raw_bytes, title_tower_sha256, with_claim, without_claim
from towers.train.exporting.export import copy_graph
from towers.train.whole import check_replaceable, whole_directory

_SMALLEST_SHARED = (
    1024  # bytes; smaller tensors stay inside their graph, where they cost less than their reference
)
_ALIGNMENT = 64  # bytes: a cache line


@dataclass
class Parts:
    """Everything that goes into a bundle.

    Attributes:
        graphs: File name (from LAYOUT) -> graph with its tensors inside.
        tokenizer: The text of tokenizer.json.
        facts: The manifest's fields, less `files` and `bundle_id`.
        source: Folder with the plain checkpoint, copied to source/; None leaves it out.
        extra_files: File name -> text of what else lies in it.
    """

    graphs: dict[str, onnx.ModelProto]
    tokenizer: str
    facts: dict[str, Any]
    source: Path | None = None
    extra_files: dict[str, str] = field(default_factory=dict)


def read_parts(directory: Path) -> Parts:
    """Read a bundle back into its parts, to write it again with another graph added.

    The parts remember whose title vectors the bundle makes (title_tower.py): as long as nothing is changed that makes
    them, what is written from the parts opens the same releases.

    Raises:
        BundleError: The directory is no sound bundle, or its title tower is not the one that it says.
    """
    bundle = open_bundle(directory)
    graphs = {
        name: onnx.load(str(directory / name)) for name in bundle.manifest.files if name.endswith(".onnx")
    }
    facts = {entry.name: getattr(bundle.manifest, entry.name) for entry in dataclasses.fields(Manifest)}
    del facts["files"], facts["bundle_id"]
    source = directory / "source"
    tokenizer = (directory / LAYOUT.tokenizer).read_text(encoding="utf-8")
    sha256 = title_tower_sha256(graphs, tokenizer, facts)
    claimed = facts["recipe"].get(TITLE_TOWER, {}).get("sha256", sha256)
    if claimed != sha256:
        raise BundleError(
            f"{directory} says that its title tower has SHA-256 {claimed}, found {sha256}: it cannot have the title "
            f"vectors of bundle {bundle.titles_id[:16]}…. Build the bundle again."
        )
    return Parts(
        graphs=graphs,
        tokenizer=tokenizer,
        facts=with_claim(facts, bundle_id=bundle.titles_id, sha256=sha256),
        source=source if source.is_dir() else None,
        extra_files={
            name: (directory / name).read_text(encoding="utf-8")
            for name in (LAYOUT.exits, LAYOUT.classifier_facts)
            if name in bundle.manifest.files
        },
    )


def write_bundle(out: Path, parts: Parts, *, replace: bool = False) -> Bundle:
    """Write a bundle and open it.

    The files are written beside `out` and renamed into place when complete, so that `out` is never half a bundle.

    Args:
        out: The bundle's directory; must not exist unless `replace`.
        parts: What to write.
        replace: Move an existing bundle out of the way first. Anything but a bundle is never replaced.

    Raises:
        InputError: `out` exists and may not be replaced.
    """
    check_target(out, replace=replace)
    with whole_directory(out) as building:
        _write_files(building, parts)
        open_bundle(building)
    return open_bundle(out)


def check_target(out: Path, *, replace: bool) -> None:
    """Refuse a target directory before hours are spent on what would go into it.

    Raises:
        InputError: It exists and is not empty, and `replace` is off or it is no bundle.
    """
    check_replaceable(out, what="bundle", marker=LAYOUT.manifest, replace=replace)


def share_weights(graphs: Mapping[str, onnx.ModelProto], weights: Path) -> None:
    """Move the graphs' large tensors into one file, equal ones once. The graphs then refer to it by name.

    A sentiment head whose lowest layers were frozen has them in common with the tower: stored once, and mapped into
    memory once by the operating system.
    """
    places: dict[str, tuple[int, int]] = {}
    with weights.open("wb") as file:
        for name in sorted(graphs):
            for tensor in graphs[name].graph.initializer:
                raw = raw_bytes(tensor)
                if len(raw) < _SMALLEST_SHARED:
                    continue
                digest = hashlib.sha256(raw).hexdigest()
                if digest not in places:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    places[digest] = (file.tell(), len(raw))
                    file.write(raw)
                _refer(tensor, raw, weights.name, places[digest])


def _refer(tensor: TensorProto, raw: bytes, location: str, place: tuple[int, int]) -> None:
    if not tensor.raw_data:  # values kept in a typed field: as raw bytes they can be moved like the rest
        for typed in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(typed)
        tensor.raw_data = raw
    set_external_data(tensor, location=location, offset=place[0], length=place[1])
    tensor.ClearField("raw_data")


def _write_files(directory: Path, parts: Parts) -> None:
    graphs = {name: copy_graph(graph) for name, graph in parts.graphs.items()}
    share_weights(graphs, directory / LAYOUT.weights)
    for name, graph in graphs.items():
        (directory / name).write_bytes(graph.SerializeToString(deterministic=True))
    (directory / LAYOUT.tokenizer).write_text(parts.tokenizer, encoding="utf-8")
    for name, text in parts.extra_files.items():
        (directory / name).write_text(text, encoding="utf-8")
    if parts.source is not None:
        shutil.copytree(parts.source, directory / "source")
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    entries = {path.relative_to(directory).as_posix(): file_entry(path) for path in files}
    manifest = _manifest(entries, parts)
    (directory / LAYOUT.manifest).write_text(manifest.to_json(), encoding="utf-8")


def _manifest(entries: dict[str, Any], parts: Parts) -> Manifest:
    """The manifest, with the claim to another bundle's title vectors if there is one and it holds."""
    alone = Manifest(files=entries, **without_claim(parts.facts))
    claim = parts.facts.get("recipe", {}).get(TITLE_TOWER)
    if (
        claim is None or alone.content_id() == claim["bundle_id"]
    ):  # a bundle needs no claim to its own releases
        return alone
    if title_tower_sha256(parts.graphs, parts.tokenizer, parts.facts) != claim["sha256"]:
        return alone
    return Manifest(files=entries, **parts.facts)
