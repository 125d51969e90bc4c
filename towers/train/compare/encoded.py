"""Vectors of a row's pairs, kept: rows with the same towers, and the learning curve, encode them once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from towers.bundle import LAYOUT, Bundle
from towers.train.compare.setting import Setting
from towers.train.data import PairSet
from towers.train.fit import encode_sets
from towers.train.scorer_training import ScorerPairs

_TOWERS = (LAYOUT.encoder, LAYOUT.query, LAYOUT.title)


def encoded_once(bundle: Bundle, sets: Sequence[PairSet], setting: Setting) -> list[ScorerPairs]:
    """Return what `encode_sets` does; the vectors are kept in the working folder for all bundles with these towers."""
    files = bundle.manifest.files
    towers = {name: files[name]["sha256"] for name in _TOWERS if name in files}
    texts = [(pairs.queries, pairs.titles) for pairs in sets]
    key = hashlib.sha256(json.dumps([towers, texts], ensure_ascii=False).encode()).hexdigest()
    return encode_sets(bundle, sets, kept=setting.cache / f"vectors-{key[:16]}.npy")
