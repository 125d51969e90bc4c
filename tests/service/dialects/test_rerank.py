"""Jina's and Cohere's rerank, asked by Cohere's own clients and LlamaIndex's for Jina."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cohere
import httpx
import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank

from tests.service.dialects.prefixed import KEY, prefixed_bundle, served_release
from tests.service.served import Served
from towers import Bundle

QUERY = "red phone"
TEXTS = ["blue shoe for music", "red phone", "cable order", "password light", "phone red red"]
MAX_TEXTS = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return prefixed_bundle(tmp_path_factory.mktemp("rerank"))


@pytest.fixture(scope="module")
def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root: Path = tmp_path_factory.mktemp("served") / "releases"
    with served_release(root, bundle, max_texts=MAX_TEXTS) as served:
        yield served


@pytest.fixture
def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}"


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as http:
        yield http


@pytest.fixture
def connections() -> Iterator[httpx.Client]:
    """What Cohere's clients, which cannot be closed, ask through."""
    with httpx.Client() as connections:
        yield connections


@pytest.fixture
def client(url: str, connections: httpx.Client) -> cohere.ClientV2:
    return cohere.ClientV2(KEY, base_url=url, max_retries=0, httpx_client=connections)


def reranker_of(url: str, key: str) -> Iterator[JinaRerank]:
    reranker = JinaRerank(base_url=f"{url}/v1", api_key=key, top_n=3)
    yield reranker
    reranker._session.close()  # it has no way to close it


@pytest.fixture
def reranker(url: str) -> Iterator[JinaRerank]:
    yield from reranker_of(url, KEY)


@pytest.fixture
def stranger(url: str) -> Iterator[JinaRerank]:
    yield from reranker_of(url, "wrong")


def matched(http: httpx.Client, titles: Sequence[str | dict[str, str]]) -> list[tuple[int, float]]:
    """Place and score of each title as /v1/match judges it, best first."""
    items = http.post("/v1/match", json={"query": QUERY, "titles": titles}).json()["matches"]
    return sorted(((place, item["score"]) for place, item in enumerate(items)), key=lambda one: -one[1])


def ranking(results: Sequence[Any]) -> list[tuple[int, float]]:
    return [(result.index, result.relevance_score) for result in results]


class TestCohere:
    def test_scores_are_those_of_match(self, client: cohere.ClientV2, http: httpx.Client) -> None:
        """Best first, each with its place in the request."""
        answer = client.rerank(model="dualtower", query=QUERY, documents=TEXTS)
        assert ranking(answer.results) == matched(http, TEXTS)
        assert answer.id
        assert answer.meta.billed_units.search_units == 1

    def test_top_n_cuts_the_list(self, client: cohere.ClientV2, http: httpx.Client) -> None:
        """More than there are documents means all."""
        for top_n in (1, 3, 50):
            answer = client.rerank(model="dualtower", query=QUERY, documents=TEXTS, top_n=top_n)
            assert ranking(answer.results) == matched(http, TEXTS)[:top_n]

    def test_any_model_name_and_fields_of_its_models_are_taken(self, client: cohere.ClientV2) -> None:
        """A client that names a model of Cohere's works unchanged: there is one scorer here."""
        answer = client.rerank(
            model="rerank-v3.5", query=QUERY, documents=TEXTS, max_tokens_per_doc=512, priority=1
        )
        assert len(answer.results) == len(TEXTS)

    def test_documents_may_be_ids_and_objects(self, client: cohere.ClientV2, http: httpx.Client) -> None:
        """In any mixture."""
        documents: list[Any] = [{"id": "a-3"}, "red phone", {"text": "cable order"}, {"id": "a-7"}]
        answer = client.rerank(model="dualtower", query=QUERY, documents=documents)
        assert ranking(answer.results) == matched(http, documents)

    def test_a_hundred_documents_are_one_search_unit(self, client: cohere.ClientV2) -> None:
        """As Cohere bills; more ids than texts are taken, since nothing is encoded for them."""
        documents: list[Any] = [{"id": f"a-{number % 40}"} for number in range(101)]
        answer = client.rerank(model="dualtower", query=QUERY, documents=documents)
        assert answer.meta.billed_units.search_units == 2
        assert len(answer.results) == 101

    def test_its_first_version_understands_jinas_route(
        self, url: str, http: httpx.Client, connections: httpx.Client
    ) -> None:
        """Both are POST /v1/rerank: one answer serves both."""
        client = cohere.Client(KEY, base_url=url, max_retries=0, httpx_client=connections)
        answer = client.rerank(
            model="rerank-english-v3.0", query=QUERY, documents=TEXTS, return_documents=True
        )
        assert ranking(answer.results) == matched(http, TEXTS)
        assert [result.document.text for result in answer.results] == [TEXTS[r.index] for r in answer.results]

    def test_a_wrong_field_is_a_bad_request(self, client: cohere.ClientV2) -> None:
        """400 with a message."""
        with pytest.raises(cohere.BadRequestError) as caught:
            client.rerank(model="dualtower", query=QUERY, documents=[])
        assert caught.value.body == {"message": "documents must not be empty"}

    def test_an_unknown_id_without_a_text_is_not_found(self, client: cohere.ClientV2) -> None:
        """The message says which document it is."""
        documents: list[Any] = [{"id": "a-1"}, {"id": "nowhere"}]
        with pytest.raises(cohere.NotFoundError) as caught:
            client.rerank(model="dualtower", query=QUERY, documents=documents)
        assert caught.value.body["message"].startswith("documents[1]")

    def test_another_key_is_unauthorized(self, url: str, connections: httpx.Client) -> None:
        """401 in Cohere's shape, though no route was reached."""
        client = cohere.ClientV2("wrong", base_url=url, max_retries=0, httpx_client=connections)
        with pytest.raises(cohere.UnauthorizedError) as caught:
            client.rerank(model="dualtower", query=QUERY, documents=TEXTS)
        assert list(caught.value.body) == ["message"]


