from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.make_tiny import WORDS
from towers.train.bilingual.lessons import Lesson
from towers.train.bilingual.losses import contrast_loss, order_loss, shortened
from towers.train.bilingual.recipe import KINDS, BilingualRecipe
from towers.train.bilingual.training import Taught, teach
from towers.train.bodies import body_of
from towers.train.distillation.distil_losses import structure_loss, vector_loss
from towers.train.distillation.teacher import model_key
from towers.train.structures.cut import cut

NOUNS = [word for word in WORDS if not word.startswith("##")]
CHINESE = ["手机", "订单", "取消", "红", "鞋", "蓝", "取消订单", "的"]
QUICK = BilingualRecipe(
    steps=12,
    batch_texts=16,
    learning_rate=2e-3,
    warmup=0.0,
    short_dim=8,
    train_tokens=12,
    save_steps=1000,
)


def phrases(count: int, *, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice([*NOUNS, *CHINESE], rng.integers(1, 6))) for _ in range(count)]


def vectors(tower: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(tower.encode(texts, show_progress_bar=False))


def imitation(teacher: Any) -> Lesson:
    texts = phrases(120)
    return Lesson("english", "imitate", 1.0, [(text,) for text in texts], vectors(teacher, texts))


def contrast() -> Lesson:
    """A title is its query with a word more; the third texts have nothing to do with any query."""
    texts, others = phrases(24, seed=2), phrases(24, seed=5)
    items = [(text, f"{text} sale", other) for text, other in zip(texts, others, strict=True)]
    return Lesson("triples", "contrast", 1.0, list(items))


def order() -> Lesson:
    """The label of a pair is the share of words that both texts have."""
    texts, others = phrases(80, seed=3), phrases(80, seed=4)
    pairs = [(a, f"{a} {b}" if i % 2 else b) for i, (a, b) in enumerate(zip(texts, others, strict=True))]
    labels = np.array([len({*a.split()} & {*b.split()}) / len({*a.split()} | {*b.split()}) for a, b in pairs])
    return Lesson("pairs", "order", 1.0, list(pairs), labels)


@pytest.fixture(scope="session")
def lessons(tower: Any) -> list[Lesson]:
    return [imitation(tower), contrast(), order()]


@pytest.fixture
def new(student: Any) -> Callable[[], Any]:
    """Makes untrained students, each with one layer, all alike."""
    from copy import deepcopy

    cut(student, (0,))
    return lambda: deepcopy(student)


def batch(
    tokenizer: Any, columns: list[list[str]], kind: str, targets: Any = None
) -> dict[str, torch.Tensor]:
    encoded = tokenizer([text for column in columns for text in column], padding=True, return_tensors="pt")
    made = {
        "kind": torch.tensor(KINDS.index(kind)),
        "items": torch.tensor(len(columns[0])),
        "input_ids": encoded["input_ids"],
        "attention_mask": encoded["attention_mask"],
    }
    return made if targets is None else made | {"targets": torch.as_tensor(targets, dtype=torch.float32)}


def unit(rows: int, dim: int) -> torch.Tensor:
    return nn.functional.normalize(
        torch.from_numpy(np.random.default_rng(6).normal(size=(rows, dim))).float(), dim=-1
    )


def test_the_loss_of_a_batch_is_that_of_its_kind(student: Any) -> None:
    """On whole vectors, and with weight 0.3 on shortened ones; of those only similarities can be imitated."""
    texts = [phrases(3, seed=seed) for seed in (7, 8, 9)]
    first, second, third = (torch.from_numpy(vectors(student, column)) for column in texts)
    s_first, s_second, s_third = (shortened(column, 8) for column in (first, second, third))
    targets, labels = unit(3, 16), torch.tensor([0.0, 0.5, 1.0])
    taught = Taught(student, short_dim=8).eval()

    def loss(count: int, kind: str, wanted: Any = None) -> float:
        return float(taught(**batch(student.tokenizer, texts[:count], kind, wanted))["loss"].detach())

    imitated = vector_loss(first, targets) + 10 * structure_loss(first, targets, against=first)
    assert loss(1, "imitate", targets) == pytest.approx(
        float(imitated + 0.3 * 10 * structure_loss(s_first, targets, against=s_first)), rel=1e-4
    )
    assert loss(2, "contrast") == pytest.approx(
        float(contrast_loss(first, second) + 0.3 * contrast_loss(s_first, s_second)), rel=1e-4
    )
    assert loss(3, "contrast") == pytest.approx(
        float(contrast_loss(first, second, third) + 0.3 * contrast_loss(s_first, s_second, s_third)), rel=1e-4
    )
    ordered = order_loss((first * second).sum(-1), labels) + 0.3 * order_loss(
        (s_first * s_second).sum(-1), labels
    )
    assert loss(2, "order", labels) == pytest.approx(float(ordered), rel=1e-4)


def test_perfect_imitation_costs_nothing(student: Any) -> None:
    """Targets that the student gives already have the loss 0, but for their shortened similarities."""
    texts = phrases(4, seed=7)
    own = torch.from_numpy(vectors(student, texts))
    taught = Taught(student, short_dim=16).eval()
    found = taught(**batch(student.tokenizer, [texts], "imitate", own))["loss"]
    assert float(found.detach()) == pytest.approx(0, abs=1e-5)


def test_dropout_is_on_where_labels_teach(student: Any) -> None:
    """And off where a teacher's vectors do; it is off altogether when nothing is trained."""
    taught, modes = Taught(student, short_dim=8), []
    layer = next(module for module in student.modules() if isinstance(module, nn.Dropout))
    layer.register_forward_hook(lambda *_: modes.append(layer.training))
    texts, labels = [phrases(2), phrases(2, seed=2)], [0.0, 1.0]
    calls = [
        batch(student.tokenizer, texts[:1], "imitate", unit(2, 16)),
        batch(student.tokenizer, texts, "contrast"),
        batch(student.tokenizer, texts[:1], "imitate", unit(2, 16)),
        batch(student.tokenizer, texts, "order", labels),
    ]
    for training in (True, False):
        taught.train(training)
        for call in calls:
            taught(**call)
    assert modes == [False, True, False, True] + [False] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_lesson_teaches(
    new: Callable[[], Any], lessons: list[Lesson], kind: str, tmp_path: Path
) -> None:
    """After some 40 steps the loss of its texts, all in one batch, is lower than before."""
    student = new()
    [lesson] = [lesson for lesson in lessons if lesson.kind == kind]
    columns = [list(column) for column in zip(*lesson.texts, strict=True)]
    measured = batch(student.tokenizer, columns, kind, lesson.targets)

    def loss() -> float:
        with torch.no_grad():
            return float(Taught(student, short_dim=8).eval()(**measured)["loss"])

    before = loss()
    recipe = BilingualRecipe(**{**vars(QUICK), "steps": 40, "batch_texts": 36})
    teach(student, [lesson], recipe=recipe, work=tmp_path, resume=False)
    assert loss() < 0.9 * before


def test_a_taught_tower_is_ready_to_use(
    new: Callable[[], Any], lessons: list[Lesson], tmp_path: Path
) -> None:
    """It is trained in place, answers without dropout, and the log has the mean loss of every 100 steps."""
    student = new()
    before = model_key(student)
    recipe = BilingualRecipe(**{**vars(QUICK), "steps": 100, "batch_texts": 3})
    [logged] = teach(student, lessons, recipe=recipe, work=tmp_path, resume=False)
    assert not any(module.training for module in student.modules())
    assert model_key(student) != before
    assert logged["step"] == 100
    assert logged["loss"] > 0


class Stop(Exception):
    pass


def interrupted(
    student: Any, lessons: list[Lesson], *, after: int, recipe: BilingualRecipe, work: Path
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
        teach(student, lessons, recipe=recipe, work=work, resume=False)
    hook.remove()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    new: Callable[[], Any], lessons: list[Lesson], tmp_path: Path
) -> None:
    """Stopped between checkpoints, it goes on from the last one to the same weights, dropout included."""
    recipe = BilingualRecipe(**{**vars(QUICK), "save_steps": 4})
    whole = new()
    teach(whole, lessons, recipe=recipe, work=tmp_path / "whole", resume=False)
    interrupted(new(), lessons, after=10, recipe=recipe, work=tmp_path / "cut")
    torch.manual_seed(99)  # where the generator stands is part of the checkpoint
    resumed = new()
    teach(resumed, lessons, recipe=recipe, work=tmp_path / "cut", resume=True)
    assert model_key(resumed) == model_key(whole)


def test_a_run_without_a_checkpoint_starts_anew(
    new: Callable[[], Any], lessons: list[Lesson], tmp_path: Path
) -> None:
    """To go on from nothing is to begin; the same seed gives the same weights."""
    first, second = new(), new()
    recipe = BilingualRecipe(**{**vars(QUICK), "steps": 4})
    teach(first, lessons, recipe=recipe, work=tmp_path / "first", resume=False)
    teach(second, lessons, recipe=recipe, work=tmp_path / "second", resume=True)
    assert model_key(first) == model_key(second)


def test_long_texts_are_cut_in_training(new: Callable[[], Any], tmp_path: Path) -> None:
    """At `train_tokens`, however long the tower reads when it serves."""
    student, lengths = new(), []
    body_of(student).register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    lesson = Lesson("long", "imitate", 1.0, [("red " * n,) for n in range(1, 20)], unit(19, 16).numpy())
    recipe = BilingualRecipe(**{**vars(QUICK), "steps": 4, "train_tokens": 6})
    teach(student, [lesson], recipe=recipe, work=tmp_path, resume=False)
    assert max(lengths) == 6
