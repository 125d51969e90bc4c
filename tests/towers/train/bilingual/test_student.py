from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers import open_bundle
from towers.train.base import load_tower
from towers.train.bilingual.dictionary import Entry
from towers.train.bilingual.student import (
    bilingual_student,
    principal_rotation,
    start_embeddings,
    translation,
)
from towers.train.bilingual.vocabulary import SPECIAL, Vocabulary
from towers.train.bodies import body_of, layer_stack
from towers.train.distillation.teacher import model_key
from towers.train.exporting.assemble import tower_parts
from towers.train.exporting.export import Precision
from towers.train.write import write_bundle

ENGLISH = ["red shoes", "I want to cancel my order now!", "blue wool coat, size 10", "a"]
CHINESE = ["取消订单", "红鞋的手机", "我取消 red 鞋", "手机"]

# An English tower of seven words, in an order of its own; lengths are 5, 10 and 3, their mean is 6.
OLD_IDS = {"phone": 0, "[CLS]": 1, "[PAD]": 2, "cell": 3, "[UNK]": 4, "[MASK]": 5, "[SEP]": 6, "red": 7}
OLD = np.array([[3, 4], [9, 9], [0, 0], [6, 8], [8, 8], [7, 7], [6, 6], [3, 0]], np.float32)


def start(
    words: tuple[str, ...], characters: tuple[str, ...], **glosses: tuple[str, ...]
) -> dict[str, list[float]]:
    """The embeddings that tokens start from, by token; a gloss is cut at spaces."""
    vocabulary = Vocabulary((*SPECIAL, "red", "phone", "cell"), characters, words)
    table = start_embeddings(
        vocabulary,
        [Entry(word, word, found) for word, found in glosses.items()],
        old=OLD,
        old_ids=OLD_IDS,
        pieces_of=lambda text: [OLD_IDS[piece] for piece in text.split()],
    )
    assert table.dtype == np.float32
    return dict(zip(vocabulary.tokens, table.tolist(), strict=True))


def test_pieces_keep_their_embeddings() -> None:
    """Under their new ids."""
    found = start((), ())
    assert found == {piece: OLD[OLD_IDS[piece]].tolist() for piece in (*SPECIAL, "red", "phone", "cell")}


def test_a_word_starts_from_its_translation() -> None:
    """The mean of (3, 4) and (6, 8) is (4.5, 6), of length 7.5; stretched to 6 that is (3.6, 4.8)."""
    found = start(("手机",), ("红",), 手机=("cell phone",), 红=("red",))
    assert found["手机"] == pytest.approx([3.6, 4.8])
    assert found["红"] == pytest.approx([6, 0])


def test_all_pieces_of_the_first_translations_count_alike() -> None:
    """Three glosses: (3, 4), (3, 4) and (6, 8), (3, 0) have the mean (3.75, 4); the fourth one is not looked at."""
    found = start((), ("机",), 机=("phone", "phone cell", "red", "cell cell cell"))
    mean = np.array([3.75, 4])
    assert found["机"] == pytest.approx((mean * 6 / np.linalg.norm(mean)).tolist())


def test_a_word_without_a_translation_starts_from_its_characters() -> None:
    """红 is (3, 0) and 机 is (3, 4): their mean (3, 2) is stretched, not the mean of what they were stretched to."""
    found = start(("红机",), ("红", "机"), 红=("red",), 机=("phone",))
    assert found["红机"] == pytest.approx((np.array([3, 2]) * 6 / 13**0.5).tolist())


def test_a_character_without_a_translation_starts_from_the_mean_of_the_others() -> None:
    """And so does an unknown character of a word; words do not enter that mean."""
    found = start(("红子", "手机"), ("红", "机", "的"), 红=("red",), 机=("phone",), 手机=("cell",))
    assert found["的"] == pytest.approx((np.array([3, 2]) * 6 / 13**0.5).tolist())
    assert found["红子"] == pytest.approx((np.array([3, 1]) * 6 / 10**0.5).tolist())


def test_without_any_translation_all_start_from_the_mean_of_the_pieces() -> None:
    found = start(("手机",), ("的",))
    mean = OLD.mean(axis=0)
    assert found["手机"] == found["的"] == pytest.approx((mean * 6 / np.linalg.norm(mean)).tolist())


def test_traditional_forms_have_the_same_translation() -> None:
    """Unless the form is a word of its own."""
    vocabulary = Vocabulary((*SPECIAL, "red", "phone", "cell"), ("紅", "红"), ())
    tables = [
        start_embeddings(
            vocabulary, entries, old=OLD, old_ids=OLD_IDS, pieces_of=lambda text: [OLD_IDS[text]]
        )
        for entries in (
            [Entry("红", "紅", ("red",))],
            [Entry("紅", "紅", ("phone",)), Entry("红", "紅", ("red",))],
        )
    ]
    assert tables[0][-1].tolist() == tables[0][-2].tolist()
    assert tables[1][-1].tolist() != tables[1][-2].tolist()


@pytest.mark.parametrize(
    ("glosses", "short"),
    [
        (["to lose", "to be lost"], ["lose", "lost"]),
        (["the cell phone of somebody"], ["cell phone"]),
        (["to be"], ["to be"]),
        (["To cancel", "a", "b2b (note)", "too late"], ["cancel", "a", "b2b note"]),
        ([], []),
    ],
)
def test_a_translation_has_no_filling_words(glosses: list[str], short: list[str]) -> None:
    """Unless they are all there is; at most three translations count."""
    assert translation(glosses) == short


