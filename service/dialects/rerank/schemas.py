"""What goes over the wire in Jina's and Cohere's dialects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from service.schemas import STRICT, Text, Whole

EXAMPLE: dict[str, Any] = {
    "query": "wireless headphones",
    "documents": ["Bluetooth over-ear headset", {"id": "p-17"}],
    "top_n": 1,
}


class RerankDocument(BaseModel):
    """A title by its `id` in the release, by its `text`, or by both: the text is for when the id is unknown.

    Other fields are the client's own, and come back.
    """

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"anyOf": [{"required": ["id"]}, {"required": ["text"]}]}
    )

    id: Text | None = None
    text: Text | None = None

    @model_validator(mode="after")
    def _some(self) -> RerankDocument:
        if self.id is None and self.text is None:
            raise ValueError("has neither text nor id; give one of them")
        return self

    def shown(self) -> dict[str, Any]:
        """As it was sent."""
        return self.model_dump(exclude_unset=True)


def _object(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Document = Annotated[RerankDocument, BeforeValidator(_object, json_schema_input_type=Text | RerankDocument)]


class RerankRequest(BaseModel):
    """What both dialects have.

    Fields that are not named here are ignored, as both services ignore them: they have many that concern only their
    own models, and more with each version.
    """

    query: Text
    documents: list[Document] = Field(min_length=1, description="texts, or objects with text or id")
    top_n: Whole | None = Field(None, description="how many results; unset: all")
    model: str | None = Field(None, description="not used: there is one scorer")


class JinaRerankRequest(RerankRequest):
    """Rank documents by how well they match the query."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    return_documents: bool | None = Field(None, description="whether results carry documents; unset: yes")


class CohereRerankRequest(RerankRequest):
    """Rank documents by how well they match the query."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    return_documents: bool | None = Field(None, description="whether results carry documents; unset: no")
    max_tokens_per_doc: Whole | None = Field(
        None, description="not used: the bundle says how many tokens of a title are read"
    )


class RerankResult(BaseModel):
    """One document."""

    model_config = STRICT

    index: int = Field(ge=0, description="its place in the request")
    relevance_score: float = Field(ge=0, le=1, description="probability that query and title match")
    document: RerankDocument | None = None


class JinaUsage(BaseModel):
    """Tokens of the query and of the documents that had to be encoded."""

    model_config = STRICT

    prompt_tokens: int
    total_tokens: int


class JinaRerankAnswer(BaseModel):
    """Documents, best first."""

    model_config = STRICT

    model: str
    object: str
    usage: JinaUsage
    results: list[RerankResult]


class JinaErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = STRICT

    detail: str


class CohereApiVersion(BaseModel):
    """Of this dialect."""

    model_config = STRICT

    version: str


class CohereBilledUnits(BaseModel):
    """One for each hundred documents, as Cohere counts."""

    model_config = STRICT

    search_units: int


class CohereMeta(BaseModel):
    """What the answer is and what it would have cost."""

    model_config = STRICT

    api_version: CohereApiVersion
    billed_units: CohereBilledUnits


class CohereRerankAnswer(BaseModel):
    """Documents, best first."""

    model_config = STRICT

    id: str
    results: list[RerankResult]
    meta: CohereMeta


class CohereErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = STRICT

    message: str
