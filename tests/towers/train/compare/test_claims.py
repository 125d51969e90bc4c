"""The two claims are answered by the rows, and not answered where the rows cannot."""

from __future__ import annotations

from collections.abc import Sequence

from tests.towers.train.compare.made_up import failed, measure, reference, results, row, spread
from towers.train.compare.claims import claims
from towers.train.compare.compared import views_of
from towers.train.compare.results import Row


def answers(*rows: Row) -> list[list[str]]:
    return [claim.answers for claim in claims(views_of(results(*rows)))]


def sized(facts: Sequence[tuple[int, int, float, float]]) -> list[Row]:
    """Rows of (parameters, multiply-adds, ms, quality); the first one is the reference."""
    return [
        row(
            f"r{place}",
            parameters=parameters,
            multiply_adds=work,
            latency_ms=spread(ms),
            quality=measure(quality),
            against="r0" if place else "",
        )
        for place, (parameters, work, ms, quality) in enumerate(facts)
    ]


def test_speed_that_goes_with_work_alone() -> None:
    """Parameters shared across layers buy no speed: the claim holds, and the smallest row is put beside the fastest."""
    found, _ = answers(
        *sized(
            [(20, 600, 6, 0.7), (5, 601, 6.1, 0.6), (20, 300, 3, 0.6), (30, 100, 1, 0.7), (10, 500, 5, 0.65)]
        )
    )
    assert found == [
        "Pairs: over 5 rows, the rank correlation of latency with parameters is −0.82 and with multiply-adds "
        "1.00; that of quality with parameters is 0.65. Of speed the claim holds here: multiply-adds go with latency, "
        "parameters hardly do. Of effect: rows with more parameters are better on the whole. Fewest parameters: “r1” "
        "(5, 6.10 ms). Fastest: “r3” (30, 1.00 ms)."
    ]


def test_speed_that_goes_with_both() -> None:
    """Then these rows do not confirm the claim, and the report says so."""
    found, _ = answers(
        *sized([(n * 1000, n * 10, float(n), 0.9 - n / 100 * (n % 2)) for n in (6, 5, 4, 3, 2)])
    )
    assert "parameters is 1.00 and with multiply-adds 1.00" in found[0]
    assert "not confirmed: parameters go with latency about as well as multiply-adds." in found[0]
    assert found[0].endswith(
        "The row with the fewest parameters, “r4” (2.00 k, 2.00 ms), is the fastest as well."
    )


def test_few_rows_say_nothing() -> None:
    """Four rows, or five that are all alike, are no answer."""
    assert answers(*sized([(1, 1, 1, 0.1), (2, 2, 2, 0.2)]))[0] == [
        "Pairs: not answered, 2 rows with all figures say too little."
    ]
    assert answers(*sized([(1, 1, 1, 0.1)] * 5))[0] == [
        "Pairs: not answered, 5 rows with all figures say too little."
    ]


def test_bert_beside_an_lstm() -> None:
    """One text and batches are answered apart, and quality is told with them."""
    uncut = reference(steps=9, quality=measure(0.8, 0.8), latency_ms=spread(3.0), per_second=spread(400.0))
    lstm = row("BiLSTM", quality=measure(0.7, 0.7), latency_ms=spread(2.0), per_second=spread(300.0))
    assert answers(uncut, lstm)[1] == [
        "Pairs: beside “BiLSTM”, “uncut” takes for one text 1.50 times as long: the claim does not hold; in batches "
        "0.75 times as long: the claim holds. Quality of “BiLSTM” against “uncut”: −10.00 points."
    ]


def test_no_lstm_is_no_answer() -> None:
    """Neither without a row, nor with one that failed, nor with one that was not timed."""
    assert answers(reference())[1] == ["Not answered: no row has an LSTM."]
    assert answers(reference(), failed("BiLSTM", "killed"))[1] == ["Pairs: not answered, “BiLSTM” failed."]
    assert answers(reference(), row("BiLSTM", latency_ms=None))[1] == [
        "Pairs: not answered, “BiLSTM” or its reference lacks figures."
    ]
