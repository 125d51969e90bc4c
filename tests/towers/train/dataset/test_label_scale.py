from __future__ import annotations

import pytest

from towers.train.dataset.label_scale import label_scale


@pytest.mark.parametrize(
    ("labels", "contradict"),
    [
        ([0, 1], True),
        (["-1", "0", "1"], True),
        ([1, 2, 4], False),
        ([1, 3, 4], True),
        ([0.0, 2.0, 5.0, 3.3], False),
        ([0.0, 3.0, 5.0, 3.3], True),
        (["refund", "delivery"], True),
    ],
)
def test_the_first_two_labels(labels: list[object], contradict: bool) -> None:
    """Names always contradict each other, numbers from half the range on."""
    assert label_scale(labels, gap=0.5).contradict(0, 1) is contradict


def test_classes_keep_the_names_of_the_data() -> None:
    """Grades as numbers, names as they are, similarities by the middle of their class."""
    assert label_scale(["1", "-1", "0"], gap=0.5).names == [-1, 0, 1]
    assert label_scale(["b", "a"], gap=0.5).names == ["a", "b"]
    assert label_scale([0.0, 5.0, 1.3], gap=0.5).names == [0.625, 1.875, 3.125, 4.375]


def test_many_numbers_may_be_names() -> None:
    """Intents 0 to 76 have no order, where the caller says so."""
    labels = [str(i) for i in range(77)]
    assert label_scale(labels, gap=0.5, ordered=False).contradict(3, 4)
    assert not label_scale(labels, gap=0.5).contradict(3, 4)


def test_far_goes_by_the_classes_middles() -> None:
    """A grade next to the given one is no error, one at the other end is."""
    scale = label_scale([1, 2, 3, 4], gap=0.5)
    assert not scale.far(0, 1)
    assert scale.far(0, 2)
    assert label_scale(["a", "b"], gap=0.5).far(0, 1)
