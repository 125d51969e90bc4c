"""What the service's own routes answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.query_vectors import query_id_of
from service.route import PlainRoute
from service.schemas import (
    InfoAnswer,
    MatchAnswer,
    ReadyAnswer,
    SearchAnswer,
    SentimentAnswer,
    SentimentsAnswer,
)
from tests.service.asking import post, refused
from tests.service.fakes import FakeBundle, FakeRelease, fake_state


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
