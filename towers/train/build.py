"""A whole bundle from a recipe: tower, scorer, sentiment head, model card. The default bundle is made here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from towers.bundle import LAYOUT, Bundle, open_bundle
from towers.errors import InputError
from towers.labelled import Texts, read_texts
from towers.train.assemble import tower_parts, with_scorer, with_sentiment
from towers.train.card import model_card
from towers.train.data import PairSet, read_pair_set
from towers.train.export import Precision
from towers.train.finetune import TowerRecipe
from towers.train.fit import FitRecipe, fit
from towers.train.scorer import ScorerRecipe
from towers.train.sentiment import SentimentRecipe, fit_sentiment, join_texts, split_texts
from towers.train.sources import BundleRecipe, Source, checked, unescape
from towers.train.write import Parts, check_target, write_bundle


def build(
    recipe: BundleRecipe, *, data: Path, out: Path, work: Path, resume: bool = False, replace: bool = False
) -> Bundle:
    """Make a bundle as a recipe says.

    Args:
        recipe: The recipe.
        data: Folder to which the recipe's files are relative.
        out: The bundle's directory.
        work: Folder for what an interrupted run goes on from.
        resume: Go on from it.
        replace: Replace the bundle in `out`.

    Raises:
        InputError: A file of the recipe is missing or unreadable, or `out` may not be replaced.
    """
    check_target(out, replace=replace)
    _check_sources(recipe, data)
    sets = [read_pair_source(source, data) for source in recipe.pairs]
    settings = fit_settings(recipe.fit)
    precision = checked(Precision, recipe.precision, where="[precision]")
    made: list[Parts] = []

    def served(tower: Any) -> Bundle:
        """The scorer is trained on the vectors of the int8 graph that will be served."""
        sample = [text for pairs in sets for text in (*pairs.queries[:100], *pairs.titles[:100])]
        licences = {"base_licence": recipe.base_licence, "licence": recipe.licence}
        made.append(
            tower_parts(tower, base=recipe.base or None, precision=precision, texts=sample, **licences)
        )
        return write_bundle(work / "served", made[0], replace=True)

    result = fit(
        sets, checkpoint=recipe.base or None, recipe=settings, work=work / "fit", resume=resume, served=served
    )
    parts = with_scorer(made[0], result)
    if recipe.texts:
        parts = _add_head(parts, recipe, data=data, work=work, resume=resume, precision=precision)
    parts.extra_files[LAYOUT.card] = model_card(parts.facts)
    return write_bundle(out, parts, replace=replace)


def fit_settings(table: Any) -> FitRecipe:
    """Make the settings of a training from a recipe's [fit] table.

    Raises:
        InputError: Names keys that are unknown.
    """
    nested = dict(table)
    tower = checked(TowerRecipe, nested.pop("tower", {}), where="[fit.tower]")
    scorer = checked(ScorerRecipe, nested.pop("scorer", {}), where="[fit.scorer]")
    return changed(checked(FitRecipe, nested, where="[fit]"), tower=tower, scorer=scorer)


def read_pair_source(source: Source, data: Path) -> PairSet:
    """Read one of a recipe's files of pairs."""
    return read_pair_set(data / source.file, licence=source.licence)


def read_text_source(source: Source, data: Path) -> Texts:
    """Read one of a recipe's files of labelled texts."""
    texts = read_texts(data / source.file)
    return Texts([unescape(text) for text in texts.texts], texts.labels) if source.unescape else texts


def _add_head(
    parts: Parts, recipe: BundleRecipe, *, data: Path, work: Path, resume: bool, precision: Precision
) -> Parts:
    settings = checked(SentimentRecipe, recipe.sentiment, where="[sentiment]")
    sets = [read_text_source(source, data) for source in recipe.texts]
    texts = join_texts(sets)
    vectors = open_bundle(work / "served").encode_titles
    result = fit_sentiment(
        texts,
        checkpoint=recipe.base or None,
        recipe=settings,
        work=work / "sentiment",
        resume=resume,
        baseline=vectors,
    )
    entries = [
        {"name": Path(source.file).name.split(".")[0], "rows": len(read.texts), "licence": source.licence}
        for source, read in zip(recipe.texts, sets, strict=True)
    ]
    _, dev = split_texts(texts, share=settings.dev_share, seed=settings.seed)
    return with_sentiment(parts, result, dev=dev, data=entries, precision=precision)


def _check_sources(recipe: BundleRecipe, data: Path) -> None:
    sources: Sequence[Source] = (*recipe.pairs, *recipe.texts)
    missing = [source.file for source in sources if not (data / source.file).is_file()]
    if missing:
        raise InputError(
            f"{data} lacks {', '.join(missing)}, which the recipe names. Give the folder with --data; where each file "
            "comes from stands in the recipe beside it."
        )


def summary(bundle: Bundle) -> str:
    """Return a line of JSON about a bundle that was just made."""
    size = sum(int(entry["bytes"]) for entry in bundle.manifest.files.values())
    return json.dumps({"bundle": str(bundle.path), "bundle_id": bundle.bundle_id, "bytes": size})
