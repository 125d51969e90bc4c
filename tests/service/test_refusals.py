"""What the service's own routes refuse, and how they say it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.logs import JsonFormatter
from service.schemas import (
    ErrorAnswer,
)
from tests.service.asking import refused
from tests.service.fakes import FakeBundle, FakeRelease, fake_state
from towers.errors import BundleMismatchError, InputError, ReleaseError


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({}, "give one of titles, title_ids, pairs; found none of them"),
            ({"titles": ["a"]}, "give one of query, query_id; found none of them"),
            ({"query": "a", "title_ids": ["a"], "titles": ["a"]}, "titles and title_ids"),
            ({"query": "a", "pairs": [{"query": "a", "title": "b"}]}, "bring their own queries"),
            ({"query": "a", "titles": []}, "titles must not be empty"),
            ({"query": "a", "titles": ["a", 7]}, "titles[1] must be an object"),
            ({"query": "a", "titles": [{"id": 7}]}, "titles[0].id must be a string"),
            ({"query": "a", "titles": [{"id": "a", "text": "b"}]}, "titles[0]: give either id or text"),
            ({"query": "a", "titles": [{"name": "a"}]}, "titles[0].name is not a field"),
            ({"query": "a", "titles": ["a", "b\x00"]}, "titles[1] holds a NUL character"),
            ({"query": "", "titles": ["a"]}, "query must not be empty"),
            ({"query": "a", "title_ids": "t1"}, "title_ids must be a list"),
            ({"pairs": [{"query": "a"}]}, "pairs[0]: give one of query, query_id and one of"),
            ({"pairs": [{"title": "a", "title_id": "b"}]}, "pairs[0]: give one of query, query_id"),
            ({"querry": "a", "titles": ["a"]}, "querry is not a field of this request; the fields are"),
            ({"query": "a", "titles": [1, 2, 3, 4, 5]}, "and 2 more"),
        ],
    )
    def test_a_wrong_match_request_is_told_what_is_wrong(
        self, client: TestClient, body: dict[str, Any], words: str
    ) -> None:
        """422 with the field's name in plain words."""
        assert words in refused(client, "/v1/match", 422, **body)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"query": "a", "k": 0}, "k must be at least 1"),
            ({"query": "a", "k": "ten"}, "k must be a whole number"),
            ({"query": "a", "k": 2000}, "k is 2000, at most 1000"),
            ({"query": "a", "k": 9, "candidates": 3}, "candidates is 3, less than k, which is 9"),
            ({"query": "a", "candidates": 10**6}, "candidates is 1000000, at most 5000"),
            ({"query": None}, "give one of query, query_id"),
            ({"query": "a", "filter": {"a": ["b"]}}, "filter.a must be a string, a number, true or false"),
        ],
    )
    def test_a_wrong_search_request_is_told_what_is_wrong(
        self, client: TestClient, body: dict[str, Any], words: str
    ) -> None:
        """422 with the field's name in plain words."""
        assert words in refused(client, "/v1/search", 422, **body)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"text": "a", "texts": ["b"]}, "found text and texts"),
            ({"texts": [""]}, "texts[0] must not be empty"),
            ({"text": 7}, "text must be a string"),
        ],
    )
    def test_a_wrong_sentiment_request_is_told_what_is_wrong(
        self, client: TestClient, body: dict[str, Any], words: str
    ) -> None:
        """422 with the field's name in plain words."""
        assert words in refused(client, "/v1/sentiment", 422, **body)

    @pytest.mark.parametrize("route", ["/v1/match", "/v1/search", "/v1/sentiment"])
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "not valid JSON"),
            (b"{", "not valid JSON"),
            (b"[]", "the body must be an object"),
            (b"null", "the body must be an object"),
            (b'{"query": "\\ud800", "text": "\\ud800"}', "not valid JSON"),
            (b'{"query": "\xff"}', "not valid JSON"),
            (b'{"query": 1, "query": 2', "not valid JSON"),
        ],
    )
    def test_what_is_no_request_at_all(self, client: TestClient, route: str, body: bytes, words: str) -> None:
        """Broken JSON, broken UTF-8, lone surrogates: 422, never 500."""
        response = client.post(route, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert words in response.json()["error"]
        assert response.json()["error_type"] == "InputError"

    def test_the_input_is_not_repeated(self, client: TestClient) -> None:
        """Messages end up in logs of clients; texts may be private."""
        assert "secret" not in refused(
            client, "/v1/match", 422, query="secret\x00", titles=["secret\x00", {"id": 1}]
        )

    @pytest.mark.parametrize(
        ("limits", "body", "words"),
        [
            ({"max_titles": 2}, {"title_ids": ["a", "b", "c"]}, "the number of titles is 3, at most 2"),
            ({"max_titles": 2}, {"titles": [{"id": "a"}] * 3}, "the number of titles is 3, at most 2"),
            ({"max_texts": 2}, {"titles": ["a", "b", {"id": "a"}, "c"]}, "given by text is 3, at most 2"),
            ({"max_text_length": 10}, {"titles": ["a" * 11]}, "a title has 11 characters, at most 10"),
            ({"max_text_length": 10}, {"title_ids": ["a" * 11]}, "an id has 11 characters, at most 10"),
            ({"max_text_length": 3}, {"title_ids": ["a"]}, "query has 4 characters, at most 3"),
        ],
    )
    def test_limits_of_a_match(
        self, tmp_path: Path, limits: dict[str, int], body: dict[str, Any], words: str
    ) -> None:
        """Each bound is a setting, and its refusal says what was found and what is allowed."""
        with TestClient(create_app(fake_state(tmp_path, release=FakeRelease(), **limits))) as client:
            assert words in refused(client, "/v1/match", 422, query="shoe", **body)

    def test_limits_of_pairs_and_sentiment(self, tmp_path: Path) -> None:
        """Different queries count as texts to encode; so do texts to classify."""
        with TestClient(create_app(fake_state(tmp_path, release=FakeRelease(), max_texts=2))) as client:
            pairs = [{"query": f"q{i}", "title_id": "shoe-1"} for i in range(3)]
            assert "different queries is 3, at most 2" in refused(client, "/v1/match", 422, pairs=pairs)
            assert "texts is 3, at most 2" in refused(client, "/v1/sentiment", 422, texts=["a"] * 3)

    def test_a_body_beyond_the_limit(self, tmp_path: Path) -> None:
        """413, whether it comes in one piece or in several."""
        with TestClient(create_app(fake_state(tmp_path, max_body=1024))) as client:
            body = json.dumps({"texts": ["a" * 2000]}).encode()
            header = {"Content-Type": "application/json"}
            declared = client.post("/v1/sentiment", content=body, headers=header)
            chunked = client.post("/v1/sentiment", content=iter([body[:800], body[800:]]), headers=header)
            for response in (declared, chunked):
                assert response.status_code == 413
                assert "at most 1024" in response.json()["error"]
                assert response.json()["error_type"] == "TooLargeError"

    def test_a_body_that_is_not_declared_as_json(self, client: TestClient) -> None:
        """415, with the header that is expected."""
        response = client.post("/v1/sentiment", data={"text": "a"})
        assert response.status_code == 415
        assert "application/json" in response.json()["error"]

    @pytest.mark.parametrize(
        ("method", "path", "status", "error_type"),
        [
            ("GET", "/nothing", 404, "NotFoundError"),
            ("POST", "/v1/match/", 404, "NotFoundError"),
            ("GET", "/v1/match", 405, "MethodNotAllowedError"),
            ("DELETE", "/info", 405, "MethodNotAllowedError"),
        ],
    )
    def test_unknown_paths_and_methods(
        self, client: TestClient, method: str, path: str, status: int, error_type: str
    ) -> None:
        """They have the shape of every other error."""
        response = client.request(method, path)
        assert response.status_code == status
        answer = ErrorAnswer.model_validate_json(response.content, strict=True)
        assert answer.error_type == error_type
        assert path in answer.error

    def test_an_unforeseen_error_is_a_500_without_details(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The client gets the usual shape, the log the place, the metrics the count; none quotes the message."""
        state = fake_state(tmp_path, bundle=FakeBundle())
        monkeypatch.setattr(state.bundle, "sentiment", lambda texts, **_: 1 / 0)
        with TestClient(create_app(state)) as client:
            response = client.post("/v1/sentiment", json={"text": "good"})
            assert response.status_code == 500
            assert ErrorAnswer.model_validate_json(response.content).error_type == "InternalError"
            assert "division" not in response.text
            (line,) = [record for record in caplog.records if record.getMessage() == "unforeseen error"]
            assert vars(line)["error_type"] == "ZeroDivisionError"
            assert "handlers.py" in vars(line)["traceback"]
            assert "division" not in JsonFormatter().format(line)
            assert (
                'dualtower_requests_total{route="/v1/sentiment",status="500"} 1.0'
                in client.get("/metrics").text
            )

    @pytest.mark.parametrize(
        ("error", "status"), [(InputError, 422), (ReleaseError, 503), (BundleMismatchError, 503)]
    )
    def test_our_errors_have_their_status(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], status: int
    ) -> None:
        """One table maps them; a class that is not in it has the status of its base."""

        def fail(texts: Any, **_: Any) -> np.ndarray:
            raise error("what, and the way out")

        state = fake_state(tmp_path)
        monkeypatch.setattr(state.bundle, "sentiment", fail)
        with TestClient(create_app(state)) as client:
            assert refused(client, "/v1/sentiment", status, text="good") == "what, and the way out"


class TestKey:
    @pytest.fixture
    def locked(self, tmp_path: Path) -> Iterator[TestClient]:
        with TestClient(create_app(fake_state(tmp_path, api_key="open sesame"))) as client:
            yield client

    @pytest.mark.parametrize(
        "headers", [{"Authorization": "Bearer open sesame"}, {"X-API-Key": "open sesame"}]
    )
    def test_the_key_opens(self, locked: TestClient, headers: dict[str, str]) -> None:
        """In either header."""
        assert locked.post("/v1/sentiment", json={"text": "good"}, headers=headers).status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-API-Key": "open"},
            {"Authorization": "Basic open sesame"},
            {"X-API-Key": "öffne dich".encode()},
        ],
    )
    @pytest.mark.parametrize("path", ["/v1/sentiment", "/metrics", "/info", "/docs", "/nothing"])
    def test_anything_else_does_not(self, locked: TestClient, headers: dict[str, Any], path: str) -> None:
        """401 for every route that tells something, without saying whether it exists."""
        response = locked.post(path, json={"text": "good"}, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error_type"] == "UnauthorizedError"
        assert "sesame" not in response.text

    def test_probes_need_none(self, locked: TestClient) -> None:
        """Whoever watches the process has no key."""
        assert locked.get("/health/live").status_code == 200
        assert locked.get("/health/ready").status_code == 503  # nothing is published


def test_a_full_service_sends_requests_away(tmp_path: Path) -> None:
    """One in work, one waiting, the third gets 429 and when to come back; health is answered meanwhile."""
    entered, leave = threading.Semaphore(0), threading.Event()
    bundle = FakeBundle()
    state = fake_state(tmp_path, bundle=bundle, workers=1, queue=1)

    def slow(texts: list[str], *, progress: object = None) -> np.ndarray:
        entered.release()
        assert leave.wait(30)
        return np.full((len(texts), 3), 1 / 3, np.float32)

    bundle.sentiment = slow  # type: ignore[method-assign]
    statuses = []
    with TestClient(create_app(state)) as client:

        def ask() -> None:
            statuses.append(client.post("/v1/sentiment", json={"text": "good"}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        threads[0].start()
        assert entered.acquire(timeout=30)
        threads[1].start()
        while state.work.taken < 2:  # until the second one waits
            threading.Event().wait(0.01)
        response = client.post("/v1/sentiment", json={"text": "good"})
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["error_type"] == "BusyError"
        assert client.get("/health/live").status_code == 200
        leave.set()
        for thread in threads:
            thread.join()
    assert statuses == [200, 200]
