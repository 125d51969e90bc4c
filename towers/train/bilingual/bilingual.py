"""From an English tower and a pile of Chinese and English texts to a bilingual tower.

    texts ──▶ vocabulary ──▶ student: English layers, Chinese words that start from their translations
    English tower ──▶ vectors of English texts, of translations and of glosses ──▶ lessons ──▶ tower

Dev pairs are drawn as `fit` draws them, and neither they nor their texts are in any lesson.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from towers.train.base import load_tower, save_tower
from towers.train.bilingual.dictionary import LICENCE, Entry, packaged_dictionary, read_dictionary
from towers.train.bilingual.labelled import labelled_lessons, shared_out, with_english
from towers.train.bilingual.lessons import Lesson
from towers.train.bilingual.material import Material, read_material
from towers.train.bilingual.parallel import aligned
from towers.train.bilingual.recipe import BilingualRecipe
from towers.train.bilingual.student import bilingual_student, principal_rotation
from towers.train.bilingual.training import teach
from towers.train.bilingual.vocabulary import Vocabulary, chosen_vocabulary
from towers.train.bodies import body_of
from towers.train.data import PairSet, text_key
from towers.train.distillation.teacher import ask
from towers.train.fit import prepare_work
from towers.train.sources import BundleRecipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Say = Callable[[str], None]
_VOCABULARY = "vocabulary.json"
_ROTATION_TEXTS = 20_000
_LONGEST_GLOSS = 60  # characters: longer ones explain rather than translate


def bilingual_tower(
    recipe: BundleRecipe,
    wanted: BilingualRecipe,
    sets: Sequence[PairSet],
    *,
    split: Mapping[str, Any],
    data: Path,
    work: Path,
    resume: bool,
    say: Say,
) -> tuple[str, str, dict[str, Any]]:
    """Make the bilingual tower of a recipe, unless an earlier run has.

    Args:
        recipe: Names the sources.
        wanted: Settings.
        sets: The labelled pairs of the recipe.
        split: How `fit` will split them, so that its dev pairs stay unseen: the arguments of `split_pairs`.
        data: Folder to which the recipe's files are relative.
        work: Folder for what an interrupted run goes on from, and for the checkpoint.
        resume: Go on from it.
        say: Takes a line for each stage.

    Returns:
        The directories of `bilingual_checkpoint`, and what a manifest says: recipe and training_data.
    """
    material, entries = read_material(recipe, sets, split=split, data=data)
    tower, taught = bilingual_checkpoint(
        material, base=recipe.base or None, recipe=wanted, work=work, resume=resume, say=say
    )
    entries.append(
        {"name": "CC-CEDICT", "rows": len(read_dictionary(packaged_dictionary())), "licence": LICENCE}
    )
    facts = {
        "recipe": {"bilingual": asdict(wanted)},
        "training_data": [{"use": "tower"} | entry for entry in entries],
    }
    return str(tower), str(taught), facts


def bilingual_checkpoint(
    material: Material,
    *,
    base: str | None,
    recipe: BilingualRecipe,
    work: Path,
    resume: bool,
    say: Say,
) -> tuple[Path, Path]:
    """Make a bilingual tower and save it as a sentence-transformers checkpoint.

    Args:
        material: What it is made from.
        base: The English tower, as in `base.resolve_checkpoint`.
        recipe: Settings.
        work: Folder for what an interrupted run goes on from, and for the checkpoints.
        resume: Go on from it.
        say: Takes a line for each stage.

    Returns:
        The directories of the tower, and of the tower before its last stage, which has the same embeddings.

    Raises:
        InputError: `work` holds a run with other settings, base or data.
        MissingDependencyError: The dictionary is not installed.
    """
    settings = json.dumps(asdict(recipe), sort_keys=True)
    prepare_work(work, {"settings": settings, "base": base or "default", "data": material.key}, resume=resume)
    taught, finished = work / "taught", work / "checkpoint"
    if not finished.is_dir():
        course = _Course(material, base=base, recipe=recipe, work=work, say=say)
        if not taught.is_dir():
            student = course.first_stage(resume=resume)
            save_tower(student, taught)
        tower = load_tower(taught)
        if recipe.finish_steps:
            course.last_stage(tower, resume=resume)
        save_tower(tower, finished)
    return finished, taught


class _Course:
    """All that a student is taught: what both stages share is made once."""

    def __init__(
        self, material: Material, *, base: str | None, recipe: BilingualRecipe, work: Path, say: Say
    ) -> None:
        self._material, self._recipe, self._work, self._say = material, recipe, work, say
        self._teacher = load_tower(base, max_tokens=recipe.max_tokens)
        self._dictionary = read_dictionary(packaged_dictionary())
        self._vocabulary = _vocabulary(material, self._dictionary, self._teacher, recipe, work)
        say(
            f"vocabulary: {len(self._vocabulary.pieces):,} pieces, {len(self._vocabulary.characters):,} characters, "
            f"{len(self._vocabulary.words):,} words"
        )
        self._asked = _Asked(self._teacher, recipe, work / "teacher")
        english = _drawn(material.unseen(material.english), recipe.english, recipe.seed)
        vectors = self._asked.vectors(english)
        self._rotation = principal_rotation(vectors[:_ROTATION_TEXTS])
        kept = np.square(vectors[:_ROTATION_TEXTS] @ self._rotation[:, : recipe.short_dim]).sum(axis=1).mean()
        say(
            f"English: {len(english):,} texts; the first {recipe.short_dim} numbers hold {kept:.1%} of their vectors"
        )
        self._english = Lesson(
            "english", "imitate", 0.35, [(text,) for text in english], vectors @ self._rotation
        )
        self._whole = self._started(range(body_of(self._teacher).config.num_hidden_layers))
        self._translated = self._translations()

    def first_stage(self, *, resume: bool) -> SentenceTransformer:
        """Return a student that was taught everything, Chinese above all."""
        recipe, material = self._recipe, self._material
        student = self._started(recipe.layers)
        chinese = _drawn(material.unseen(material.chinese), recipe.chinese, recipe.seed)
        glossed = _Asked(self._whole, recipe, self._work / "glossed").vectors(chinese)
        lessons = [
            self._english,
            self._words(),
            *self._translated,
            Lesson("chinese", "imitate", 0.3, [(text,) for text in chinese], glossed),
            *labelled_lessons(material.training, material.unseen_triples),
        ]
        self._teach(student, shared_out(lessons, recipe.shares), recipe, "steps", resume=resume)
        _tie_traditional(student, self._vocabulary, self._dictionary)
        return student

    def last_stage(self, student: SentenceTransformer, *, resume: bool) -> None:
        """Teach a student on, in place: English as much as Chinese, with embeddings that stay as they are."""
        recipe, material = self._recipe, self._material
        labelled = labelled_lessons(material.training, material.unseen_triples)
        lessons = [self._english, *self._translated, *with_english(labelled, material.training)]
        settings = replace(recipe, steps=recipe.finish_steps, learning_rate=recipe.finish_rate)
        embeddings = body_of(student).embeddings
        embeddings.requires_grad_(False)
        self._teach(student, shared_out(lessons, recipe.finish_shares), settings, "last-steps", resume=resume)
        embeddings.requires_grad_(True)

    def _started(self, layers: Sequence[int]) -> SentenceTransformer:
        return bilingual_student(
            self._teacher,
            self._vocabulary,
            self._dictionary,
            layers=layers,
            max_tokens=self._recipe.max_tokens,
            rotation=self._rotation,
        )

    def _teach(
        self,
        student: SentenceTransformer,
        lessons: Sequence[Lesson],
        recipe: BilingualRecipe,
        folder: str,
        *,
        resume: bool,
    ) -> None:
        for lesson in lessons:
            share = lesson.share / sum(x.share for x in lessons)
            self._say(f"{lesson.kind} {lesson.name}: {len(lesson.texts):,} items, {share:.1%} of the steps")
        losses = teach(student, lessons, recipe=recipe, work=self._work / folder, resume=resume)
        (self._work / f"{folder}.json").write_text(json.dumps(losses), encoding="utf-8")

    def _words(self) -> Lesson:
        """Words of the dictionary, which imitate the vectors of their first translations."""
        recipe = self._recipe
        fitting = [
            (entry.simplified, "; ".join(entry.glosses[:2]))
            for entry in self._dictionary
            if len(entry.simplified) > 1
            and len("; ".join(entry.glosses[:2])) <= _LONGEST_GLOSS
            and text_key(entry.simplified) not in self._material.dev_texts
        ]
        rng = np.random.default_rng(recipe.seed)
        drawn = [fitting[i] for i in np.sort(rng.permutation(len(fitting))[: recipe.entries])]
        targets = self._asked.vectors([gloss for _, gloss in drawn]) @ self._rotation
        return Lesson("dictionary", "imitate", 0.2, [(word,) for word, _ in drawn], targets)

    def _translations(self) -> list[Lesson]:
        """Chinese sentences, which imitate the vectors of their English originals; no lesson where there are none."""
        if self._material.translated is None:
            return []
        english, chinese = self._material.translated
        texts: list[tuple[str, ...]] = []
        targets: list[NDArray[np.float32]] = []
        glossed = _Asked(self._whole, self._recipe, self._work / "glossed")
        for side in ("queries", "titles"):
            wanted = self._asked.vectors(getattr(english, side)) @ self._rotation
            found = glossed.vectors(getattr(chinese, side))
            for row, other in aligned(english.labels, wanted, chinese.labels, found):
                if text_key(text := getattr(chinese, side)[other]) not in self._material.dev_texts:
                    texts.append((text,))
                    targets.append(wanted[row])
        return [Lesson("translated", "imitate", 0.15, texts, np.array(targets))] if texts else []


class _Asked:
    """A teacher whose answers are kept on disk."""

    def __init__(self, teacher: SentenceTransformer, recipe: BilingualRecipe, cache: Path) -> None:
        self._teacher, self._recipe, self._cache = teacher, recipe, cache

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors (n, dim) of texts."""
        tokens = self._recipe.train_tokens
        found = ask(self._teacher, self._teacher.tokenizer, texts, max_tokens=tokens, cache=self._cache)
        return found.astype(np.float32)


