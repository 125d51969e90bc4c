"""A whole bundle from a recipe: tower, scorer, sentiment head, model card. The default bundle is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

from towers.bundle import LAYOUT, Bundle, open_bundle
from towers.errors import InputError
from towers.labelled import Texts, read_texts
from towers.train.adversarial import AdversarialRecipe
from towers.train.bilingual.bilingual import bilingual_tower
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.card import model_card
from towers.train.cross.cross_encoder import CrossRecipe
from towers.train.data import PairSet, read_pair_set
from towers.train.early_exit.exits import ExitRecipe, fit_exits
from towers.train.early_exit.export_exits import with_exits, without_head
from towers.train.exporting.assemble import tower_parts, with_scorer, with_sentiment
from towers.train.exporting.export import Precision
from towers.train.finetune import TowerRecipe
from towers.train.fit import FitRecipe, fit
from towers.train.scorer_training import ScorerRecipe
from towers.train.sentiment import (
    Encode,
    SentimentRecipe,
    fingerprint,
    fit_sentiment,
    join_texts,
    logistic_regression,
    split_texts,
)
from towers.train.sources import BundleRecipe, Source, checked, unescape
from towers.train.write import Parts, check_target, write_bundle

_SERVED = "served"  # folder, in the working folder, of the bundle whose vectors the scorer is trained on


def build(
    recipe: BundleRecipe,
    *,
    data: Path,
    out: Path,
    work: Path,
    resume: bool = False,
    replace: bool = False,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Make a bundle as a recipe says.

    Args:
        recipe: The recipe.
        data: Folder to which the recipe's files are relative.
        out: The bundle's directory.
        work: Folder for what an interrupted run goes on from.
        resume: Go on from it.
        replace: Replace the bundle in `out`.
        say: Takes a line for each stage.

    Raises:
        InputError: A file of the recipe is missing or unreadable, or `out` may not be replaced.
    """
    check_target(out, replace=replace)
    _check_sources(recipe, data)
    sets = [read_pair_set(data / source.file, licence=source.licence) for source in recipe.pairs]
    precision = checked(Precision, recipe.precision, where="[precision]")
    settings = fit_settings(recipe.fit)
    base = checkpoint = before = recipe.base or None
    facts: dict[str, Any] = {"recipe": {"notes": list(recipe.notes)} if recipe.notes else {}}
    if recipe.bilingual:
        wanted = checked(BilingualRecipe, recipe.bilingual, where="[bilingual]")
        split = {"dev_share": settings.dev_share, "seed": settings.seed}
        folders: dict[str, Any] = {"data": data, "work": work / "bilingual", "resume": resume}
        checkpoint, before, made = bilingual_tower(recipe, wanted, sets, split=split, say=say, **folders)
        facts = {"recipe": facts["recipe"] | made["recipe"], "training_data": made["training_data"]}
    parts = fit_parts(
        sets,
        base=base,
        checkpoint=checkpoint,
        recipe=settings,
        work=work,
        resume=resume,
        precision=precision,
        base_licence=recipe.base_licence,
        licence=recipe.licence,
        facts=facts,
    )
    if recipe.texts:
        entries, texts = read_text_sources(recipe.texts, data)
        parts = sentiment_parts(
            parts,
            texts,
            data=entries,
            base=before,
            **sentiment_settings(recipe.sentiment),
            work=work,
            resume=resume,
            vectors=open_bundle(work / _SERVED).encode_titles,
        )
    parts.extra_files[LAYOUT.card] = model_card(parts.facts)
    return write_bundle(out, parts, replace=replace)


