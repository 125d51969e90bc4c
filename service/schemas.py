"""What goes over the wire: requests are parsed with these classes, answers are documented by them.

A pydantic object for each of a thousand matches would cost more than scoring them, so answers are made from
plain lists (answers.py), and a test holds them against the classes here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)

# typing.TypedDict lacks what pydantic needs before Python 3.12.
from typing_extensions import TypedDict

# NUL is refused because many places that a text comes from or goes to cannot hold it. A lone surrogate is no
# text at all; the JSON parser refuses it already.
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
Whole = Annotated[int, Field(strict=True, ge=1)]

STRICT = ConfigDict(extra="forbid")


def _documented_one_of(*names: str) -> dict[str, Any]:
    """What `_one_of` checks, for the document: exactly one of the names, and not null."""
    return {
        "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]
    }


class TitleRef(TypedDict, total=False):
    """A title by its `id` in the release or by its `text`: one of the two."""

    __pydantic_config__ = ConfigDict(**STRICT, json_schema_extra={"minProperties": 1, "maxProperties": 1})  # type: ignore[misc]
    id: Text
    text: Text


class Pair(TypedDict, total=False):
    """One `query` (or `query_id`) and one `title` (or `title_id`)."""

    __pydantic_config__ = ConfigDict(  # type: ignore[misc]
        **STRICT,
        json_schema_extra={
            "allOf": [_documented_one_of("query", "query_id"), _documented_one_of("title", "title_id")]
        },
    )
    query: Text
    query_id: Text
    title: Text
    title_id: Text


def _simple(value: Any) -> Any:
    if not isinstance(value, str | int | float):  # bool is an int
        raise ValueError("must be a string, a number, true or false")
    return value


FilterValue = Annotated[
    Any, AfterValidator(_simple), WithJsonSchema({"type": ["string", "number", "boolean"]})
]


def _kind(value: Any) -> str:
    return "text" if isinstance(value, str) else "object"


# The tags end up in the places that pydantic complains about; complaints.py takes them out again.
TitleItem = Annotated[
    Annotated[TitleRef, Tag("object")] | Annotated[Text, Tag("text")],
    Discriminator(_kind),
]


def _one_of(values: dict[str, Any], *names: str) -> str:
    """The one name that is given; ValueError when it is none or several."""
    given = [name for name in names if values.get(name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise ValueError(f"give one of {', '.join(names)}; found {found}")
    return given[0]


class MatchRequest(BaseModel):
    """One query against many titles, or a list of pairs."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [
                {
                    "query": "wireless headphones",
                    "titles": [{"id": "p-17"}, {"text": "Bluetooth over-ear headset"}],
                },
                {"query": "wireless headphones", "title_ids": ["p-17", "p-18"]},
                {"pairs": [{"query": "reset password", "title": "How do I change my password?"}]},
            ],
            "allOf": [
                _documented_one_of("titles", "title_ids", "pairs"),
                _documented_one_of("query", "query_id", "pairs"),
            ],
        },
    )

    query: Text | None = Field(None, description="the query's text")
    query_id: Text | None = Field(
        None,
        description="instead of the text: the `query_id` of an earlier answer (SHA-256 of the text, in hex); "
        "404 when its vector is no longer kept, then send the text",
    )
    titles: list[TitleItem] | None = Field(
        None, min_length=1, description='titles, each {"id": …}, {"text": …} or a plain text'
    )
    title_ids: list[Text] | None = Field(
        None, min_length=1, description="titles by id only: the fastest form for many"
    )
    pairs: list[Pair] | None = Field(None, min_length=1, description="instead of all the others")

    @model_validator(mode="after")
    def _consistent(self) -> MatchRequest:
        values = self.__dict__
        if _one_of(values, "titles", "title_ids", "pairs") == "pairs":
            if self.query is not None or self.query_id is not None:
                raise ValueError("pairs bring their own queries; leave out query and query_id")
        else:
            _one_of(values, "query", "query_id")
        for number, title in enumerate(self.titles or ()):
            if not isinstance(title, str) and len(title) != 1:
                raise ValueError(f"titles[{number}]: give either id or text")
        for number, pair in enumerate(self.pairs or ()):
            if len(pair) != 2 or ("query" in pair) == ("query_id" in pair):
                raise ValueError(f"pairs[{number}]: give one of query, query_id and one of title, title_id")
        return self


