from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.make_tiny import WORDS
from towers.errors import InputError
from towers.train.base import load_classifier
from towers.train.bodies import body_of
from towers.train.distillation import distil
from towers.train.distillation.distil import DistilRecipe, distil_classifier, distil_tower
from towers.train.distillation.teacher import answer, model_key, token_ids
from towers.train.sources import checked
from towers.train.structures.cut import cut

NOUNS = [word for word in WORDS if not word.startswith("##")]
QUICK = DistilRecipe(steps=60, batch_size=16, learning_rate=2e-3, save_steps=1000)


def phrases(count: int, *, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(NOUNS, rng.integers(1, 7))) for _ in range(count)]


def shallow(model: Any) -> Any:
    """A copy of a model with its first layer alone."""
    student = copy.deepcopy(model)
    cut(student, (0,))
    return student


def vectors(tower: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(tower.encode(texts, show_progress_bar=False))


def mean_cosine(student: Any, teacher: Any, texts: list[str]) -> float:
    return float((vectors(student, texts) * vectors(teacher, texts)).sum(axis=1).mean())


def logits(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    with torch.no_grad():
        rows = [answer(model.eval(), torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64))
                for ids in (row.tolist() for row in token_ids(tokenizer, texts, max_tokens=32))]  # fmt: skip
    return torch.cat(rows).numpy()


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    return float((a.argmax(1) == b.argmax(1)).mean())


@pytest.fixture
def classifier(checkpoint: Path) -> tuple[Any, Any]:
    torch.manual_seed(3)
    model, tokenizer = load_classifier(checkpoint)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # a fresh head says nothing: give the teacher something to teach
    return model, tokenizer


def test_a_student_learns_its_teachers_vectors(tower: Any, tmp_path: Path) -> None:
    """After distillation, texts that were not trained on get vectors closer to the teacher's."""
    student, unseen = shallow(tower), phrases(40, seed=2)
    before = mean_cosine(student, tower, unseen)
    returned = distil_tower(student, tower, phrases(400), recipe=QUICK, work=tmp_path)
    assert returned is student
    assert mean_cosine(student, tower, unseen) > before + 0.02
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_the_teacher_stays_as_it_was(tower: Any, tmp_path: Path) -> None:
    before = model_key(tower)
    distil_tower(
        shallow(tower),
        tower,
        phrases(50),
        recipe=checked(DistilRecipe, {"steps": 3}, where=""),
        work=tmp_path,
    )
    assert model_key(tower) == before


def test_nothing_is_dropped_while_a_student_learns(tower: Any, tmp_path: Path) -> None:
    """The student's dropout is off in every step, though the trainer puts its model into training mode."""
    student, modes = shallow(tower).train(), []
    layer = next(module for module in student.modules() if isinstance(module, nn.Dropout))
    layer.register_forward_hook(lambda *_: modes.append(layer.training))
    distil_tower(student, tower, phrases(50), recipe=DistilRecipe(steps=4, batch_size=8), work=tmp_path)
    assert len(modes) >= 4
    assert not any(modes)
    assert student.training  # as it was


class Stop(Exception):
    pass


def interrupted(
    student: Any, teacher: Any, texts: list[str], *, after: int, recipe: DistilRecipe, work: Path
) -> None:
    """Run until the student has answered `after` times."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Stop

    hook = body_of(student).register_forward_pre_hook(count)
    with pytest.raises(Stop):
        distil_tower(student, teacher, texts, recipe=recipe, work=work)
    hook.remove()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tower: Any, tmp_path: Path) -> None:
    """Stopped between two steps of its second pass, a run goes on from its checkpoint to the same weights."""
    texts, recipe = phrases(60), DistilRecipe(steps=12, batch_size=8, save_steps=4)
    whole = distil_tower(shallow(tower), tower, texts, recipe=recipe, work=tmp_path / "whole")
    interrupted(shallow(tower), tower, texts, after=10, recipe=recipe, work=tmp_path / "cut")
    assert not (tmp_path / "cut" / "student").exists()
    resumed = distil_tower(shallow(tower), tower, texts, recipe=recipe, work=tmp_path / "cut", resume=True)
    assert model_key(resumed) == model_key(whole)


def test_a_finished_student_is_taken_up(tower: Any, tmp_path: Path) -> None:
    """A repeated command trains nothing again; with another start, data or settings it is refused."""
    texts, recipe = phrases(60), DistilRecipe(steps=3, batch_size=8)
    first = distil_tower(shallow(tower), tower, texts, recipe=recipe, work=tmp_path)
    again = shallow(tower)
    body_of(again).register_forward_pre_hook(lambda *_: pytest.fail("a finished student was trained again"))
    assert model_key(
        distil_tower(again, tower, texts, recipe=recipe, work=tmp_path, resume=True)
    ) == model_key(first)
    for changed in (
        {"texts": texts[1:]},
        {"recipe": DistilRecipe(steps=4, batch_size=8)},
        {"student": copy.deepcopy(tower)},
    ):
        call = {"student": shallow(tower), "teacher": tower, "texts": texts, "recipe": recipe, **changed}
        with pytest.raises(InputError, match="holds a run with other"):
            distil_tower(**call, work=tmp_path, resume=True)


def test_students_that_share_a_cache_ask_once(tower: Any, tmp_path: Path) -> None:
    """The teacher answers each text once; a second student takes the answers that are there."""
    texts, recipe, students = (
        phrases(60),
        DistilRecipe(steps=3, batch_size=8),
        [shallow(tower), shallow(tower)],
    )
    shared = {"recipe": recipe, "cache": tmp_path / "teacher"}
    distil_tower(students[0], tower, texts, work=tmp_path / "a", **shared)
    hook = body_of(tower).register_forward_pre_hook(lambda *_: pytest.fail("the teacher was asked again"))
    try:
        distil_tower(students[1], tower, texts, work=tmp_path / "b", **shared)
    finally:
        hook.remove()


def test_only_texts_that_the_steps_reach_are_asked(tower: Any, tmp_path: Path) -> None:
    """Three steps of eight texts ask the teacher for 24 of 300 vectors."""
    distil_tower(
        shallow(tower), tower, phrases(300), recipe=DistilRecipe(steps=3, batch_size=8), work=tmp_path
    )
    (file,) = (tmp_path / "teacher").iterdir()
    assert np.load(file).shape == (24, 16)
    assert np.load(file).dtype == np.float16


def test_frozen_embeddings_stay(tower: Any, tmp_path: Path) -> None:
    """The word table keeps its bits, the rest learns."""
    student = shallow(tower)
    recipe = DistilRecipe(steps=3, batch_size=8, freeze_embeddings=True)
    distil_tower(student, tower, phrases(60), recipe=recipe, work=tmp_path)
    mine, theirs = body_of(student), body_of(tower)
    assert torch.equal(mine.embeddings.word_embeddings.weight, theirs.embeddings.word_embeddings.weight)
    assert not torch.equal(
        mine.encoder.layer[0].output.dense.weight, theirs.encoder.layer[0].output.dense.weight
    )
    assert mine.embeddings.word_embeddings.weight.requires_grad


@pytest.mark.parametrize(
    "settings", [{"hidden": 1.0}, {"against": "teacher"}, {"bf16": True}, {"scores": 5.0}], ids=str
)
def test_every_loss_teaches(tower: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Each option of the losses brings unseen texts closer to the teacher's vectors."""
    student, unseen, texts = shallow(tower), phrases(40, seed=2), phrases(300)
    before = mean_cosine(student, tower, unseen)
    recipe = DistilRecipe(**{**vars(QUICK), "steps": 30, **settings})
    distil_tower(
        student,
        tower,
        texts,
        recipe=recipe,
        work=tmp_path,
        pairs=list(zip(texts[:50], texts[50:], strict=False)),
    )
    assert mean_cosine(student, tower, unseen) > before + 0.01


def test_scores_alone_teach_the_cosines_of_pairs(tower: Any, tmp_path: Path) -> None:
    """With nothing but the pairs' loss, the cosines of those pairs come closer to the teacher's."""
    student, texts = shallow(tower), phrases(200)
    pairs = list(zip(texts[:100], texts[100:], strict=True))
    recipe = DistilRecipe(**{**vars(QUICK), "vectors": 0.0, "structure": 0.0, "scores": 1.0})

    def error() -> float:
        cosines = [(vectors(m, texts[:100]) * vectors(m, texts[100:])).sum(axis=1) for m in (student, tower)]
        return float(np.square(cosines[0] - cosines[1]).mean())

    before = error()
    distil_tower(student, tower, [], recipe=recipe, work=tmp_path, pairs=pairs)
    assert error() < before / 2


def test_scores_alone_leave_out_texts_in_no_pair(tower: Any, tmp_path: Path) -> None:
    """Texts in no pair would fill steps that teach nothing: the teacher is asked for the pairs' texts alone."""
    texts = list(dict.fromkeys(phrases(300)))
    recipe = DistilRecipe(steps=4, batch_size=8, vectors=0.0, structure=0.0, scores=1.0)
    pairs = list(zip(texts[:20], texts[20:40], strict=True))
    distil_tower(shallow(tower), tower, texts, recipe=recipe, work=tmp_path, pairs=pairs)
    (file,) = (tmp_path / "teacher").iterdir()
    assert len(np.load(file)) == 40


def test_a_classifier_learns_its_teachers_answers(classifier: tuple[Any, Any], tmp_path: Path) -> None:
    """A cut classifier agrees with its teacher on unseen texts more often after distillation than before."""
    teacher, tokenizer = classifier
    student, unseen = shallow(teacher), phrases(80, seed=2)
    wanted = logits(teacher, tokenizer, unseen)
    before = agreement(logits(student, tokenizer, unseen), wanted)
    distil_classifier(student, teacher, tokenizer, phrases(400), recipe=QUICK, work=tmp_path)
    after = logits(student, tokenizer, unseen)
    assert agreement(after, wanted) > before
    assert agreement(after, wanted) > 0.8


def test_a_classifier_learns_labels_as_well(classifier: tuple[Any, Any], tmp_path: Path) -> None:
    """With labels' weight alone, the student learns labels that the teacher knows nothing of, where there are any."""
    teacher, tokenizer = classifier
    student, texts = shallow(teacher), phrases(300)
    classes = np.array([2 if len(text.split()) > 3 else 0 for text in texts], np.int64)
    given = np.where(np.arange(len(texts)) % 2, classes, -1)
    recipe = DistilRecipe(**{**vars(QUICK), "steps": 200, "logits": 0.0, "labels": 1.0})
    distil_classifier(student, teacher, tokenizer, texts, labels=given, recipe=recipe, work=tmp_path)
    found = logits(student, tokenizer, texts).argmax(1)
    assert float((found == classes).mean()) > 0.85


def test_a_known_label_outlasts_unknown_ones(
    classifier: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a text's labels the first known one is taught, whatever stands before or behind it."""
    taught: dict[str, int] = {}

    def note(self: distil._Run, *_: Any, **__: Any) -> None:
        classes = self._lessons.classes
        assert classes is not None
        taught.update(zip(self._lessons.texts, classes.tolist(), strict=True))

    monkeypatch.setattr(distil._Run, "finish", note)
    teacher, tokenizer = classifier
    texts, labels = ["red", "tea", "red", "tea", "red", "hat"], np.array([2, -1, -1, 1, 0, -1], np.int64)
    recipe = DistilRecipe(steps=2, batch_size=4, labels=1.0)
    distil_classifier(
        shallow(teacher), teacher, tokenizer, texts, labels=labels, recipe=recipe, work=tmp_path
    )
    assert taught == {"red": 2, "tea": 1, "hat": -1}


def test_what_cannot_be_learned_is_refused(tower: Any, classifier: tuple[Any, Any], tmp_path: Path) -> None:
    """Nothing to learn from, no labels where they count, other widths: each error says what was found and expected."""
    teacher, tokenizer = classifier
    silent = DistilRecipe(vectors=0.0, structure=0.0, logits=0.0)
    with pytest.raises(InputError, match="all 0, expected one of them above 0"):
        distil_tower(shallow(tower), tower, phrases(9), recipe=silent, work=tmp_path)
    with pytest.raises(InputError, match="all 0, expected one of them above 0"):
        distil_classifier(shallow(teacher), teacher, tokenizer, phrases(9), recipe=silent, work=tmp_path)
    with pytest.raises(InputError, match="found labels = 1 and no labels"):
        distil_classifier(
            shallow(teacher), teacher, tokenizer, phrases(9), recipe=DistilRecipe(labels=1.0), work=tmp_path
        )
    with pytest.raises(InputError, match=r"found scores = 2 and no pairs, expected .* give"):
        distil_tower(
            shallow(tower), tower, phrases(9), recipe=DistilRecipe(scores=2.0), work=tmp_path / "new"
        )
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="found 1 different texts"):
        distil_tower(shallow(tower), tower, ["red"] * 9, recipe=QUICK, work=tmp_path)
    wider = copy.deepcopy(tower)
    wider.append(_dense(16, 24))
    with pytest.raises(InputError, match="width 24 and a teacher with 16"):
        distil_tower(wider, tower, phrases(9), recipe=QUICK, work=tmp_path)
    with pytest.raises(InputError, match="the student has no more"):
        distil_tower(
            copy.deepcopy(tower), shallow(tower), phrases(9), recipe=DistilRecipe(hidden=1.0), work=tmp_path
        )


def _dense(width: int, dim: int) -> Any:
    from sentence_transformers.sentence_transformer.modules import Dense

    return Dense(width, dim, activation_function=nn.Identity())


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"batch_size": 1},
        {"vectors": -1.0},
        {"warmup": 1.0},
        {"temperature": 0.0},
        {"learning_rate": 0.0},
        {"against": "titles"},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"distil: found .* expected"):
        checked(DistilRecipe, values, where="[distil]")