def fit_parts(
    sets: Sequence[PairSet],
    *,
    base: str | None,
    recipe: FitRecipe,
    work: Path,
    resume: bool,
    precision: Precision,
    base_licence: str,
    licence: str,
    checkpoint: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Parts:
    """Train tower and scorer, and return them as the parts of a bundle.

    The scorer is trained on the vectors of the int8 graph that will be served, not on those of torch.

    Args:
        sets: Labelled pairs.
        base: What the bundle is made from, for the manifest; None for the packaged all-MiniLM-L6-v2.
        recipe: Settings.
        work: Folder for what an interrupted run goes on from.
        resume: Go on from it.
        precision: How weights are stored.
        base_licence: SPDX identifier of the base's licence.
        licence: SPDX identifier of the bundle.
        checkpoint: What an earlier stage made of the base; None: the base itself.
        facts: What the manifest says of that stage: recipe and training_data.
    """
    made: list[Parts] = []
    sample = [text for pairs in sets for text in (*pairs.queries[:100], *pairs.titles[:100])]

    def served(tower: Any) -> Bundle:
        licences: dict[str, Any] = {"base_licence": base_licence, "licence": licence}
        parts = tower_parts(tower, base=base, precision=precision, texts=sample, **licences)
        parts.facts["recipe"] = {**parts.facts.get("recipe", {}), **(facts or {}).get("recipe", {})}
        parts.facts["training_data"] = list((facts or {}).get("training_data", ()))
        made.append(parts)
        return write_bundle(work / _SERVED, made[0], replace=True)

    result = fit(
        sets, checkpoint=checkpoint or base, recipe=recipe, work=work / "fit", resume=resume, served=served
    )
    return with_scorer(made[0], result)


def sentiment_parts(
    parts: Parts,
    texts: Texts,
    *,
    data: Sequence[Mapping[str, Any]],
    base: str | None,
    recipe: SentimentRecipe,
    work: Path,
    resume: bool,
    vectors: Encode,
    adversarial: AdversarialRecipe | None = None,
    exits: ExitRecipe | None = None,
) -> Parts:
    """Train a sentiment head and add it to the parts of a bundle.

    Args:
        parts: Of the bundle.
        texts: Labelled texts; the dev texts are taken from them.
        data: Name, rows and licence of where they come from.
        base: The checkpoint that the bundle was made from.
        recipe: Settings of the training.
        work: Folder for what an interrupted run goes on from.
        resume: Go on from it.
        vectors: Texts to vectors, for the logistic regression that the head is compared with.
        adversarial: Perturb the texts' embeddings in training; None does not.
        exits: Give the trained head exits and train on; None does not.
    """
    precision = checked(Precision, parts.facts["recipe"].get("precision", {}), where="recipe of the bundle")
    settings: dict[str, Any] = {"recipe": recipe, "adversarial": adversarial}
    result = fit_sentiment(texts, checkpoint=base, work=work / "sentiment", resume=resume, **settings)
    train, dev = split_texts(texts, share=recipe.dev_share, seed=recipe.seed)
    result.metrics["dev_sha256"] = fingerprint(dev)
    result.metrics["logistic_regression_on_vectors"] = logistic_regression(train, dev, vectors)
    whole = with_sentiment(without_head(parts), result, dev=dev, data=data, precision=precision)
    if exits is None:
        return whole
    exiting = fit_exits(
        result.model, result.tokenizer, train, dev, recipe=exits, work=work / "exits", resume=resume
    )
    for name in ("dev_sha256", "logistic_regression_on_vectors"):
        exiting.metrics[name] = result.metrics[name]
    exiting.metrics["without_exits"] = whole.facts["metrics"]["sentiment"]["quantized"]
    return with_exits(whole, exiting, dev=dev, data=data, precision=precision)


def read_text_sources(sources: Sequence[Source], data: Path) -> tuple[list[dict[str, Any]], Texts]:
    """Read files of labelled texts; return what the manifest says of each, and all texts together."""
    sets = [read_texts(data / source.file) for source in sources]
    entries = [
        {"name": source.name, "rows": len(read.texts), "licence": source.licence}
        for source, read in zip(sources, sets, strict=True)
    ]
    decoded = [
        Texts([unescape(text) for text in read.texts], read.labels) if source.unescape else read
        for source, read in zip(sources, sets, strict=True)
    ]
    return entries, join_texts(decoded)


def fit_settings(table: Any) -> FitRecipe:
    """Make the settings of a training from a recipe's [fit] table.

    Raises:
        InputError: Names keys that are unknown.
    """
    nested = dict(table)
    tower = checked(TowerRecipe, nested.pop("tower", {}), where="[fit.tower]")
    scorer = checked(ScorerRecipe, nested.pop("scorer", {}), where="[fit.scorer]")
    cross = checked(CrossRecipe, nested.pop("cross", {}), where="[fit.cross]")
    found = nested.pop("adversarial", None)
    adversarial = found and checked(AdversarialRecipe, found, where="[fit.adversarial]")
    settings = checked(FitRecipe, nested, where="[fit]")
    return changed(settings, tower=tower, scorer=scorer, cross=cross, adversarial=adversarial)


def sentiment_settings(table: Any) -> dict[str, Any]:
    """Make the settings of the sentiment head, for `sentiment_parts`, from a recipe's [sentiment] table.

    Raises:
        InputError: Names keys that are unknown.
    """
    plain = dict(table)
    found = plain.pop("adversarial", None)
    adversarial = found and checked(AdversarialRecipe, found, where="[sentiment.adversarial]")
    found = plain.pop("exits", None)
    exits = None if found is None else checked(ExitRecipe, found, where="[sentiment.exits]")
    recipe = checked(SentimentRecipe, plain, where="[sentiment]")
    return {"recipe": recipe, "adversarial": adversarial, "exits": exits}


def _check_sources(recipe: BundleRecipe, data: Path) -> None:
    missing = [source.file for source in recipe.sources if not (data / source.file).is_file()]
    if missing:
        raise InputError(
            f"{data} lacks {', '.join(missing)}, which the recipe names. Give the folder with --data; where each file "
            "comes from stands in the recipe beside it."
        )
