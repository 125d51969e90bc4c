"""Laws over arbitrary input: whatever is sent, the answer is an answer or a refusal, never a failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.app import create_app
from service.schemas import ErrorAnswer, MatchRequest, SearchRequest, SentimentRequest
from tests.service.fakes import TITLES, FakeRelease, fake_state

ROUTES = ["/v1/match", "/v1/search", "/v1/sentiment"]
FIELDS = sorted({*MatchRequest.model_fields, *SearchRequest.model_fields, *SentimentRequest.model_fields})

texts = st.text(max_size=20) | st.sampled_from(["shoe", TITLES[0].id, "\x00", "", "domain", "shop"])
scalars = texts | st.none() | st.booleans() | st.integers() | st.floats()
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "text", "query", "title", "title_id"]) | texts, inner, max_size=3
        )
    ),
    max_leaves=10,
)
almost_requests = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    state = fake_state(tmp_path_factory.mktemp("any"), release=FakeRelease())
    with TestClient(create_app(state), raise_server_exceptions=False) as client:
        yield client


def check(client: TestClient, route: str, body: bytes) -> None:
    response = client.post(route, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code < 500, (body, response.text)
    if response.status_code != 200:
        assert ErrorAnswer.model_validate_json(response.content, strict=True).error


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=almost_requests | anything)
def test_any_json_is_answered_or_refused(client: TestClient, route: str, body: Any) -> None:
    """Also NaN and lone surrogates, which Python writes as JSON without a word."""
    check(client, route, json.dumps(body).encode())


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=50))
def test_any_bytes_are_refused(client: TestClient, route: str, body: bytes) -> None:
    """What is no JSON is no request."""
    check(client, route, body)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(min_size=1, max_size=10).filter(lambda text: "\x00" not in text),
    choice=st.lists(st.sampled_from([title.id for title in TITLES] + ["nope"]), min_size=1, max_size=8),
    seed=st.randoms(use_true_random=False),
)
def test_the_order_of_titles_changes_only_the_order_of_the_answer(
    client: TestClient, query: str, choice: list[str], seed: Any
) -> None:
    """A permuted request has the permuted answer."""
    places = list(range(len(choice)))
    seed.shuffle(places)
    straight = client.post("/v1/match", json={"query": query, "title_ids": choice}).json()["matches"]
    shuffled = client.post(
        "/v1/match", json={"query": query, "title_ids": [choice[p] for p in places]}
    ).json()
    assert shuffled["matches"] == [straight[p] for p in places]
