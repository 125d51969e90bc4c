"""Whose title vectors a bundle makes: the proof that lets it open the releases of the bundle that it came from.

A release holds vectors of one title tower. A bundle with another query tower, scorer or sentiment head makes the very
same title vectors, so its manifest may name the bundle whose releases it opens (`recipe.title_tower`), if everything
that makes a title vector is the same, bit for bit. That is established whenever a bundle is read to be changed and
whenever one is written, never taken over from what somebody says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from towers.bundle import LAYOUT, TITLE_TOWER


def title_tower_sha256(
    graphs: Mapping[str, onnx.ModelProto], tokenizer: str, facts: Mapping[str, Any]
) -> str:
    """Return the SHA-256 of all that makes a title vector: graph and tensors, tokenizer, prefix, length and width.

    Args:
        graphs: File name (from LAYOUT) -> graph with its tensors inside.
        tokenizer: The text of tokenizer.json.
        facts: The manifest's fields.
    """
    graph = graphs[LAYOUT.title if LAYOUT.title in graphs else LAYOUT.encoder]
    digest = hashlib.sha256()
    for part in (tokenizer, facts.get("title_prefix", ""), str(facts["max_tokens"]), str(facts["dim"])):
        digest.update(hashlib.sha256(part.encode()).digest())
    for tensor in graph.graph.initializer:
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        digest.update(hashlib.sha256(raw_bytes(tensor)).digest())
    digest.update(_without_tensors(graph).SerializeToString(deterministic=True))
    return digest.hexdigest()


def raw_bytes(tensor: TensorProto) -> bytes:
    """Return a tensor's values as little-endian bytes, whichever field holds them."""
    return bytes(tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)


def with_claim(facts: Mapping[str, Any], *, bundle_id: str, sha256: str) -> dict[str, Any]:
    """Return a manifest's fields with the claim that titles have the vectors of a bundle."""
    recipe = {**facts.get("recipe", {}), TITLE_TOWER: {"bundle_id": bundle_id, "sha256": sha256}}
    return {**facts, "recipe": recipe}


def without_claim(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest's fields without it."""
    if TITLE_TOWER not in facts.get("recipe", {}):
        return dict(facts)
    return {**facts, "recipe": {key: value for key, value in facts["recipe"].items() if key != TITLE_TOWER}}


def _without_tensors(graph: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(graph)
    del bare.graph.initializer[:]
    return bare
