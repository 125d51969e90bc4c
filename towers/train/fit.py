"""From labelled pairs to a tower, a scorer and a threshold: the whole training in one place.

    pairs -> split by query -> (fine-tuned tower) -> vectors -> scorer -> calibration -> threshold -> report
                            -> (cross-encoder, the scorer's teacher)

The scorer is kept only where it beats calibrated cosine on dev pairs, whose texts nothing was trained on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from towers.errors import InputError
from towers.train.adversarial import AdversarialRecipe
from towers.train.base import base_key, load_tower
from towers.train.cross.cross_encoder import CrossRecipe
from towers.train.cross.taught import Score, dev_texts, find_teacher, taught_pairs
from towers.train.data import PairSet, Split, split_pairs
from towers.train.dataset.mine import MOST_FOR_A_QUERY, SHARE_OF_POSITIVE, mined_pairs
from towers.train.finetune import TowerRecipe, finetune
from towers.train.report import Calibrated, calibrate, calibrate_scores, compare, wins
from towers.train.scorer import ResidualScorer
from towers.train.scorer_training import ScorerPairs, ScorerRecipe, join_pairs, planned_epochs, train_scorer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Floats = NDArray[np.float32]
_CHUNK = 256  # texts encoded between two steps of the progress bar
_RUN = "run.json"


class Towers(Protocol):
    """Makes the vectors that the scorer is trained on. An open bundle is one, so is `TorchTowers`."""

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Vectors (n, dim) of length 1."""

    def encode_titles(self, texts: Sequence[str]) -> Floats:
        """Vectors (n, dim) of length 1."""


class TorchTowers:
    """A sentence-transformers model as towers."""

    def __init__(self, tower: SentenceTransformer) -> None:
        self._tower = tower

    def encode_titles(self, texts: Sequence[str]) -> Floats:
        """Vectors (n, dim) of length 1."""
        return np.asarray(self._tower.encode(list(texts), show_progress_bar=False), np.float32)

    encode_queries = encode_titles


@dataclass(frozen=True)
class FitRecipe:
    """All settings of a training. Goes into the manifest as it is.

    Attributes:
        freeze_towers: Leave the tower as it is and train the scorer alone.
        dev_share: Share of each set's pairs held out, by query.
        hard_negatives: At most this many titles are mined for a query that has a match, as non-matches for the scorer,
            in sets with more labelled matches than other pairs, until they are even. 0: none.
        share_of_positive: A mined title stays below this share of the cosine of the query's weakest match.
        max_tokens: Longest query or title in tokens; None keeps the checkpoint's.
        seed: Of the split.
        tower: Settings of the tower's fine-tuning.
        scorer: Settings of the scorer.
        adversarial: How the tower's training texts are perturbed; None: not at all.
        teacher: Who teaches the scorer: "" nobody, "cross" a cross-encoder that is trained on the same pairs first,
            else the directory or hub name of one that must not have seen the dev pairs.
        cross: Settings of the cross-encoder that is trained.
    """

    freeze_towers: bool = False
    dev_share: float = 0.15
    hard_negatives: int = MOST_FOR_A_QUERY
    share_of_positive: float = SHARE_OF_POSITIVE
    max_tokens: int | None = None
    seed: int = 13
    tower: TowerRecipe = field(default_factory=TowerRecipe)
    scorer: ScorerRecipe = field(default_factory=ScorerRecipe)
    adversarial: AdversarialRecipe | None = None
    teacher: str = ""
    cross: CrossRecipe = field(default_factory=CrossRecipe)

    def __post_init__(self) -> None:
        """Refuse shares that are none, and adversarial steps that would never be made."""
        if not 0 < self.dev_share < 1:
            raise InputError(f"found the dev share {self.dev_share:g}, expected a number between 0 and 1.")
        if self.adversarial and self.freeze_towers:
            raise InputError(
                "found adversarial steps for a tower that is frozen; expected one that is trained. Leave one of the "
                "two away."
            )


@dataclass
class FitResult:
    """What a training made; everything that a bundle needs.

    Attributes:
        tower: The shared tower.
        scorer: The scorer that won, calibrated.
        scorer_kind: "residual", or "cosine" where the MLP did not win.
        threshold: Score from which a pair counts as a match.
        metrics: As `report.compare` returns them, and what was held out.
        recipe: The settings as plain values.
        training_data: One entry a set: name, rows, licence.
    """

    tower: SentenceTransformer
    scorer: ResidualScorer
    scorer_kind: str
    threshold: float
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    training_data: list[dict[str, Any]]


