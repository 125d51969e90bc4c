"""What goes over the wire in OpenAI's dialect."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.schemas import STRICT, Text, Whole


def _texts(value: Any) -> Any:
    """A text alone is a list of one; token ids are told apart from what is simply wrong."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, int | list) for item in value):
        raise ValueError(
            "holds token ids, which belong to one tokenizer that this service cannot know; send texts "
            "(langchain: check_embedding_ctx_length=False)"
        )
    return value


Texts = Annotated[
    list[Text], Field(min_length=1), BeforeValidator(_texts, json_schema_input_type=Text | list[Text])
]


class OpenAIEmbeddingsRequest(BaseModel):
    """Texts to encode."""

    model_config = ConfigDict(
        **STRICT,
        json_schema_extra={
            "examples": [{"model": "dualtower", "input": ["wireless headphones", "蓝牙耳机"]}]
        },
    )

    input: Texts = Field(description="one text or several")
    model: Text = Field(
        description="dualtower or dualtower:title for the title tower, dualtower:query for the query tower"
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: little-endian float32, exact; float, which is the default: nine digits"
    )
    dimensions: Whole | None = Field(
        None, description="the width of the bundle's vectors, or one that they were trained to be cut to"
    )
    input_type: Literal["query", "title", "document", "passage"] | None = Field(
        None, description="query for the query tower, all others for the title tower; not in OpenAI's own API"
    )
    user: str | None = Field(None, description="not used")


class OpenAIEmbedding(BaseModel):
    """The vector of one text."""

    model_config = STRICT

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(BaseModel):
    """Tokens that the tower saw."""

    model_config = STRICT

    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddingsAnswer(BaseModel):
    """Vectors of length 1, in the order of the texts."""

    model_config = STRICT

    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


class OpenAIModel(BaseModel):
    """One way of encoding."""

    model_config = STRICT

    id: str
    object: Literal["model"]
    created: int = Field(description="when the bundle was put in its place, in seconds since 1970")
    owned_by: str


class OpenAIModelsAnswer(BaseModel):
    """All of them."""

    model_config = STRICT

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIError(BaseModel):
    """What went wrong."""

    model_config = STRICT

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = STRICT

    error: OpenAIError