def _vocabulary(
    material: Material,
    dictionary: Sequence[Entry],
    teacher: SentenceTransformer,
    recipe: BilingualRecipe,
    work: Path,
) -> Vocabulary:
    path = work / _VOCABULARY
    if path.is_file():
        return Vocabulary(*map(tuple, json.loads(path.read_text(encoding="utf-8"))))
    texts = [
        *material.chinese,
        *(text for pairs in material.sets for text in (*pairs.queries, *pairs.titles)),
    ]
    vocabulary = chosen_vocabulary(
        texts,
        dictionary,
        teacher.tokenizer.get_vocab(),
        words=recipe.words,
        least_word=recipe.least_word,
        least_character=recipe.least_character,
    )
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(
        json.dumps([vocabulary.pieces, vocabulary.characters, vocabulary.words]), encoding="utf-8"
    )
    temporary.replace(path)  # a run that is interrupted here must not go on from half of it
    return vocabulary


def _tie_traditional(
    student: SentenceTransformer, vocabulary: Vocabulary, dictionary: Sequence[Entry]
) -> None:
    """Give traditional characters, which the texts hardly have, the embeddings of their simplified forms."""
    table = body_of(student).get_input_embeddings().weight.data
    place = {token: number for number, token in enumerate(vocabulary.tokens)}
    common = {entry.simplified for entry in dictionary if entry.simplified == entry.traditional}
    for entry in dictionary:
        old, new = entry.traditional, entry.simplified
        if len(new) == 1 and old != new and old in place and new in place and old not in common:
            table[place[old]] = table[place[new]]


def _drawn(texts: Sequence[str], most: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(texts))[:most]
    return [texts[i] for i in order]