def fit(
    sets: Sequence[PairSet],
    *,
    checkpoint: str | Path | None = None,
    recipe: FitRecipe | None = None,
    work: Path,
    resume: bool = False,
    served: Callable[[SentenceTransformer], Towers] = TorchTowers,
) -> FitResult:
    """Train on labelled pairs.

    Args:
        sets: One or more sets of pairs; each is split on its own, one scorer serves all.
        checkpoint: As in `base.load_tower`.
        recipe: Settings; None for the defaults.
        work: Folder for what an interrupted run goes on from. It is emptied unless `resume`.
        resume: Go on with the run in `work`, if there is one.
        served: Makes, from the finished tower, the towers that will be served. Their vectors are what the scorer
            is trained on: an int8 bundle's differ from its checkpoint's.

    Raises:
        InputError: A set is too small to split, or `work` holds a run with other settings or data.
    """
    recipe = recipe or FitRecipe()
    splits = split_pairs(sets, dev_share=recipe.dev_share, seed=recipe.seed)
    prepare_work(work, _fingerprint(sets, checkpoint, recipe), resume=resume)
    tower = load_tower(checkpoint, max_tokens=recipe.max_tokens)
    if not recipe.freeze_towers:
        options: dict[str, Any] = {"recipe": recipe.tower, "adversarial": recipe.adversarial}
        tower = finetune(tower, sets, splits, work=work, resume=resume, **options)
    options = {"recipe": recipe.cross, "checkpoint": checkpoint, "work": work, "resume": resume}
    teacher = find_teacher(recipe.teacher, sets, splits, **options)
    pairs = encode_sets(served(tower), sets)
    chosen, metrics, kind = fit_scorer(sets, splits, pairs, recipe, teacher=teacher)
    return FitResult(
        tower=tower,
        scorer=chosen.scorer,
        scorer_kind=kind,
        threshold=chosen.threshold,
        metrics=metrics,
        recipe=asdict(recipe),
        training_data=[{"name": x.name, "rows": x.rows, "licence": x.licence} for x in sets],
    )


def fit_scorer(
    sets: Sequence[PairSet],
    splits: Sequence[Split],
    pairs: Sequence[ScorerPairs],
    recipe: FitRecipe,
    *,
    teacher: Score | None = None,
) -> tuple[Calibrated, dict[str, Any], str]:
    """Train the scorer on vectors; return what won, the comparison, and "residual" or "cosine".

    Args:
        sets: The sets.
        splits: One for each.
        pairs: The sets as rows of one table of vectors.
        recipe: Settings.
        teacher: A cross-encoder, which stands in the comparison. Its say is mixed with the labels (`taught`), and the
            scorer that learned from it is kept where it is better on dev than the one that did not.
    """
    mined = _mined(sets, splits, pairs, recipe)
    dev = join_pairs([x.where(split.dev) for x, split in zip(pairs, splits, strict=True)])
    cosine_alone = calibrate(ResidualScorer(dev.vectors.shape[1], hidden=0), dev)
    judge = None if teacher is None else calibrate_scores(teacher(*dev_texts(sets, splits)), dev)

    def tried(parts: Sequence[ScorerPairs]) -> tuple[Calibrated, dict[str, Any]]:
        train = join_pairs(parts)
        with _bar("Training the scorer", planned_epochs(recipe.scorer, len(train))) as step:
            residual = calibrate(train_scorer(train, recipe.scorer, progress=step), dev)
        return residual, compare(sets, splits, dev, score=residual, cosine=cosine_alone, teacher=judge)

    labelled = [x.where(split.train) for x, split in zip(pairs, splits, strict=True)]
    chosen, metrics = tried(labelled + mined)
    if teacher is not None:
        options: dict[str, Any] = {"teacher": teacher, "recipe": recipe.scorer, "seed": recipe.seed}
        parts = taught_pairs(sets, splits, pairs, mined, **options)
        with_teacher, found = tried(parts)
        teaching = {"pairs": sum(map(len, parts)), "gain": found["gain"], "gain_without": metrics["gain"]}
        if found["gain"] > metrics["gain"]:
            chosen, metrics = with_teacher, found
        metrics["teaching"] = teaching
    metrics["training_pairs"] = sum(map(len, labelled))
    metrics["mined_pairs"] = sum(map(len, mined))
    if wins(metrics):
        return chosen, metrics | {"scorer": "residual"}, "residual"
    return cosine_alone, metrics | {"scorer": "cosine"}, "cosine"


