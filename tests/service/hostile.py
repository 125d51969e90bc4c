"""The POST routes of a running service as its document tells them, and bodies that nobody means well with."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema_rs

from tests.service.served import PATIENCE_S, Served

# Bodies that are good by themselves, so that a refusal is the hostile part's doing. For a route that is not here
# its schema has to have an example.
GOOD: dict[str, list[Any]] = {
    "/v1/match": [
        {"query": "red shoe", "titles": [{"id": "a-1"}, {"text": "blue phone"}, "red light"]},
        {"query": "red shoe", "title_ids": ["a-1", "a-2"]},
        {"pairs": [{"query": "red shoe", "title": "blue phone"}, {"query": "red", "title_id": "a-1"}]},
    ],
    "/v1/search": [{"query": "red shoe", "k": 5, "candidates": 50, "filter": {"release": "a"}}],
    "/embed": [{"inputs": ["red shoe", "blue phone"]}],
    "/similarity": [{"inputs": {"source_sentence": "red shoe", "sentences": ["red", "blue"]}}],
    "/rerank": [{"query": "red shoe", "texts": ["red", "blue"]}],
    "/predict": [{"inputs": "red shoe"}],
    "/tokenize": [{"inputs": ["red shoe", "blue phone"]}],
    "/v1/embeddings": [{"input": ["red shoe", "blue phone"], "model": "dualtower"}],
    "/v1/rerank": [{"query": "red shoe", "documents": ["red", "blue"], "model": "dualtower"}],
    "/v2/rerank": [{"query": "red shoe", "documents": ["red", "blue"], "model": "dualtower"}],
}

TEXTS = {
    "NUL": "red\x00shoe",
    "lone surrogate": "red\ud800shoe",
    "surrogates the wrong way round": "\udc00\ud83d",
    "right-to-left marks": "\u202eeohs\u202c \u200fder\u200e \u2067x",
    "control characters": "\x01\x1b[31m\x7f\x85",
    "noncharacters": "\uffff\ufdd0\U0010ffff",
    "byte order mark": "\ufeffred",
    "marks without a letter": "\u0301" * 1000,
    "joined emoji": "👩‍👩‍👧‍👦" * 100,
    "white space": " \t\n\u3000\u2028",
    "zero width": "\u200b\u200b",
    "empty": "",
    "the model's own tokens": "[CLS] red [SEP] [MASK] [PAD] </s> <unk>",
    "the longest text": "a" * 10_000,
    "a word of 1 MB": "a" * 2**20,
    "1 MB of Chinese": "天" * (2**20 // 3),
    "markup": "<script>alert(1)</script>${jndi:x}' OR 1=1; --",
    "a number": "1e999",
}

# As JSON, in place of any value of a good body.
VALUES = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "a number that is too large": "1e400",
    "10^400": "1" + "0" * 400,
    "100,000 digits": "9" * 100_000,
    "a negative number": "-1",
    "2^63": str(2**63),
    "half": "0.5",
    "null": "null",
    "true": "true",
    "empty list": "[]",
    "empty object": "{}",
    "list of empty lists": "[[],[]]",
    "list of nothing": '["",""]',
    "20,000 empty texts": "[" + '"",' * 19_999 + '""]',
    "1,000 texts": "[" + '"a",' * 999 + '"a"]',
    "deep list": "[" * 50_000 + "]" * 50_000,
    "deep object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "10,000 keys": "{" + ",".join(f'"k{i}":1' for i in range(10_000)) + "}",
    "a key twice": '{"id":"a-1","id":"a-2"}',
    "broken escape": '"\\u12"',
    "unknown escape": '"\\x"',
    "unended text": '"red',
    "comment": "1 /* one */",
}


@dataclass(frozen=True)
class Route:
    """A POST route: its path, a body that it takes (one of several), and the schemas of its answers by status."""

    path: str
    good: Any
    answers: dict[str, Any]

    @cached_property
    def _validators(self) -> dict[str, jsonschema_rs.Validator]:
        return {}

    def _problem(self, status: str, answer: Any) -> object:
        """The first thing in an answer that its schema does not have."""
        if (
            status not in self._validators
        ):  # made when it is wanted: most statuses are rare, and making is slow
            self._validators[status] = jsonschema_rs.validator_for(self.answers[status])
        return next(self._validators[status].iter_errors(answer), None)

    def complaint(self, status: int, content: bytes) -> str | None:
        """What is wrong with an answer; None when it is one that the document has, and no failure of ours."""
        if status >= 500 or str(status) not in self.answers:
            return f"status {status}: {content[:200]!r}"
        try:
            answer = json.loads(content, parse_constant=_refuse)
        except ValueError as exc:
            return f"status {status}, no JSON: {exc}: {content[:200]!r}"
        problem = self._problem(str(status), answer)
        if problem is not None:
            return f"status {status}, not as documented: {str(problem)[:300]}"
        if status != 200 and not any(len(text) > 10 for text in _texts(answer)):
            return f"status {status} without a reason: {content[:200]!r}"
        return None


def post_routes(server: Served) -> list[Route]:
    """All POST routes in the document; one without a good body is an error, so that none is forgotten."""
    document = server.get("/openapi.json")[1]
    found = []
    for path, methods in document["paths"].items():
        if "post" in methods:
            answers = {
                status: _schema(document, answer) for status, answer in methods["post"]["responses"].items()
            }
            found += [Route(path, good, answers) for good in _good(document, path, methods["post"])]
    return found


def _schema(document: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return {**schema, "components": document["components"]}  # where its references point


def _good(document: dict[str, Any], path: str, route: dict[str, Any]) -> list[Any]:
    if path in GOOD:
        return GOOD[path]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    examples: list[Any] = document["components"]["schemas"].get(name, schema).get("examples", [])
    assert examples, f"POST {path}: give its schema an example, or add a body to GOOD in {__file__}"
    return examples


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} in an answer")


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def with_each(value: Any, new: str, *, only: type = object) -> Iterator[str]:
    """The JSON of `value` with one value in it (of a type) replaced by the text `new`, once for each place.

    >>> list(with_each({"a": ["b"]}, "1"))
    ['1', '{"a": 1}', '{"a": [1]}']
    """
    if isinstance(value, only):
        yield new
    if isinstance(value, dict):
        for name, inner in value.items():
            for replaced in with_each(inner, new, only=only):
                others = [f"{json.dumps(n)}: {json.dumps(v)}" for n, v in value.items() if n != name]
                yield "{" + ", ".join([*others, f"{json.dumps(name)}: {replaced}"]) + "}"
    if isinstance(value, list):
        for place, inner in enumerate(value):
            for replaced in with_each(inner, new, only=only):
                parts = [*map(json.dumps, value[:place]), replaced, *map(json.dumps, value[place + 1 :])]
                yield "[" + ", ".join(parts) + "]"


class Sender:
    """Sends bytes over one connection, which is opened again when the service has closed it."""

    def __init__(self, server: Served) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def post(self, path: str, body: bytes | Iterator[bytes], **headers: str) -> tuple[int, bytes]:
        """Status and content of the answer; headers with `_` for `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(
            "POST",
            path,
            body,
            {"Content-Type": "application/json"} | given,
            encode_chunked=not isinstance(body, bytes),
        )
        response = self._connection.getresponse()
        return response.status, response.read()