class SearchRequest(BaseModel):
    """Find the best titles for a query."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [{"query": "wireless headphones", "k": 5, "filter": {"domain": "shop"}}],
            **_documented_one_of("query", "query_id"),
        },
    )

    query: Text | None = Field(None, description="the query's text")
    query_id: Text | None = Field(None, description="instead of the text; see /v1/match")
    k: Whole = Field(10, description="how many titles to answer")
    candidates: Whole | None = Field(
        None, description="how many nearest titles are scored, at least k; unset: 100, or k when that is more"
    )
    filter: dict[Text, FilterValue] | None = Field(
        None, description="only titles whose kept fields have these values"
    )

    @model_validator(mode="after")
    def _consistent(self) -> SearchRequest:
        _one_of(self.__dict__, "query", "query_id")
        if self.candidates is not None and self.candidates < self.k:
            raise ValueError(f"candidates is {self.candidates}, less than k, which is {self.k}")
        return self


class SentimentRequest(BaseModel):
    """Classify one `text`, or several `texts`."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [{"text": "It broke after two days."}],
            **_documented_one_of("text", "texts"),
        },
    )

    text: Text | None = None
    texts: list[Text] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> SentimentRequest:
        _one_of(self.__dict__, "text", "texts")
        return self


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = STRICT

    error: str = Field(description="what was found, what was expected and the way out")
    error_type: str = Field(description="stable name of the kind of error")


class MatchItem(BaseModel):
    """A judged title: the three numbers, or an error."""

    model_config = STRICT

    id: str | None = Field(None, description="the title's id, when it was given by id")
    score: float | None = Field(None, ge=0, le=1, description="probability that query and title match")
    cosine: float | None = Field(None, ge=-1, le=1)
    match: bool | None = Field(None, description="whether the score reaches the threshold")
    error: str | None = None
    error_type: str | None = None


class MatchAnswer(BaseModel):
    """Judgements in the order of the request."""

    model_config = STRICT

    query_id: str | None = Field(description="to be sent instead of the text next time; null for pairs")
    release: str | None = Field(
        description="the release that the ids were looked up in; null when there is none"
    )
    threshold: float
    matches: list[MatchItem]
    milliseconds: dict[str, float] = Field(description="time spent in encode, fetch and score")


class SearchItem(BaseModel):
    """A found title."""

    model_config = STRICT

    id: str
    title: str
    score: float = Field(ge=0, le=1)
    cosine: float = Field(ge=-1, le=1)
    match: bool
    fields: dict[str, Any] = Field(description="the kept fields of the title")


class SearchAnswer(BaseModel):
    """Titles, best score first."""

    model_config = STRICT

    query_id: str
    release: str
    threshold: float
    matches: list[SearchItem]
    milliseconds: dict[str, float] = Field(description="time spent in encode, search, score and fetch")


class Sentiment(BaseModel):
    """What one text says."""

    model_config = STRICT

    label: Literal[-1, 0, 1]
    name: Literal["negative", "neutral", "positive"]
    probabilities: dict[Literal["negative", "neutral", "positive"], float]
    exit_layer: int | None = Field(
        None, description="layers computed until the answer was sure; not there for a head without exits"
    )


class SentimentAnswer(Sentiment):
    """Answer to `text`."""

    milliseconds: dict[str, float]


class SentimentsAnswer(BaseModel):
    """Answer to `texts`, in their order."""

    model_config = STRICT

    sentiments: list[Sentiment]
    milliseconds: dict[str, float]


class ReadyAnswer(BaseModel):
    """Whether requests should be sent here, and what is wrong."""

    model_config = STRICT

    ready: bool
    not_ready: list[str] = Field(description="what keeps the service from being ready")
    degraded: list[str] = Field(description="what is broken while the service goes on without it")
    release: str | None


class InfoAnswer(BaseModel):
    """What is running. The fields after `limits` are those that clients of text-embeddings-inference look for."""

    model_config = STRICT

    version: str
    bundle: dict[str, Any]
    release: dict[str, Any] | None
    title_vectors: str = Field(description="where title vectors come from: redis, memory map or none")
    limits: dict[str, float]
    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int = Field(description="tokens of a query or title that are read")
    max_batch_tokens: int = Field(description="tokens computed at once; longer batches are split")
    max_batch_requests: int | None
    max_client_batch_size: int = Field(description="texts of one request")
    auto_truncate: bool
    tokenization_workers: int
    sha: str | None
    docker_label: str | None
