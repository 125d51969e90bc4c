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
from service.query_vectors import query_id_of
from service.route import PlainRoute
from service.schemas import (
    ErrorAnswer,
    InfoAnswer,
    MatchAnswer,
    ReadyAnswer,
    SearchAnswer,
    SentimentAnswer,
    SentimentsAnswer,
)
from tests.service.fakes import FakeBundle, FakeRelease, fake_state
from towers.errors import BundleMismatchError, InputError, ReleaseError


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A service with four titles."""
    with TestClient(create_app(fake_state(tmp_path, release=FakeRelease()))) as client:
        yield client


@pytest.fixture
def bare_client(tmp_path: Path) -> Iterator[TestClient]:
    """A service for which nothing is published."""
    with TestClient(create_app(fake_state(tmp_path))) as client:
        yield client


def post(client: TestClient, route: str, **body: Any) -> Any:
    """The answer to a request that has to succeed."""
    response = client.post(route, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, route: str, status: int, **body: Any) -> str:
    """The message of a request that has to be refused."""
    response = client.post(route, json=body)
    assert response.status_code == status, response.text
    return ErrorAnswer.model_validate_json(response.content, strict=True).error


class TestMatch:
    def test_titles_by_id_by_text_and_plain_are_judged_in_their_order(self, client: TestClient) -> None:
        """Each entry says what it was asked about, and unknown ids fail alone."""
        answer = post(
            client,
            "/v1/match",
            query="red running shoe",
            titles=[
                {"text": "red running shoe"},
                {"id": "faq-1"},
                {"id": "nope"},
                "running",
                {"id": "shoe-1"},
            ],
        )
        MatchAnswer.model_validate(answer, strict=True)
        by_text, faq, unknown, plain, shoe = answer["matches"]
        assert by_text["match"]
        assert by_text["score"] == pytest.approx(1, abs=1e-5)
        assert faq["id"] == "faq-1"
        assert not faq["match"]
        assert unknown == {
            "id": "nope",
            "error": "the release has no title with this id",
            "error_type": "UnknownTitleError",
        }
        assert plain.keys() == {"score", "cosine", "match"}
        assert shoe["id"] == "shoe-1"
        assert shoe["cosine"] == pytest.approx(1, abs=1e-5)
        assert answer["release"] == "v1"
        assert answer["threshold"] == 0.75

    def test_title_ids_is_the_short_form_of_titles(self, client: TestClient) -> None:
        """Both forms give the same judgements."""
        ids = ["faq-1", "nope", "shoe-2", "新闻-1"]
        short = post(client, "/v1/match", query="blue shoe", title_ids=ids)
        long = post(client, "/v1/match", query="blue shoe", titles=[{"id": id} for id in ids])
        assert short["matches"] == long["matches"]

    def test_a_pair_gets_what_a_request_of_its_own_would_get(self, client: TestClient) -> None:
        """Pairs by text and id, with a repeated query and an unknown title and query, answered in order."""
        pairs = [
            {"query": "red shoe", "title_id": "shoe-1"},
            {"query": "password", "title": "reset my password"},
            {"query": "red shoe", "title": "a red shoe"},
            {"query": "password", "title_id": "nope"},
            {"query_id": "0" * 64, "title_id": "shoe-1"},
            {"query": "password", "title_id": "faq-1"},
        ]
        answer = post(client, "/v1/match", pairs=pairs)
        MatchAnswer.model_validate(answer, strict=True)
        items = answer["matches"]
        assert items[3]["error_type"] == "UnknownTitleError"
        assert items[4]["error_type"] == "UnknownQueryError"
        assert "send the text" in items[4]["error"]
        for number in (0, 1, 2, 5):
            pair = pairs[number]
            title = {"id": pair["title_id"]} if "title_id" in pair else {"text": pair["title"]}
            alone = post(client, "/v1/match", query=pair["query"], titles=[title])["matches"][0]
            assert items[number] == alone

    def test_a_query_id_stands_for_a_text_that_was_seen(self, client: TestClient) -> None:
        """It is the SHA-256 of the text; it saves the text on the wire and gives the same judgements."""
        first = post(client, "/v1/match", query="running", title_ids=["shoe-1"])
        assert first["query_id"] == query_id_of("running")
        again = post(client, "/v1/match", query_id=first["query_id"], title_ids=["shoe-1"])
        assert again["matches"] == first["matches"]
        assert again["query_id"] == first["query_id"]

    def test_an_unknown_query_id_says_to_send_the_text(self, client: TestClient) -> None:
        """404, as for any other thing that is not there."""
        assert "send the text" in refused(client, "/v1/match", 404, query_id="0" * 64, title_ids=["shoe-1"])

    def test_texts_match_without_a_release_and_ids_are_refused(self, bare_client: TestClient) -> None:
        """What needs no release works without one; what needs one says how to get it."""
        answer = post(bare_client, "/v1/match", query="red shoe", titles=["red shoe"])
        assert answer["release"] is None
        assert answer["matches"][0]["match"]
        message = refused(bare_client, "/v1/match", 503, query="red shoe", title_ids=["shoe-1"])
        assert "dualtower index" in message
        assert "by text" in message


class TestSearch:
    def test_titles_come_best_first_with_all_that_is_kept(self, client: TestClient) -> None:
        """Id, title, score, cosine, match, fields, and the time of each stage."""
        answer = post(client, "/v1/search", query="blue running shoe", k=2)
        SearchAnswer.model_validate(answer, strict=True)
        assert [found["id"] for found in answer["matches"]] == ["shoe-2", "shoe-1"]
        assert answer["matches"][0]["fields"] == {"domain": "shop", "colour": "blue"}
        assert answer["milliseconds"].keys() == {"encode", "search", "score", "fetch"}

    def test_filters_on_kept_fields(self, client: TestClient) -> None:
        """All conditions have to hold; nothing that fits is an empty answer, not an error."""

        def found(**conditions: str) -> list[str]:
            answer = post(client, "/v1/search", query="shoe", filter=conditions)
            return [item["id"] for item in answer["matches"]]

        assert sorted(found(domain="shop")) == ["shoe-1", "shoe-2"]
        assert found(domain="shop", colour="red") == ["shoe-1"]
        assert found(domain="nothing") == []

    def test_search_is_a_prefix_of_a_longer_search(self, client: TestClient) -> None:
        """The number k decides how many are shown, not which."""
        all_four = post(client, "/v1/search", query="running", k=4)["matches"]
        for k in (1, 2, 3):
            assert post(client, "/v1/search", query="running", k=k)["matches"] == all_four[:k]

    def test_score_and_match_agree_with_a_match_request(self, client: TestClient) -> None:
        """The two routes never contradict each other."""
        found = post(client, "/v1/search", query="running shoe", k=4)["matches"]
        judged = post(client, "/v1/match", query="running shoe", title_ids=[item["id"] for item in found])
        for one, other in zip(found, judged["matches"], strict=True):
            assert {name: one[name] for name in other} == other

    def test_a_query_is_encoded_once(self, tmp_path: Path) -> None:
        """The second time its vector comes from the cache, and /metrics says so."""
        bundle = FakeBundle()
        with TestClient(create_app(fake_state(tmp_path, release=FakeRelease(), bundle=bundle))) as client:
            for _ in range(3):
                post(client, "/v1/search", query="running")
            assert bundle.encoded.count("running") == 1
            assert 'dualtower_query_vectors_total{source="process"} 2.0' in client.get("/metrics").text

    def test_without_a_release_it_says_how_to_make_one(self, bare_client: TestClient) -> None:
        """A declared 503 with the way out."""
        response = bare_client.post("/v1/search", json={"query": "shoe"})
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert "dualtower index" in response.json()["error"]
        assert response.json()["error_type"] == "NoReleaseError"


class TestSentiment:
    def test_one_text(self, client: TestClient) -> None:
        """Label, name and probabilities of the most probable class."""
        answer = post(client, "/v1/sentiment", text="bad")
        SentimentAnswer.model_validate(answer, strict=True)
        assert (answer["label"], answer["name"]) == (-1, "negative")
        assert answer["probabilities"] == {"negative": 0.8, "neutral": 0.1, "positive": 0.1}

    def test_several_texts_in_their_order(self, client: TestClient) -> None:
        """Each gets what it would get alone."""
        answer = post(client, "/v1/sentiment", texts=["good", "so so", "bad"])
        SentimentsAnswer.model_validate(answer, strict=True)
        assert [item["label"] for item in answer["sentiments"]] == [1, 0, -1]

    def test_a_bundle_without_a_head_says_so(self, tmp_path: Path) -> None:
        """It is not there: 404, and how to make it."""
        bundle = FakeBundle()
        bundle.has_sentiment = False
        with TestClient(create_app(fake_state(tmp_path, bundle=bundle))) as client:
            assert "fit-sentiment" in refused(client, "/v1/sentiment", 404, text="good")


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


class TestHealth:
    def test_ready_with_a_release(self, client: TestClient) -> None:
        """Nothing is wrong, and it says which release answers."""
        response = client.get("/health/ready")
        assert response.status_code == 200
        ReadyAnswer.model_validate_json(response.content, strict=True)
        assert response.json() == {"ready": True, "not_ready": [], "degraded": [], "release": "v1"}

    def test_probes_may_use_head(self, client: TestClient, bare_client: TestClient) -> None:
        """The status says it all."""
        assert client.head("/health/live").status_code == 200
        assert client.head("/health/ready").status_code == 200
        assert bare_client.head("/health/ready").status_code == 503

    def test_not_ready_names_what_is_missing(self, bare_client: TestClient) -> None:
        """503 and the way out; the process is alive all the same."""
        response = bare_client.get("/health/ready")
        assert response.status_code == 503
        (reason,) = response.json()["not_ready"]
        assert reason.startswith("release: no release is published in")
        assert "dualtower index" in reason
        assert bare_client.get("/health/live").json() == {"live": True}

    def test_a_service_that_is_stopping_is_not_ready_but_answers(self, tmp_path: Path) -> None:
        """Balancers go elsewhere, kept connections end, requests that still come are answered."""
        state = fake_state(tmp_path, release=FakeRelease())
        with TestClient(create_app(state)) as client:
            state.draining = True
            ready = client.get("/health/ready")
            assert ready.status_code == 503
            assert "stopping" in ready.json()["not_ready"][0]
            answer = client.post("/v1/search", json={"query": "shoe"})
            assert answer.status_code == 200
            assert answer.headers["connection"] == "close"

    def test_info(self, client: TestClient) -> None:
        """Versions and limits, no paths and no secrets."""
        response = client.get("/info")
        InfoAnswer.model_validate_json(response.content, strict=True)
        assert response.json()["bundle"]["bundle_id"] == "f" * 64
        assert response.json()["limits"]["max_titles"] == 5000

    def test_metrics_know_routes_not_paths(self, client: TestClient) -> None:
        """A path from outside must not become a time series of its own."""
        for number in range(3):
            client.get(f"/scan/{number}")
        post(client, "/v1/search", query="shoe")
        text = client.get("/metrics").text
        assert 'dualtower_requests_total{route="other",status="404"} 3.0' in text
        assert 'dualtower_requests_total{route="/v1/search",status="200"} 1.0' in text
        assert 'dualtower_stage_seconds_count{stage="encode"} 1.0' in text
        assert "/scan" not in text


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


def test_the_openapi_document_describes_bodies_answers_and_errors(client: TestClient) -> None:
    """Every reference in it leads somewhere, and each question documents its request."""
    text = client.get("/openapi.json").text
    document = json.loads(text)
    schemas = document["components"]["schemas"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    for route, model in [
        ("match", "MatchRequest"),
        ("search", "SearchRequest"),
        ("sentiment", "SentimentRequest"),
    ]:
        operation = document["paths"][f"/v1/{route}"]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": f"#/components/schemas/{model}"}
        assert {"200", "401", "413", "422", "429", "503"} <= operation["responses"].keys()


def test_questions_are_asked_without_looking_up_arguments(tmp_path: Path) -> None:
    """Where an endpoint takes the request and answers bytes, nothing stands between; other endpoints are FastAPI's."""
    app = create_app(fake_state(tmp_path))
    routes = {route.path: route for route in app.routes if isinstance(route, PlainRoute)}
    assert routes["/v1/search"].get_route_handler() is routes["/v1/search"].endpoint
    assert routes["/embed"].get_route_handler() is routes["/embed"].endpoint
    assert routes["/health/live"].get_route_handler() is not routes["/health/live"].endpoint


def test_log_lines_hold_no_texts(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """One line per request with route, status and time; what people search for is theirs."""
    caplog.set_level("DEBUG")
    post(client, "/v1/search", query="running")
    refused(client, "/v1/search", 422, query="running\x00")
    lines = [vars(record) for record in caplog.records if record.name == "service.requests"]
    assert [(line["route"], line["status"]) for line in lines] == [("/v1/search", 200), ("/v1/search", 422)]
    assert "running" not in json.dumps(lines, default=str)
