from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from index.titles import digest_of
from service.app import create_app
from service.cancel import ASKER, Asker
from service.compose import compose
from service.dialects.tei import handlers
from service.dialects.tei.handlers import logits
from service.dialects.tei.schemas import TeiError, TeiPrediction, TeiRank, TeiToken
from service.errors import GoneError, TooLargeError
from service.known_texts import KnownTexts
from service.lanes import QUICK
from service.schemas import InfoAnswer
from service.settings import Settings
from tests.service.dialects.prefixed import prefixed_bundle
from tests.service.fakes import TITLES, FakeBundle, FakeRelease, fake_state
from tests.service.served import Served, make_release, publish_by_hand
from towers import Bundle
from towers.tokens import Token

LONG = "red " * 40  # the tiny bundle reads 32 tokens


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("tei") / "releases"
    publish_by_hand(root, make_release(root, tiny_bundle, prefix="a"))
    with Served(root, max_texts=40) as served:
        yield served


@pytest.fixture
def huggingface(served: Served, monkeypatch: pytest.MonkeyPatch) -> InferenceClient:
    """The client as it is, told nothing but the address."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # it would refuse loopback, too
    return InferenceClient(f"http://127.0.0.1:{served.port}")


def ask(served: Served, path: str, **body: Any) -> Any:
    """The answer to a request that has to succeed."""
    status, answer = served.post(path, **body)
    assert status == 200, answer
    return answer


def route(client: InferenceClient, path: str) -> str:
    return f"{client.model}{path}"


class TestRealClient:
    def test_feature_extraction_gives_the_vectors_of_the_bundle(
        self, huggingface: InferenceClient, tiny_bundle: Bundle
    ) -> None:
        """To the last bit, at the server's bare address and at /embed."""
        texts = ["red shoe", "a blue phone with a cable", "今天 天气"]
        for model in (None, route(huggingface, "/embed")):
            vectors = huggingface.feature_extraction(texts, model=model)
            np.testing.assert_array_equal(vectors, tiny_bundle.encode_titles(texts))
        one = huggingface.feature_extraction("red shoe")
        np.testing.assert_array_equal(one, tiny_bundle.encode_titles(["red shoe"]))

    def test_its_parameters_are_understood(self, huggingface: InferenceClient, tiny_bundle: Bundle) -> None:
        """prompt_name takes the query tower, truncate cuts, on the side that it is told."""
        query = huggingface.feature_extraction("red shoe", prompt_name="query", normalize=True, dimensions=16)
        np.testing.assert_array_equal(query, tiny_bundle.encode_queries(["red shoe"]))
        right = huggingface.feature_extraction("blue phone " + LONG, truncate=True)
        np.testing.assert_array_equal(right, tiny_bundle.encode_titles(["blue phone " + LONG]))
        left = huggingface.feature_extraction(LONG + "blue phone", truncate=True, truncation_direction="left")
        np.testing.assert_array_equal(left, tiny_bundle.encode_titles(["red " * 28 + "blue phone"]))

    def test_sentence_similarity_gives_cosines(
        self, huggingface: InferenceClient, tiny_bundle: Bundle
    ) -> None:
        """Of the source and each sentence, in their order."""
        found = huggingface.sentence_similarity(
            "red shoe", ["blue shoe", "red shoe"], model=route(huggingface, "/similarity")
        )
        source, *others = tiny_bundle.encode_titles(["red shoe", "blue shoe", "red shoe"])
        assert found == pytest.approx([float(source @ other) for other in others], abs=1e-6)
        assert found[1] == pytest.approx(1, abs=1e-6)

    def test_text_classification_gives_the_likeliest_label(
        self, huggingface: InferenceClient, tiny_bundle: Bundle
    ) -> None:
        """The client takes the first entry of an answer to one text, which is the best; to a batch, all labels."""
        model = route(huggingface, "/predict")
        best: Any = huggingface.text_classification("I like you.", model=model)
        probabilities = dict(
            zip(("negative", "neutral", "positive"), tiny_bundle.sentiment(["I like you."])[0], strict=True)
        )
        assert best.score == max(probabilities.values())
        assert probabilities[best.label] == best.score
        batch: Any = [["I like you."]]
        labels = huggingface.text_classification(batch, model=model)
        assert [one.label for one in labels] == sorted(probabilities, key=probabilities.__getitem__)[::-1]

    def test_its_errors_say_what_to_do(self, huggingface: InferenceClient) -> None:
        """A refusal reaches the user with our words in it."""
        with pytest.raises(HfHubHTTPError, match="at most 32 are read; shorten it, or have it cut") as caught:
            huggingface.feature_extraction(LONG)
        assert caught.value.response.status_code == 413
        with pytest.raises(HfHubHTTPError, match="vectors of this bundle have 16; give that"):
            huggingface.feature_extraction("red", dimensions=4)