def _mined(
    sets: Sequence[PairSet], splits: Sequence[Split], pairs: Sequence[ScorerPairs], recipe: FitRecipe
) -> list[ScorerPairs]:
    limits = {"most": recipe.hard_negatives, "share_of_positive": recipe.share_of_positive}
    options: dict[str, Any] = {**limits, "seed": recipe.seed}
    return [mined_pairs(*one, **options) for one in zip(sets, splits, pairs, strict=True)]


def encode_sets(towers: Towers, sets: Sequence[PairSet], *, kept: Path | None = None) -> list[ScorerPairs]:
    """Encode each different text once as a query and once as a title, and return the sets as rows of one table.

    Args:
        towers: What encodes.
        sets: The pairs.
        kept: File of these texts' vectors by these towers: taken from there, or made there; None keeps none.
    """
    queries = list(dict.fromkeys(text for pairs in sets for text in pairs.queries))
    titles = list(dict.fromkeys(text for pairs in sets for text in pairs.titles))
    if kept is not None and kept.is_file():
        vectors = np.load(kept)
    else:
        vectors = _encoded(towers, queries, titles)
        if kept is not None:
            _keep(vectors, kept)
    query_row = {text: i for i, text in enumerate(queries)}
    title_row = {text: len(queries) + i for i, text in enumerate(titles)}
    return [
        ScorerPairs(
            vectors=vectors,
            queries=np.array([query_row[text] for text in pairs.queries], np.int64),
            titles=np.array([title_row[text] for text in pairs.titles], np.int64),
            labels=pairs.labels,
            sets=np.full(len(pairs), number, np.int64),
        )
        for number, pairs in enumerate(sets)
    ]


def _encoded(towers: Towers, queries: list[str], titles: list[str]) -> Floats:
    with _bar("Encoding", len(queries) + len(titles)) as step:
        parts = [*_chunks(towers.encode_queries, queries, step), *_chunks(towers.encode_titles, titles, step)]
    return np.concatenate(parts)


def _keep(vectors: Floats, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, vectors)
    unfinished.replace(path)


def _chunks(
    encode: Callable[[Sequence[str]], Floats], texts: list[str], step: Callable[[int], None]
) -> Iterator[Floats]:
    """Encode texts of like length together, a chunk at a time, and yield their vectors in the texts' own order."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    parts = []
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        parts.append(encode([texts[i] for i in rows]))
        step(len(rows))
    vectors = np.concatenate(parts)
    in_order = np.empty_like(vectors)
    in_order[order] = vectors
    yield in_order


# Interruption.


def prepare_work(work: Path, fingerprint: dict[str, str], *, resume: bool) -> None:
    """Empty the folder of a run, or check that the run in it is the one to go on with.

    Raises:
        InputError: The run in it has other settings or data, or the folder holds something else.
    """
    run = work / _RUN
    if not run.is_file():
        if work.is_dir() and any(work.iterdir()):
            raise InputError(f"{work} holds files and no earlier run. Choose another --work directory.")
    elif not resume:
        shutil.rmtree(work)
    else:
        found = json.loads(run.read_text(encoding="utf-8"))
        odd = [name for name in fingerprint if found.get(name) != fingerprint[name]]
        if odd:
            raise InputError(
                f"{work} holds a run with other {' and '.join(odd)}; it cannot be resumed with these. "
                "Repeat its settings, or start anew without --resume."
            )
    work.mkdir(parents=True, exist_ok=True)
    temporary = work / f".{_RUN}.{os.getpid()}"
    temporary.write_text(json.dumps(fingerprint, indent=2), encoding="utf-8")
    temporary.replace(run)


def _fingerprint(sets: Sequence[PairSet], checkpoint: str | Path | None, recipe: FitRecipe) -> dict[str, str]:
    data = hashlib.sha256()
    for pairs in sets:
        data.update(json.dumps([pairs.queries, pairs.titles, pairs.labels.tolist()]).encode())
    # Only what the fine-tuning depends on: a scorer may be trained again, with other settings, on a finished tower.
    settings = {"tower": asdict(recipe.tower), "dev_share": recipe.dev_share, "seed": recipe.seed}
    settings |= {"max_tokens": recipe.max_tokens, "freeze_towers": recipe.freeze_towers}
    settings |= {"adversarial": asdict(recipe.adversarial) if recipe.adversarial else None}
    return {
        "data": data.hexdigest(),
        "base": base_key(checkpoint),
        "settings": json.dumps(settings, sort_keys=True),
    }


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr, so that stdout stays what programs may read."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield partial(bar.advance, bar.add_task(what, total=total))
