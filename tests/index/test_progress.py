from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console

from index.progress import Reporter


def reporter(*, terminal: bool, times: Iterator[float]) -> tuple[Reporter, io.StringIO]:
    said = io.StringIO()
    return Reporter(Console(file=said, force_terminal=terminal, width=120), clock=lambda: next(times)), said


def test_lines_tell_the_rate_and_the_time_left() -> None:
    """Without a terminal, a line every ten seconds with titles per second and the time left, and one at the end."""
    report, said = reporter(terminal=False, times=iter([0.0, 5.0, 10.0, 15.0, 30.0, 40.0]))
    with report.counting("encoding", 10_000) as advance:
        for _ in range(4):
            advance(500)
    assert said.getvalue().splitlines() == [
        "encoding: 1,000 of 10,000 titles, 100 titles/s, 1:30 left",
        "encoding: 2,000 of 10,000 titles, 67 titles/s, 2:00 left",
        "encoding: 2,000 of 10,000 titles, 50 titles/s",
    ]


def test_what_an_earlier_run_did_does_not_count_as_speed() -> None:
    """A resumed job starts where it was, and promises no more than it has done itself."""
    report, said = reporter(terminal=False, times=iter([0.0, 20.0, 20.0]))
    with report.counting("encoding", 10_000, done=9_000) as advance:
        advance(200)
    assert said.getvalue().splitlines()[0] == "encoding: 9,200 of 10,000 titles, 10 titles/s, 1:20 left"


def test_a_terminal_has_a_bar() -> None:
    """On a terminal there is a bar with counts and a rate."""
    report, said = reporter(terminal=True, times=iter([]))
    with report.counting("encoding", 100, done=50) as advance:
        advance(50)
    assert "100/100" in said.getvalue()


def test_text_is_printed_as_it_is() -> None:
    """Brackets in a message are no markup, and long lines are not broken."""
    report, said = reporter(terminal=False, times=iter([]))
    text = "[bold] " + "x" * 200
    report.say(text)
    assert said.getvalue() == text + "\n"
