"""Labels keep clear of each other, of points and of the edge, as far as there is room."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from towers.train.compare.labels import Box, place, shortened, text_width

INSIDE = Box(0, 0, 300, 200)
WHOLE = st.integers(0, 20).map(float)


@given(st.tuples(WHOLE, WHOLE, WHOLE, WHOLE), st.tuples(WHOLE, WHOLE, WHOLE, WHOLE))
def test_the_shared_area_is_that_of_the_common_squares(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    """Against counting the squares of side 1 that lie in both."""
    boxes = [Box(left, bottom, left + width, bottom + height) for left, bottom, width, height in (a, b)]
    squares = [
        {(x, y) for x in range(int(box.left), int(box.right)) for y in range(int(box.bottom), int(box.top))}
        for box in boxes
    ]
    assert boxes[0].shared(boxes[1]) == len(squares[0] & squares[1])


def test_a_label_stands_at_its_point() -> None:
    """With all room of the world it is at the right, at the smallest distance."""
    (box,) = place([(100, 100)], [(40, 10)], inside=INSIDE, avoid=[])
    assert (box.left, box.bottom, box.right, box.top) == (104, 95, 144, 105)


def test_labels_keep_clear_of_each_other() -> None:
    """Six points close together: there is room for all labels around them."""
    points = [(150 + 6.0 * place, 100.0) for place in range(6)]
    marks = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    boxes = place(points, [(50, 10)] * 6, inside=INSIDE, avoid=marks)
    assert all(a.shared(b) == 0 for a, b in combinations(boxes, 2))
    assert all(box.shared(INSIDE) == box.area for box in boxes)


def test_a_label_stays_inside() -> None:
    """At the right edge it stands at the left of its point."""
    (box,) = place([(298, 100)], [(40, 10)], inside=INSIDE, avoid=[])
    assert box.shared(INSIDE) == box.area


def test_a_label_without_room_is_still_placed() -> None:
    """As little in the way as can be; nothing is dropped."""
    boxes = place([(5, 5)] * 40, [(60, 10)] * 40, inside=Box(0, 0, 70, 30), avoid=[])
    assert len(boxes) == 40


def test_wide_characters_are_wide() -> None:
    """A Chinese character takes a square, a Latin letter about half of one."""
    assert text_width("数据", 10) == 20
    assert text_width("", 10) == 0
    assert 5 < text_width("a", 10) < 6


def test_long_names_are_shortened_at_the_end() -> None:
    """What fits stays as it is."""
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abc efg", 5) == "abc…"
