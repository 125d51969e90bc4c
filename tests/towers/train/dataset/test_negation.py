from __future__ import annotations

import pytest

from towers.train.dataset.negation import negation_spans, negations


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I don't like it", {"dont": 1}),
        ("i dont like it", {"dont": 1}),
        ("It does n't work, and NEVER did", {"nt": 1, "never": 1}),
        ("nothing is not nowhere", {"nothing": 1, "not": 1, "nowhere": 1}),
        ("这个不好，没有用，非买勿看", {"不": 1, "没": 1, "非": 1, "勿": 1}),
        ("真的not好", {"not": 1}),
        ("notes about knots and the nobleman", {}),
        ("good", {}),
    ],
)
def test_negations_are_found(text: str, found: dict[str, int]) -> None:
    """With any apostrophe, in one piece or cut, in both languages; never inside another word."""
    assert negations(text) == found


def test_spans_say_where() -> None:
    """A span holds exactly the negation."""
    text = "We won’t go, 不去"
    assert [text[start:end] for start, end in negation_spans(text)] == ["won’t", "不"]