@given(st.integers(0, 1000), st.integers(2, 12))
def test_a_rotation_keeps_cosines_and_puts_the_strongest_axes_first(seed: int, dim: int) -> None:
    """It is orthogonal; sums of squares fall from number to number; and no other axes hold more in the first ones."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, dim)) * rng.uniform(0.1, 3, dim) + rng.normal(size=dim)
    rotation = principal_rotation(vectors)
    assert rotation.dtype == np.float32
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(dim), atol=1e-5)
    turned = vectors @ rotation
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-3)
    strength = np.square(turned).sum(axis=0)
    assert (np.diff(strength) <= 1e-3 * strength[0]).all()
    assert strength[:2].sum() >= np.square(vectors)[:, :2].sum() - 1e-3 * strength[0]


def vectors(tower: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(tower.encode(texts, show_progress_bar=False))


@pytest.fixture(scope="module")
def rotation() -> np.ndarray:
    return principal_rotation(np.random.default_rng(5).normal(size=(50, 16)))


@pytest.fixture(scope="module")
def turned(tower: Any, vocabulary: Vocabulary, dictionary: list[Entry], rotation: np.ndarray) -> Any:
    """A student with all layers whose vectors are the teacher's, turned. Tests leave it as it is."""
    return bilingual_student(
        tower, vocabulary, dictionary, layers=(0, 1), max_tokens=16, rotation=rotation
    ).eval()


def test_english_has_the_vectors_of_the_teacher(student: Any, tower: Any) -> None:
    """With all layers and no rotation, though every token has another id."""
    np.testing.assert_allclose(vectors(student, ENGLISH), vectors(tower, ENGLISH), atol=1e-5)


def test_a_students_vectors_are_turned(turned: Any, tower: Any, rotation: np.ndarray) -> None:
    """They are the teacher's times the rotation, so all cosines stay, and have length 1."""
    found = vectors(turned, ENGLISH)
    np.testing.assert_allclose(found, vectors(tower, ENGLISH) @ rotation, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_chinese_starts_from_its_translation(student: Any, tower: Any) -> None:
    """A word whose translation is one piece has that piece's direction; stretched, its vector is another one."""
    table = body_of(student).get_input_embeddings().weight.detach().numpy()
    old = body_of(tower).get_input_embeddings().weight.detach().numpy()
    new, wanted = (
        table[student.tokenizer.get_vocab()["订单"]],
        old[tower.tokenizer.get_vocab()["order"]],
    )
    assert new @ wanted / np.linalg.norm(new) / np.linalg.norm(wanted) == pytest.approx(1, abs=1e-5)


def test_the_teacher_stays_as_it_was(tower: Any, vocabulary: Vocabulary, dictionary: list[Entry]) -> None:
    before, length, size = model_key(tower), tower.max_seq_length, len(tower.tokenizer)
    made = bilingual_student(
        tower, vocabulary, dictionary, layers=(1,), max_tokens=8, rotation=np.eye(16, dtype=np.float32)
    )
    body_of(made).get_input_embeddings().weight.data.zero_()
    assert (model_key(tower), tower.max_seq_length, len(tower.tokenizer)) == (before, length, size)
    assert len(layer_stack(made)) == 1


def test_positions_end_where_texts_do(student: Any) -> None:
    """The table is cut, the configuration says so, and a longer text is read up to there."""
    body = body_of(student)
    assert body.embeddings.position_embeddings.weight.shape == (16, 16)
    assert body.config.max_position_embeddings == student.max_seq_length == 16
    words = "red blue " * 20
    np.testing.assert_allclose(vectors(student, [words]), vectors(student, [words[:-9]]), atol=1e-6)


def test_a_student_has_no_more_positions_than_its_teacher(
    tower: Any, vocabulary: Vocabulary, dictionary: list[Entry]
) -> None:
    """A longest text beyond them is the teacher's longest."""
    made = bilingual_student(
        tower, vocabulary, dictionary, layers=(0,), max_tokens=999, rotation=np.eye(16, dtype=np.float32)
    )
    assert made.max_seq_length == body_of(made).config.max_position_embeddings == 64
    assert np.isfinite(vectors(made.eval(), ["red blue " * 60])).all()


def test_all_of_a_student_can_learn(student: Any) -> None:
    """Every weight is trainable, those of new words as well, and padding stays where it is."""
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert body_of(student).get_input_embeddings().padding_idx == 0


def test_a_saved_student_is_the_same_one(turned: Any, tmp_path: Path) -> None:
    """Loaded as any checkpoint: the same tokens, the same vectors, the same longest text."""
    turned.save_pretrained(str(tmp_path / "saved"))
    again = load_tower(tmp_path / "saved").eval()
    assert again.max_seq_length == 16
    for text in [*ENGLISH, *CHINESE]:
        assert again.tokenizer(text)["input_ids"] == turned.tokenizer(text)["input_ids"]
    np.testing.assert_allclose(
        vectors(again, [*ENGLISH, *CHINESE]), vectors(turned, [*ENGLISH, *CHINESE]), atol=1e-6
    )


def test_an_exported_student_is_the_same_one(turned: Any, tmp_path: Path) -> None:
    """A bundle of it reads Chinese and English, also too long ones, as torch does."""
    exact = Precision(matmul="float32", embedding="float32")
    parts = tower_parts(
        turned,
        base="made up",
        base_licence="Apache-2.0",
        licence="Apache-2.0",
        precision=exact,
        texts=ENGLISH,
    )
    write_bundle(tmp_path / "bundle", parts)
    bundle = open_bundle(tmp_path / "bundle")
    texts = [*ENGLISH, *CHINESE, "取消 order " * 20, ""]
    np.testing.assert_allclose(bundle.encode_titles(texts), vectors(turned, texts), atol=1e-5)