def test_a_prompt_counts_where_texts_are_measured_and_cut(tmp_path: Path) -> None:
    """What the bundle puts before a query is never cut off, and takes its place from the query's beginning."""
    bundle = prefixed_bundle(tmp_path)  # "music box " before each query
    state = compose(Settings(releases=tmp_path / "releases"), bundle)
    room = 32 - bundle.count_tokens("music box ")
    full = {"inputs": "red " * (room + 1), "prompt_name": "query"}
    with pytest.raises(TooLargeError, match="33 tokens"):
        handlers.embed(state, json.dumps(full).encode())
    assert handlers.embed(state, json.dumps(full | {"prompt_name": "title"}).encode())
    left = full | {"inputs": LONG + "blue red", "truncate": True, "truncation_direction": "left"}
    found = np.float32(json.loads(handlers.embed(state, json.dumps(left).encode())))
    kept = "red " * (room - 2) + "blue red"
    np.testing.assert_array_equal(found, bundle.encode_queries([kept]))
    tokenize = {"inputs": "red", "prompt_name": "query", "add_special_tokens": False}
    (tokens,) = json.loads(handlers.tokenize(state, json.dumps(tokenize).encode()))
    assert "".join(token["text"] for token in tokens) == "musicboxred"


class TestDocumentedBodies:
    """The bodies of the examples that text-embeddings-inference documents."""

    def test_embed(self, served: Served, tiny_bundle: Bundle) -> None:
        """One text is answered as a list of one vector."""
        answer = ask(served, "/embed", inputs="What is Deep Learning?")
        np.testing.assert_array_equal(
            np.float32(answer), tiny_bundle.encode_titles(["What is Deep Learning?"])
        )
        several = ["Today is a sunny day and I will get some ice cream.", "What is Deep Learning?"]
        assert len(ask(served, "/embed", inputs=several, truncate=True)) == 2

    def test_rerank(self, served: Served) -> None:
        """The scorer's probabilities, best first, as /v1/match gives them; logits when they are asked for."""
        texts = ["Deep Learning is not...", "Deep learning is...", "red shoe"]
        query = "What is Deep Learning?"
        ranks = ask(served, "/rerank", query=query, texts=texts, raw_scores=False, return_text=True)
        TypeAdapter(list[TeiRank]).validate_python(ranks)
        judged = ask(served, "/v1/match", query=query, titles=texts)["matches"]
        assert [rank["score"] for rank in ranks] == sorted((rank["score"] for rank in ranks), reverse=True)
        for rank in ranks:
            assert rank["text"] == texts[rank["index"]]
            assert rank["score"] == pytest.approx(judged[rank["index"]]["score"], abs=1e-6)
        raw = ask(served, "/rerank", query=query, texts=texts, raw_scores=True)
        assert [rank["index"] for rank in raw] == [rank["index"] for rank in ranks]
        assert all(rank.keys() == {"index", "score"} for rank in raw)
        for rank, before in zip(raw, ranks, strict=True):
            assert 1 / (1 + np.exp(-rank["score"])) == pytest.approx(before["score"], abs=1e-6)

    def test_predict(self, served: Served) -> None:
        """One text is answered with a list of labels, a batch with a list of lists."""
        one = ask(served, "/predict", inputs="I like you.")
        TypeAdapter(list[TeiPrediction]).validate_python(one)
        assert sum(entry["score"] for entry in one) == pytest.approx(1, abs=1e-5)
        assert ask(served, "/predict", inputs=["I like you."]) == one
        batch = ask(served, "/predict", inputs=[["I like you."], ["I hate pineapples"]])
        assert [len(labels) for labels in batch] == [3, 3]
        raw = ask(served, "/predict", inputs="I like you.", raw_scores=True)
        assert [np.exp(entry["score"]) for entry in raw] == pytest.approx([entry["score"] for entry in one])

    def test_similarity(self, served: Served) -> None:
        """Parameters stand beside the inputs."""
        inputs = {
            "source_sentence": "What is Deep Learning?",
            "sentences": ["What is Machine Learning?", LONG],
        }
        parameters = {"truncate": True, "truncation_direction": "Right", "prompt_name": None}
        assert len(ask(served, "/similarity", inputs=inputs, parameters=parameters)) == 2

    def test_tokenize(self, served: Served) -> None:
        """Places count characters, also in Chinese, and nothing is cut."""
        text = "red 今天 " + LONG
        (tokens,) = ask(served, "/tokenize", inputs=text)
        TypeAdapter(list[TeiToken]).validate_python(tokens)
        assert [tokens[0]["special"], tokens[-1]["special"]] == [True, True]
        inner = tokens[1:-1]
        assert len(inner) > 40
        assert all(token["text"] == text[token["start"] : token["stop"]] for token in inner)
        assert not any(token["special"] for token in inner)
        assert ask(served, "/tokenize", inputs=[text], add_special_tokens=False) == [inner]

    def test_info(self, served: Served) -> None:
        """Its fields stand beside ours; `version` is ours."""
        status, info = served.get("/info")
        assert status == 200
        InfoAnswer.model_validate(info, strict=True)
        assert info["max_input_length"] == info["bundle"]["max_tokens"] == 32
        assert info["max_client_batch_size"] == info["limits"]["max_texts"] == 40
        assert info["model_sha"] == info["bundle"]["bundle_id"]

    def test_health(self, served: Served) -> None:
        """Nothing is said as long as all is well."""
        assert served.get("/health") == (200, "")


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("/embed", {"inputs": []}, 400, "Empty"),
    ("/embed", {"inputs": ["red", ""]}, 400, "Empty"),
    ("/embed", {"inputs": LONG}, 413, "Validation"),
    ("/embed", {"inputs": LONG, "truncate": False}, 413, "Validation"),
    ("/embed", {"inputs": ["red"] * 41}, 413, "Validation"),
    ("/embed", {"inputs": "r" * 10_001, "truncate": True}, 413, "Validation"),
    ("/embed", {"inputs": "red", "prompt_name": "other"}, 422, "Tokenizer"),
    ("/embed", {"inputs": [[1, 2]]}, 422, "Tokenizer"),
    ("/embed", {"inputs": "red\x00"}, 422, "Tokenizer"),
    ("/embed", {"inputs": "red", "truncation_direction": "up"}, 422, "Tokenizer"),
    ("/embed", {}, 422, "Tokenizer"),
    ("/", {"inputs": []}, 400, "Empty"),
    ("/similarity", {"inputs": {"source_sentence": "red", "sentences": []}}, 400, "Empty"),
    ("/similarity", {"inputs": {"source_sentence": "", "sentences": ["red"]}}, 400, "Empty"),
    ("/similarity", {"inputs": {"source_sentence": LONG, "sentences": ["red"]}}, 413, "Validation"),
    ("/rerank", {"query": "red", "texts": []}, 400, "Empty"),
    ("/rerank", {"query": LONG, "texts": ["red"]}, 413, "Validation"),
    ("/rerank", {"query": "red", "texts": ["red", LONG]}, 413, "Validation"),
    ("/rerank", {"query": "red", "texts": ["red"] * 41}, 413, "Validation"),
    ("/predict", {"inputs": []}, 400, "Empty"),
    ("/predict", {"inputs": [[]]}, 400, "Empty"),
    ("/predict", {"inputs": ["a text", "its pair"]}, 422, "Tokenizer"),
    ("/predict", {"inputs": [["a"], "b"]}, 422, "Tokenizer"),
    ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "Tokenizer"),
    ("/predict", {"inputs": LONG}, 413, "Validation"),
    ("/tokenize", {"inputs": ["red"] * 41}, 413, "Validation"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type"), REFUSED, ids=lambda value: json.dumps(value)[:60]
)
def test_a_refusal_has_the_status_and_the_name_of_its_kind(
    served: Served, path: str, body: dict[str, Any], status: int, error_type: str
) -> None:
    """They are those of text-embeddings-inference, and the message never repeats the input."""
    found, answer = served.post(path, **body)
    assert (found, TeiError.model_validate(answer).error_type) == (status, error_type), answer
    assert "red red" not in answer["error"]


