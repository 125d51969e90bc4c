"""Two things that are told of BERT models, answered with the numbers of the comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from towers.train.compare.compared import Compared, TaskView, rank_correlation
from towers.train.compare.words import TASK_TITLES, amount, correlation, counted, factor, gain, number, quoted

_FEW = 5  # rows from which a rank correlation says anything; guess
_LOW = 0.5  # rank correlation below which one figure says little about another; guess
_CLEARLY = 0.2  # difference between two rank correlations that is worth words; guess
_SAME = 0.05  # share by which two timings of one and the same model may differ; guess


@dataclass(frozen=True)
class Claim:
    """What is told, and what each task answers."""

    claim: str
    answers: list[str]


def claims(views: Sequence[TaskView]) -> list[Claim]:
    """Return both claims; one that no task can answer says so."""
    told = {
        "Fewer parameters is not what buys speed or effect.": [_parameters_answer(view) for view in views],
        "BERT costs no more time than an LSTM.": [answer for view in views if (answer := _lstm_answer(view))],
    }
    return [Claim(claim, answers or ["Not answered: no row has an LSTM."]) for claim, answers in told.items()]


def _parameters_answer(view: TaskView) -> str:
    """Say whether parameters, or multiply-adds, go with latency, and whether parameters go with quality."""
    rows = [
        one for one in view.working if None not in (one.latency, one.row.parameters, one.row.multiply_adds)
    ]
    size = rank_correlation(rows, lambda one: one.row.parameters, lambda one: one.latency)
    work = rank_correlation(rows, lambda one: one.row.multiply_adds, lambda one: one.latency)
    effect = rank_correlation(rows, lambda one: one.row.parameters, lambda one: one.quality)
    if len(rows) < _FEW or any(math.isnan(value) for value in (size, work, effect)):
        return (
            f"{TASK_TITLES[view.task]}: not answered, {counted(rows, 'row')} with all figures say too little."
        )
    return (
        f"{TASK_TITLES[view.task]}: over {len(rows)} rows, the rank correlation of latency with parameters is "
        f"{correlation(size)} and with multiply-adds {correlation(work)}; that of quality with parameters is "
        f"{correlation(effect)}. "
        f"{_speed_verdict(size, work)} {_effect_verdict(effect)} {_smallest(rows)}"
    )


def _speed_verdict(size: float, work: float) -> str:
    if work - size < _CLEARLY:
        return (
            "Of speed the claim is not confirmed: parameters go with latency about as well as multiply-adds."
        )
    if size < _LOW:
        return "Of speed the claim holds here: multiply-adds go with latency, parameters hardly do."
    return "Of speed the claim holds in part: parameters go with latency, multiply-adds clearly better."


def _effect_verdict(effect: float) -> str:
    if abs(effect) < _LOW:
        return "Of effect it holds too: parameters say little about quality."
    return f"Of effect: rows with more parameters are {'better' if effect > 0 else 'worse'} on the whole."


def _smallest(rows: Sequence[Compared]) -> str:
    """Put the row with the fewest parameters beside the fastest one."""
    least = min(rows, key=lambda one: (one.row.parameters or 0, one.latency or 0))
    fastest = min(rows, key=lambda one: (one.latency or 0, one.row.parameters or 0))
    if least is fastest:
        return f"The row with the fewest parameters, {_facts(least)}, is the fastest as well."
    return f"Fewest parameters: {_facts(least)}. Fastest: {_facts(fastest)}."


def _facts(one: Compared) -> str:
    return f"{quoted(one.row.name)} ({amount(one.row.parameters or 0)}, {number(one.latency or 0)} ms)"


def _lstm_answer(view: TaskView) -> str:
    """Put the row with an LSTM beside the row that it is compared with; nothing to say where there is none."""
    found = [one for one in view.rows if "lstm" in one.row.name.lower()]
    if not found:
        return ""
    one = next((one for one in found if one.works), found[0])
    where, name = TASK_TITLES[view.task], quoted(one.row.name)
    if one.reference is None or one.own.speed is None or one.own.difference is None:
        return f"{where}: not answered, {name} {'failed' if one.row.failed else 'or its reference lacks figures'}."
    bert = quoted(one.reference.name)
    sides = [f"{bert} takes for one text {_as_long(one.own.speed)}"]
    if one.own.throughput is not None:
        sides.append(f"in batches {_as_long(one.own.throughput)}")
    return f"{where}: beside {name}, {'; '.join(sides)}. Quality of {name} against {bert}: {gain(one.own.difference)}."


def _as_long(ratio: float) -> str:
    """Say how long the reference takes, `ratio` times the other's time, and what that makes of the claim."""
    verdict = "does not hold" if ratio > 1 + _SAME else "holds"
    return f"{factor(ratio)} times as long: the claim {verdict}"
