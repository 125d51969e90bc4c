"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from towers.train.compare.words import (
    amount,
    correlation,
    counted,
    listed,
    metric_name,
    number,
    printable,
    seconds,
    signed,
    times,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0042, "0.0042"),
        (0.5, "0.500"),
        (0.9996, "1.00"),
        (1, "1.00"),
        (9.876, "9.88"),
        (45.67, "45.7"),
        (1234.5, "1,234"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """A column of them reads alike."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(999, "999"), (2000, "2.00 k"), (22_700_000, "22.7 M"), (3.4e9, "3.40 G")]
)
def test_amounts_have_units(value: float, text: str) -> None:
    """Parameters and multiply-adds are read in millions."""
    assert amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.314, "+0.31"), (-0.314, "−0.31"), (0.004, "±0.00"), (-0.004, "±0.00"), (-0.006, "−0.01")],
)
def test_differences_have_a_sign(value: float, text: str) -> None:
    """What rounds to nothing has none of the two."""
    assert signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.9, "1.90×"), (0.1067, "0.11×"), (23.45, "23.4×"), (0.0012, "0.0012×")]
)
def test_ratios_are_read_beside_others(value: float, text: str) -> None:
    """Two digits after the point, as long as they say something."""
    assert times(value) == text


@pytest.mark.parametrize(("value", "text"), [(40, "40.0 s"), (312, "5.2 min"), (4800, "1 h 20 min")])
def test_durations_have_the_unit_that_people_use(value: float, text: str) -> None:
    """Seconds, minutes, hours."""
    assert seconds(value) == text


def test_lists_and_counts() -> None:
    """As in a sentence."""
    assert listed([]) == ""
    assert listed("a") == "a"
    assert listed("abc") == "a, b and c"
    assert (counted([1], "row"), counted([], "row")) == ("1 row", "0 rows")
    assert (correlation(-0.5), correlation(1)) == ("−0.50", "1.00")


def test_names_stay_on_their_line() -> None:
    """Control characters would break a page or an SVG; metrics have the names that papers use."""
    assert printable(" a\n\tb\x00 \u202e数 ") == "a b\ufffd \ufffd数"
    assert metric_name("ndcg@10") == "nDCG@10"
    assert metric_name("my metric") == "my metric"