def test_complaints_name_the_field_as_the_client_wrote_it(served: Served) -> None:
    """Not the branch of a union that was tried."""
    assert "inputs[1] must be" in served.post("/embed", inputs=["red", 1])[1]["error"]


def test_a_bundle_without_a_head_is_a_backend_that_cannot(tmp_path: Path) -> None:
    """424, as for a model of another kind."""
    bundle = FakeBundle()
    bundle.has_sentiment = False
    with TestClient(create_app(fake_state(tmp_path, bundle=bundle))) as client:
        response = client.post("/predict", json={"inputs": "I like you."})
        assert response.status_code == 424
        assert response.json()["error_type"] == "Backend"


def test_without_a_release_texts_are_judged_all_the_same(tmp_path: Path) -> None:
    """Only /health says that there is none."""
    with TestClient(create_app(fake_state(tmp_path))) as client:
        assert client.post("/rerank", json={"query": "shoe", "texts": ["shoe"]}).status_code == 200
        health = client.get("/health")
        assert health.status_code == 503
        assert TeiError.model_validate(health.json()).error_type == "Unhealthy"
        assert client.head("/health").status_code == 503


def test_a_query_of_a_rerank_is_kept_for_the_next(tmp_path: Path) -> None:
    """It goes through the same cache as every other query."""
    bundle = FakeBundle()
    with TestClient(create_app(fake_state(tmp_path, release=FakeRelease(), bundle=bundle))) as client:
        for text in ("first", "second"):
            client.post("/rerank", json={"query": "shoe", "texts": [text]})
    assert bundle.encoded.count("shoe") == 1


