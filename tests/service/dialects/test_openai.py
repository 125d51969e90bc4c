"""OpenAI's dialect, asked by OpenAI's own client, LangChain's and LlamaIndex's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

from tests.service.dialects.prefixed import KEY, prefixed_bundle, served_release
from tests.service.served import Served
from towers import Bundle

TEXTS = ["red shoe", "blue phone cable", "音乐 light"]
MAX_TEXTS = 8


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return prefixed_bundle(tmp_path_factory.mktemp("openai"))


@pytest.fixture(scope="module")
def served(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root: Path = tmp_path_factory.mktemp("served") / "releases"
    with served_release(root, bundle, max_texts=MAX_TEXTS) as served:
        yield served


@pytest.fixture
def url(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


def rows(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([item.embedding for item in answer.data], np.float32)


class TestEmbeddings:
    def test_vectors_are_the_bundles_own_to_the_last_bit(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """The client asks for base64 by itself, which carries float32 whole."""
        answer = client.embeddings.create(model="dualtower", input=TEXTS)
        assert np.array_equal(rows(answer), bundle.encode_titles(TEXTS))
        assert [item.index for item in answer.data] == [0, 1, 2]

    def test_floats_are_the_same_to_nine_digits(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """`encoding_format: float` is rounded far below what float32 can tell apart in a row of length 1."""
        answer = client.embeddings.create(model="dualtower", input=TEXTS, encoding_format="float")
        assert np.abs(rows(answer) - bundle.encode_titles(TEXTS)).max() < 1e-8

    def test_a_text_alone_is_a_list_of_one(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """A string gives one vector."""
        answer = client.embeddings.create(model="dualtower", input=TEXTS[0])
        assert np.array_equal(rows(answer), bundle.encode_titles(TEXTS[:1]))

    @pytest.mark.parametrize("model", ["dualtower", "dualtower:title", "dualtower:query"])
    def test_the_model_names_the_tower(self, client: openai.OpenAI, bundle: Bundle, model: str) -> None:
        """`:query` encodes as queries, the bare name and `:title` as titles."""
        encode = bundle.encode_queries if model.endswith(":query") else bundle.encode_titles
        answer = client.embeddings.create(model=model, input=TEXTS)
        assert np.array_equal(rows(answer), encode(TEXTS))
        assert answer.model == model

    @pytest.mark.parametrize(("input_type", "query"), [("query", True), ("passage", False)])
    def test_input_type_names_the_tower_where_the_model_does_not(
        self, client: openai.OpenAI, bundle: Bundle, input_type: str, query: bool
    ) -> None:
        """A field that others have added to OpenAI's API."""
        encode = bundle.encode_queries if query else bundle.encode_titles
        answer = client.embeddings.create(
            model="dualtower", input=TEXTS, extra_body={"input_type": input_type}
        )
        assert np.array_equal(rows(answer), encode(TEXTS))

    def test_usage_counts_what_the_tower_reads(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """Tokens beyond the bundle's longest text are not counted."""
        texts = [*TEXTS, "red " * 1000]
        usage = client.embeddings.create(model="dualtower", input=texts).usage
        assert usage.prompt_tokens == usage.total_tokens == sum(map(bundle.count_tokens, texts))

    def test_the_bundles_own_width_may_be_named(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """Clients that always send `dimensions` and `user` are answered."""
        answer = client.embeddings.create(model="dualtower", input="red", dimensions=bundle.dim, user="u-1")
        assert rows(answer).shape == (1, bundle.dim)

    def test_vectors_are_cut_where_the_towers_were_trained_for_it(
        self, client: openai.OpenAI, bundle: Bundle
    ) -> None:
        """The first numbers, of length 1 again."""
        answer = client.embeddings.create(model="dualtower", input=TEXTS, dimensions=bundle.short_dims[0])
        first = bundle.encode_titles(TEXTS)[:, :8]
        assert np.allclose(rows(answer), first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)

    def test_the_asynchronous_client_is_answered(self, url: str, bundle: Bundle) -> None:
        """Requests that are in flight together each get their own vector."""

        async def ask() -> list[openai.types.CreateEmbeddingResponse]:
            async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
                create = client.embeddings.create
                return await asyncio.gather(*(create(model="dualtower:query", input=text) for text in TEXTS))

        answers = asyncio.run(ask())
        assert np.array_equal(np.concatenate([rows(one) for one in answers]), bundle.encode_queries(TEXTS))


class TestModels:
    def test_the_towers_are_listed(self, client: openai.OpenAI) -> None:
        """Each name of the list is one that can be asked about and encoded with."""
        names = [model.id for model in client.models.list()]
        assert names == ["dualtower", "dualtower:query", "dualtower:title"]
        for name in names:
            model = client.models.retrieve(name)
            assert (model.id, model.object, model.owned_by) == (name, "model", "dualtower")
            assert model.created > 0


class TestRefusals:
    @pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
    def test_token_ids_are_refused_with_the_way_out(self, client: openai.OpenAI, tokens: list[int]) -> None:
        """They belong to a tokenizer of OpenAI's."""
        with pytest.raises(openai.BadRequestError, match="send texts") as caught:
            client.embeddings.create(model="dualtower", input=tokens)
        assert (caught.value.param, caught.value.type) == ("input", "invalid_request_error")

    @pytest.mark.parametrize("name", ["text-embedding-3-small", "BAAI/bge-m3"])
    def test_an_unknown_model_is_not_found(self, client: openai.OpenAI, name: str) -> None:
        """404 with OpenAI's code, wherever the name is given; the message lists the models."""
        for ask in (
            lambda: client.embeddings.create(model=name, input="red"),
            lambda: client.models.retrieve(name),
        ):
            with pytest.raises(openai.NotFoundError, match="dualtower:query") as caught:
                ask()
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    def test_vectors_are_not_cut_elsewhere(self, client: openai.OpenAI, bundle: Bundle) -> None:
        """The towers were not trained for it: a width that is not the bundle's is refused, and those that are named."""
        with pytest.raises(openai.BadRequestError, match=f"dimensions is 4.*{bundle.dim} or 8") as caught:
            client.embeddings.create(model="dualtower", input="red", dimensions=4)
        assert caught.value.param == "dimensions"

    def test_model_and_input_type_must_not_contradict(self, client: openai.OpenAI) -> None:
        """Neither wins silently."""
        with pytest.raises(openai.BadRequestError, match="leave one of them out"):
            client.embeddings.create(model="dualtower:title", input="red", extra_body={"input_type": "query"})

    @pytest.mark.parametrize("texts", [[], "", ["red", ""]])
    def test_empty_input_is_refused(self, client: openai.OpenAI, texts: list[str] | str) -> None:
        """As OpenAI refuses it."""
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="dualtower", input=texts)
        assert caught.value.param == "input"

    def test_too_many_texts_are_too_large(self, client: openai.OpenAI) -> None:
        """413 that names the bound."""
        with pytest.raises(openai.APIStatusError, match=f"at most {MAX_TEXTS}") as caught:
            client.embeddings.create(model="dualtower", input=["red"] * (MAX_TEXTS + 1))
        assert (caught.value.status_code, caught.value.param) == (413, "input")

    def test_another_key_is_an_authentication_error(self, url: str) -> None:
        """401 in OpenAI's shape, though no route was reached."""
        with (
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as caught,
        ):
            client.models.list()
        assert caught.value.code == "invalid_api_key"


class TestFrameworks:
    def test_langchain_embeds_documents_and_queries(self, url: str, bundle: Bundle) -> None:
        """With texts instead of token ids, and lists within the service's bound."""
        embeddings = OpenAIEmbeddings(
            base_url=url,
            api_key=KEY,
            model="dualtower",
            check_embedding_ctx_length=False,
            chunk_size=MAX_TEXTS,
        )
        texts = [f"red shoe {number}" for number in range(MAX_TEXTS + 3)]
        expected = [bundle.encode_titles(texts[:MAX_TEXTS]), bundle.encode_titles(texts[MAX_TEXTS:])]
        assert np.allclose(embeddings.embed_documents(texts), np.concatenate(expected), atol=1e-7)
        assert np.allclose(embeddings.embed_query("red"), bundle.encode_titles(["red"])[0], atol=1e-7)

    def test_llama_index_embeds_texts(self, url: str, bundle: Bundle) -> None:
        """Its client for services that speak OpenAI's dialect."""
        embedding = OpenAILikeEmbedding(model_name="dualtower", api_base=url, api_key=KEY, embed_batch_size=8)
        vectors = embedding.get_text_embedding_batch(TEXTS)
        assert np.allclose(vectors, bundle.encode_titles(TEXTS), atol=1e-7)
