"""From the plain values of a JSON file to dataclasses, each value held against the type that its field declares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from towers.errors import InputError

_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    list: "a list",
    dict: "an object",
}


def decoded(kind: Any, value: object, where: str) -> Any:
    """Return a value as the given type.

    Args:
        kind: A dataclass, str, bool, int, float, Any, or list[...], dict[str, ...] and `... | None` of them.
        value: What was read; numbers of numpy pass as the plain numbers that they stand for.
        where: Names the value in errors, as in "rows[3].steps".

    Raises:
        InputError: Names the first value of another type, and the keys that are unknown or missing.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (some,) = (one for one in inner if one is not NoneType)
        return None if value is None else decoded(some, value, where)
    if origin is list:
        items = _expect(isinstance(value, list | tuple), value, list, where)
        return [decoded(inner[0], item, f"{where}[{number}]") for number, item in enumerate(items)]
    if origin is dict:
        items = _expect(isinstance(value, Mapping), value, dict, where)
        return {decoded(str, key, where): decoded(inner[1], items[key], f"{where}.{key}") for key in items}
    return _record(kind, value, where) if is_dataclass(kind) else _scalar(kind, value, where)


def _record(kind: Any, value: object, where: str) -> Any:
    values = _expect(isinstance(value, Mapping), value, dict, where)
    hints = get_type_hints(kind)
    names = [entry.name for entry in fields(kind)]
    for problem, odd in (
        ("unknown", sorted(map(str, set(values) - set(names)))),
        ("missing", [name for name in names if name not in values]),
    ):
        if odd:
            raise InputError(f"{where}: {problem} {', '.join(odd)}; expected {', '.join(names)}")
    return kind(**{name: decoded(hints[name], values[name], f"{where}.{name}") for name in names})


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is str:
        return _expect(isinstance(value, str), value, str, where)
    if kind is bool:
        return _expect(isinstance(value, bool), value, bool, where)
    number = not isinstance(value, bool)  # a bool is an int to Python, and never meant as one here
    if kind is int:
        return int(_expect(number and isinstance(value, Integral), value, int, where))
    return float(_expect(number and isinstance(value, Real) and math.isfinite(value), value, float, where))


def _expect(fits: bool, value: Any, kind: Any, where: str) -> Any:
    if not fits:
        raise InputError(f"{where}: found {value!r:.80}, expected {_WORDS[kind]}")
    return value