class Watched(FakeBundle):
    """Notes the thread in which each text is tokenised or encoded, and may have the client leave then."""

    def __init__(self, asker: Asker | None = None) -> None:
        super().__init__()
        self.threads: list[str] = []
        self._asker = asker

    def _note(self, texts: int) -> None:
        self.threads += [threading.current_thread().name.rpartition("_")[0]] * texts
        if self._asker is not None:
            self._asker.leave()

    def encode_queries(self, texts: Sequence[str], *, progress: Any = None) -> np.ndarray:
        self._note(len(texts))
        return super().encode_queries(texts)

    def tokens(self, text: str) -> list[Token]:
        self._note(1)
        return super().tokens(text)

    def full_counts(self, texts: Sequence[str]) -> list[int]:
        self._note(len(texts))
        return [len(text.split()) for text in texts]

    def sentiment(self, texts: Sequence[str], *, progress: Any = None) -> np.ndarray:
        self._note(len(texts))
        return super().sentiment(texts)


def lists(count: int, text: str = "red") -> list[tuple[str, dict[str, Any]]]:
    """What takes a list of texts and tokenises them, with the bodies that do."""
    texts = [text] * count
    left = {"truncate": True, "truncation_direction": "left"}
    return [
        ("embed", {"inputs": texts}),
        ("embed", {"inputs": texts} | left),
        ("similarity", {"inputs": {"source_sentence": "red", "sentences": texts}}),
        ("rerank", {"query": "red", "texts": texts}),
        ("predict", {"inputs": [[text] for text in texts]}),
        ("predict", {"inputs": [[text] for text in texts]} | left),
        ("tokenize", {"inputs": texts}),
    ]


