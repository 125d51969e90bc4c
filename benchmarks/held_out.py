"""The data that a bundle was not trained on: its own split, drawn again from the settings in its manifest."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import data_file, data_folder
from towers import Bundle
from towers.labelled import Pairs, Texts
from towers.train.build import read_text_sources
from towers.train.data import read_pair_set, split_pairs
from towers.train.sentiment import fingerprint, join_texts, split_texts
from towers.train.sources import DEFAULT_RECIPE, BundleRecipe, read_recipe


def add_recipe_option(parser: argparse.ArgumentParser) -> None:
    """The recipe names the files; the manifest has only their short names."""
    parser.add_argument("--recipe", type=Path, default=DEFAULT_RECIPE, help="what the bundle was made from")


def held_out_pairs(bundle: Bundle, options: argparse.Namespace) -> dict[str, Pairs]:
    """The dev side of each set that the scorer was trained on, by the set's name."""
    recipe = _recipe(options)
    sets = [read_pair_set(data_file(options, source.file), licence=source.licence) for source in recipe.pairs]
    _same(bundle, "scorer", [{"name": x.name, "rows": x.rows, "licence": x.licence} for x in sets])
    settings = bundle.manifest.recipe["fit"]
    splits = split_pairs(sets, dev_share=settings["dev_share"], seed=settings["seed"])
    found = [int(split.dev.sum()) for split in splits]
    noted = [entry["pairs"] for entry in bundle.manifest.metrics["fit"]["sets"]]
    if found != noted:
        raise SystemExit(
            f"the split gives {found} dev pairs, the bundle's manifest notes {noted}: the splitting has changed since "
            "it was made. Build the bundle again."
        )
    return {
        pairs.name: Pairs(
            [text for text, dev in zip(pairs.queries, split.dev, strict=True) if dev],
            [text for text, dev in zip(pairs.titles, split.dev, strict=True) if dev],
            pairs.original_labels[split.dev],
        )
        for pairs, split in zip(sets, splits, strict=True)
    }


def split_sentiment(bundle: Bundle, options: argparse.Namespace) -> tuple[Texts, dict[str, Texts]]:
    """The texts that the sentiment head was trained on, and those that were held out, by the set's name."""
    recipe = _recipe(options)
    read = {}
    for source in recipe.texts:
        data_file(options, source.file)
        (entry,), texts = read_text_sources([source], data_folder(options))
        read[entry["name"]] = entry, texts
    _same(bundle, "sentiment", [entry for entry, _ in read.values()])
    settings = bundle.manifest.recipe["sentiment"]
    every = join_texts([texts for _, texts in read.values()])
    train, dev = _split(every, settings, bundle.manifest.metrics["sentiment"].get("dev_sha256"))
    return train, {name: _those_of(dev, texts) for name, (_, texts) in read.items()}


def _split(every: Texts, settings: Mapping[str, Any], noted: str | None) -> tuple[Texts, Texts]:
    """Split as was done when the head was made: those that note no SHA-256 took the first 2,000 in order."""
    rule = {"share": settings["dev_share"], "seed": settings["seed"]}
    if noted is None:
        train, drawn = split_texts(every, **rule, most=len(every.texts))
        dev, rest = (
            Texts(drawn.texts[part], drawn.labels[part]) for part in (slice(2000), slice(2000, None))
        )
        return join_texts([train, rest]), dev
    train, dev = split_texts(every, **rule)
    if fingerprint(dev) != noted:
        raise SystemExit(
            f"the split gives dev texts with SHA-256 {fingerprint(dev)}, the bundle's manifest notes {noted}: data or "
            "splitting have changed since it was made. Build the bundle again."
        )
    return train, dev


def _those_of(dev: Texts, source: Texts) -> Texts:
    there = set(source.texts)
    rows = [i for i, text in enumerate(dev.texts) if text in there]
    return Texts([dev.texts[i] for i in rows], dev.labels[rows])


def _recipe(options: argparse.Namespace) -> BundleRecipe:
    return read_recipe(options.recipe)


def _same(bundle: Bundle, use: str, found: Sequence[dict[str, Any]]) -> None:
    """Refuse data that is not the data of the bundle: what was held out would be unknown."""
    noted = [dict(entry) for entry in bundle.manifest.training_data if entry["use"] == use]
    if noted != [{"use": use} | entry for entry in found]:
        raise SystemExit(
            f"the bundle's {use} was trained on {_names(noted)}, the recipe gives {_names(found)}: what was held out "
            "cannot be told. Give the bundle's own recipe with --recipe and its data with --data."
        )


def _names(entries: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{entry['name']} ({entry['rows']:,} rows)" for entry in entries) or "nothing"
