from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.towers.train.made_up_data import sentences
from towers.errors import InputError
from towers.labelled import Pairs, Texts
from towers.train.data import make_pair_set, split_pairs
from towers.train.dataset.augment import AugmentRecipe, augment_split, augment_texts, changes
from towers.train.dataset.duplicates import normal_form
from towers.train.dataset.editing import DELETE, HOMOPHONE, OPERATIONS, SWAP, TYPING
from towers.train.dataset.negation import negations

NEGATED = [
    "I would not recommend this hotel, the rooms weren't clean at all",
    "It does n't work and never did, no refund either",
    "Nothing about this hot kettle is bad, now I know",
    "这家酒店的房间不干净，服务员也没有道歉，我们再也不会来了",
    "不是我不喜欢，是真的没什么特别的地方，步行过去也不远",
    "usb c cable 2m, not 3m, for RTX-4090",
]
MANY = AugmentRecipe(copies=8)


def counted(text: str, pattern: str) -> list[str]:
    return sorted(re.findall(pattern, text))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_negations_and_numbers_stay(operation: str) -> None:
    """Not one is lost, made, misspelt, or moved in front of another word."""
    recipe = AugmentRecipe(operations=(operation,), copies=25, rate=0.4)
    made = changes([(text,) for text in NEGATED], recipe=recipe)
    assert len(made) >= 5
    for change in made:
        before = NEGATED[change.row]
        assert negations(change.text) == negations(before)
        assert counted(change.text, r"[\w-]*\d[\w-]*") == counted(before, r"[\w-]*\d[\w-]*")
    if operation == SWAP:
        moved = [change.text for change in made if change.row == 0]
        assert all("not recommend" in text and "weren't clean" in text for text in moved)


def test_each_operation_does_what_it_says() -> None:
    """Deletion leaves words out, a swap keeps all letters, errors keep the number of words."""
    texts = [(text,) for text in sentences()[0][:60]]
    for operation in OPERATIONS:
        made = changes(texts, recipe=AugmentRecipe(operations=(operation,)))
        assert len(made) > 20
        for change in made:
            before, after = texts[change.row][0], change.text
            assert change.operation == operation
            if operation == DELETE:
                left = iter(before)
                assert all(letter in left for letter in after)
                assert len(after) < len(before)
            if operation == SWAP:
                assert sorted(after) == sorted(before)
            if operation in (TYPING, HOMOPHONE):
                assert len(after.split()) == len(before.split())


def test_chinese_stays_chinese() -> None:
    """A character becomes one other character, a frequent one; nothing half, nothing from elsewhere."""
    texts = [(text,) for text in sentences()[0] if not text.isascii()]
    made = changes(texts, recipe=AugmentRecipe(operations=(TYPING, HOMOPHONE), copies=3))
    assert len(made) > 200
    for change in made:
        before = texts[change.row][0]
        assert len(change.text) == len(before)
        assert all("\u4e00" <= b <= "\u9fff" for a, b in zip(before, change.text, strict=True) if a != b)
        assert change.text.encode().decode() == change.text


def test_no_new_row_is_a_repeat() -> None:
    """Neither of a given row nor of another new one."""
    texts = [(text,) for text in sentences()[0][:80]]
    made = changes(texts, recipe=MANY)
    keys = [normal_form(change.text) for change in made]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {normal_form(text) for (text,) in texts}


@settings(max_examples=40)
@given(st.lists(st.text(max_size=40), max_size=4), st.integers(0, 5))
def test_any_text_is_survived(texts: list[str], seed: int) -> None:
    """Signs, emoji, half words: new texts or none, never empty ones, and always valid Unicode."""
    for change in changes([(text,) for text in texts], recipe=AugmentRecipe(seed=seed)):
        assert change.text.strip()
        assert change.text.encode().decode() == change.text


def test_the_same_seed_makes_the_same_whatever_stands_beside() -> None:
    """What is made of a row depends on its own texts; another seed makes something else."""
    texts = [(text,) for text in sentences()[0][:40]]
    first, again = (changes(texts) for _ in range(2))
    assert first == again
    alone = [change.text for text in texts for change in changes([text])]
    assert set(alone) >= {change.text for change in first}
    assert changes(texts, recipe=AugmentRecipe(seed=1)) != first


def test_a_text_of_one_word_is_left_alone() -> None:
    """That word is the label."""
    assert changes([("good",), ("不好",), ("好",), ("42",), ("",)], recipe=MANY) == []


def test_labels_are_kept() -> None:
    """Each new text stands under the label of the text it was made of; given rows come first, unchanged."""
    texts, labels = sentences()
    data = Texts(texts[:50], np.array(labels[:50]))
    grown = augment_texts(data, seed=5)
    assert grown.texts[:50] == data.texts
    assert grown.labels[:50].tolist() == data.labels.tolist()
    made = changes([(text,) for text in data.texts], recipe=AugmentRecipe(seed=5))
    assert [x.text for x in made] == grown.texts[50:]
    assert [data.labels[x.row] for x in made] == grown.labels[50:].tolist()


@pytest.mark.parametrize(("sides", "changed"), [("query", {0}), ("title", {1}), ("either", {0, 1})])
def test_one_side_of_a_pair_changes(sides: str, changed: set[int]) -> None:
    """The one that was asked for."""
    texts = sentences()[0]
    rows = list(zip(texts[:30], texts[30:60], strict=True))
    assert {change.side for change in changes(rows, recipe=AugmentRecipe(sides=sides))} == changed


def test_new_pairs_join_the_training_side_only() -> None:
    """Dev pairs are neither changed nor copied, and no new text is one of theirs."""
    texts = sentences()[0]
    pairs = make_pair_set(Pairs(texts[:120], texts[120:240], np.arange(120) % 2 * 1.0), name="made up")
    (split,) = split_pairs([pairs], dev_share=0.3, seed=0)
    grown, new = augment_split(pairs, split, recipe=AugmentRecipe(copies=2))
    assert len(grown) == len(new.train) == len(new.dev) > 120
    assert (new.dev[:120] == split.dev).all()
    assert not new.dev[120:].any()
    assert new.train[120:].all()
    held_out = {pairs.queries[i] for i in np.flatnonzero(split.dev)} | {
        pairs.titles[i] for i in np.flatnonzero(split.dev)
    }
    assert not held_out & {*grown.queries[120:], *grown.titles[120:]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"operations": ["rewrite"]},
        {"operations": []},
        {"rate": 0},
        {"rate": 0.9},
        {"copies": 0},
        {"sides": "left"},
        {"sampling": "random"},
        {"new_pairs": 0},
        {"neighbours": 0},
        {"certain": 0.3},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    """With what was found and what is expected."""
    with pytest.raises(InputError, match=f"found.*{next(iter(wrong))}.*expected"):
        AugmentRecipe(**wrong)  # type: ignore[arg-type]