def named(case: object) -> str:
    return "-".join([case] if isinstance(case, str) else sorted(case)) if isinstance(case, str | dict) else ""


@pytest.mark.parametrize(("path", "body"), lists(QUICK + 1), ids=named)
def test_long_lists_touch_no_thread_of_single_texts(path: str, body: dict[str, Any], tmp_path: Path) -> None:
    """What measures, cuts, splits or encodes them is in the long lane from its first text."""
    bundle = Watched()
    with TestClient(create_app(fake_state(tmp_path, release=FakeRelease(), bundle=bundle))) as client:
        assert client.post(f"/{path}", json=body).status_code == 200
        # A rerank's query or a tower's prefix is a single text.
        assert bundle.threads.count("work") <= 1, bundle.threads
        assert "long-work" in bundle.threads


@pytest.mark.parametrize(("path", "body"), lists(4, "r" * 9000), ids=named)
def test_so_do_a_few_very_long_texts(path: str, body: dict[str, Any], tmp_path: Path) -> None:
    """Their characters count, too."""
    bundle = Watched()
    state = fake_state(tmp_path, bundle=bundle)
    with TestClient(create_app(state)) as client:
        assert client.post(f"/{path}", json=body).status_code == 200
        assert bundle.threads.count("work") <= 1, bundle.threads
        assert "long-work" in bundle.threads


@pytest.mark.parametrize(("path", "body"), lists(10 * QUICK), ids=named)
def test_a_list_is_not_measured_to_its_end_when_its_client_has_gone(
    path: str, body: dict[str, Any], tmp_path: Path
) -> None:
    """Who leaves while the first texts are tokenised has no others tokenised."""
    asker = Asker()
    bundle = Watched(asker)
    before = ASKER.set(asker)
    try:
        with pytest.raises(GoneError):
            getattr(handlers, path)(fake_state(tmp_path, bundle=bundle), json.dumps(body).encode())
    finally:
        ASKER.reset(before)
    assert len(bundle.threads) <= QUICK + 1


class TitlesByDigest:
    """What KnownTexts asks of a release."""

    count = len(TITLES)

    def digests(self) -> np.ndarray:
        return np.array([digest_of(title.title.encode()) for title in TITLES])


def test_texts_that_are_published_titles_are_not_encoded_again(tmp_path: Path) -> None:
    """They and others have the vectors of their own places."""
    bundle, texts = FakeBundle(), ["a new one", TITLES[1].title, "another", TITLES[0].title]
    state = fake_state(tmp_path, release=FakeRelease(), bundle=bundle)
    with state.in_use.use() as serving:
        serving.texts = KnownTexts(TitlesByDigest())
    with TestClient(create_app(state)) as client:
        ranks = client.post("/rerank", json={"query": "blue shoe", "texts": texts}).json()
        assert not {TITLES[0].title, TITLES[1].title} & set(bundle.encoded)
        by_text = client.post("/v1/match", json={"query": "blue shoe", "titles": texts}).json()["matches"]
    for rank in ranks:
        assert rank["score"] == pytest.approx(by_text[rank["index"]]["score"], abs=1e-5)


def test_logits_are_finite_and_rise() -> None:
    """Also where float32 cannot tell a probability from 0 or 1."""
    found = logits(np.array([0, 1e-9, 0.25, 0.5, 0.75, 1], np.float32))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert found[3] == 0
    assert found[2] == pytest.approx(-np.log(3))