class TestJina:
    def test_llama_index_reranks_nodes(self, reranker: JinaRerank, http: httpx.Client) -> None:
        """Its postprocessor for Jina, with another base URL."""
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
        best = reranker.postprocess_nodes(nodes, query_str=QUERY)
        assert [(TEXTS.index(one.text), one.score) for one in best] == matched(http, TEXTS)[:3]

    def test_its_errors_are_found_by_the_client(self, stranger: JinaRerank) -> None:
        """LlamaIndex raises what `detail` says."""
        with pytest.raises(RuntimeError, match="asks for a key"):
            stranger.postprocess_nodes([NodeWithScore(node=TextNode(text="red"))], query_str=QUERY)

    def test_documents_come_back_unless_they_are_not_wanted(self, http: httpx.Client) -> None:
        """As they were sent; a text becomes an object."""
        body = {"query": QUERY, "documents": ["red phone", {"id": "a-3"}]}
        results = http.post("/v1/rerank", json=body).json()["results"]
        assert {result["index"]: result["document"] for result in results} == {
            0: {"text": "red phone"},
            1: {"id": "a-3"},
        }
        plain = http.post("/v1/rerank", json=body | {"return_documents": False}).json()["results"]
        assert plain == [{name: one[name] for name in ("index", "relevance_score")} for one in results]

    def test_a_documents_own_fields_come_back(self, http: httpx.Client) -> None:
        """Of any kind and any name, null among them, from both routes; what JSON cannot hold is null."""
        sent = {
            "text": "red phone",
            "url": "/7",
            "shown": {"a": [1, None]},
            "id": None,
            "": 10**30,
            "_x": 0.1,
        }
        for path in ("/v1/rerank", "/v2/rerank"):
            body = {"query": QUERY, "documents": [sent], "return_documents": True}
            (result,) = http.post(path, json=body).json()["results"]
            assert result["document"] == sent
        endless = '{"query": "red", "documents": [{"text": "red", "size": 1e999}]}'
        headers = {"Content-Type": "application/json"}
        answer = http.post("/v1/rerank", content=endless, headers=headers)
        assert json.loads(answer.text, parse_constant=pytest.fail)["results"][0]["document"]["size"] is None

    def test_a_text_helps_where_the_id_is_unknown(self, http: httpx.Client) -> None:
        """And is not read where the id is known."""
        documents = [{"id": "a-3", "text": "never read"}, {"id": "nowhere", "text": "red phone"}]
        results = http.post("/v1/rerank", json={"query": QUERY, "documents": documents}).json()["results"]
        expected = matched(http, [{"id": "a-3"}, {"text": "red phone"}])
        assert [(one["index"], one["relevance_score"]) for one in results] == expected

    def test_the_text_of_a_published_title_is_not_encoded_again(
        self, http: httpx.Client, bundle: Bundle
    ) -> None:
        """It is judged by the release's vector, as if its id had been given."""
        found = http.post("/v1/search", json={"query": "music", "k": 3}).json()["matches"]
        documents = ["red phone", *(title["title"] for title in found)]
        answer = http.post("/v1/rerank", json={"query": QUERY, "documents": documents}).json()
        expected = matched(http, ["red phone", *({"id": title["id"]} for title in found)])
        assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == expected
        assert answer["usage"]["total_tokens"] == sum(map(bundle.count_tokens, [QUERY, "red phone"]))

    def test_so_it_is_in_the_dialect_without_a_version(self, http: httpx.Client) -> None:
        """text-embeddings-inference's clients know no ids at all."""
        found = http.post("/v1/search", json={"query": "music", "k": 3}).json()["matches"]
        texts = ["red phone", *(title["title"] for title in found)]
        ranks = http.post("/rerank", json={"query": QUERY, "texts": texts}).json()
        expected = matched(http, ["red phone", *({"id": title["id"]} for title in found)])
        assert [(one["index"], round(one["score"], 6)) for one in ranks] == expected

    def test_usage_counts_what_had_to_be_encoded(self, http: httpx.Client, bundle: Bundle) -> None:
        """Known titles cost no tokens."""
        known: list[Any] = [{"id": "a-1"}, {"id": "a-2"}]
        for documents, texts in ((known, [QUERY]), ([*known, "cable"], [QUERY, "cable"])):
            usage = http.post("/v1/rerank", json={"query": QUERY, "documents": documents}).json()["usage"]
            tokens = sum(map(bundle.count_tokens, texts))
            assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            ({"documents": ["red"]}, 422, "query is missing"),
            ({"query": QUERY, "documents": [{}]}, 422, "neither text nor id"),
            ({"query": QUERY, "documents": ["red"], "top_n": 0}, 422, "top_n must be at least 1"),
            ({"query": QUERY, "documents": ["red"] * (MAX_TEXTS + 1)}, 413, f"at most {MAX_TEXTS}"),
            ({"query": QUERY, "documents": [{"id": "nowhere"}]}, 404, "send its text"),
        ],
    )
    def test_refusals_say_why(self, http: httpx.Client, body: Any, status: int, words: str) -> None:
        """In `detail`, and there alone."""
        answer = http.post("/v1/rerank", json=body)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"])
        assert words in answer.json()["detail"]
