"""A head with exits in the service: each text says after which layer it left, and /metrics counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import dualtower
from service.app import create_app
from service.schemas import SentimentAnswer, SentimentsAnswer
from tests.conftest import TINY_EXITS
from tests.service.fakes import FakeBundle, fake_state
from towers import Bundle

TEXTS = ["good", "terrible", "where is my order", "i love my new red shoes"]


@pytest.fixture
def client(tmp_path: Path, tiny_exits: Bundle) -> Iterator[TestClient]:
    """A service over the tiny bundle with exits."""
    with TestClient(create_app(fake_state(tmp_path, bundle=tiny_exits))) as client:  # type: ignore[arg-type]
        yield client


def test_each_text_says_where_it_left(client: TestClient, tiny_exits: Bundle) -> None:
    """In the order asked, and for one text as for several."""
    answer = client.post("/v1/sentiment", json={"texts": TEXTS}).json()
    SentimentsAnswer.model_validate(answer, strict=True)
    layers = [item["exit_layer"] for item in answer["sentiments"]]
    assert layers == tiny_exits.sentiment_with_exits(TEXTS)[1].tolist()
    assert set(layers) == {1, 2}
    for text, item in zip(TEXTS, answer["sentiments"], strict=True):
        alone = client.post("/v1/sentiment", json={"text": text}).json()
        SentimentAnswer.model_validate(alone, strict=True)
        assert {name: value for name, value in alone.items() if name != "milliseconds"} == item


def test_metrics_have_a_histogram_of_exits(client: TestClient, tiny_exits: Bundle) -> None:
    """One counter for each layer that texts have left after."""
    for _ in range(2):
        client.post("/v1/sentiment", json={"texts": TEXTS})
    layers = tiny_exits.sentiment_with_exits(TEXTS)[1].tolist()
    text = client.get("/metrics").text
    for layer in (1, 2):
        assert f'dualtower_sentiment_exits_total{{layer="{layer}"}} {2.0 * layers.count(layer)}' in text


def test_info_names_the_exits(client: TestClient) -> None:
    assert client.get("/info").json()["bundle"]["exit_layers"] == [1, 2]


def test_a_head_without_exits_says_nothing_of_them(tmp_path: Path) -> None:
    with TestClient(create_app(fake_state(tmp_path, bundle=FakeBundle()))) as client:
        assert "exit_layer" not in client.post("/v1/sentiment", json={"text": "good"}).json()


def test_the_command_line_shows_exits(capsys: pytest.CaptureFixture[str]) -> None:
    """A column in the table, a field in the JSON."""
    assert dualtower.main(["sentiment", *TEXTS, "--bundle", str(TINY_EXITS)]) == 0
    assert "exit layer" in capsys.readouterr().out
    assert dualtower.main(["sentiment", *TEXTS, "--bundle", str(TINY_EXITS), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {item["exit_layer"] for item in answer["sentiments"]} == {1, 2}
