"""Bodies and answers of text-embeddings-inference. Its parser passes over fields that it does not know; so do these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    Tag,
)

# Empty ones are told apart from malformed ones by the handlers: they have a status of their own.
TeiText = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _kind(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<list>"


Direction = Annotated[Literal["left", "right"], BeforeValidator(_lower)]
# In angle brackets, so that complaints.py does not take the tags for fields.
TeiInputs = Annotated[
    Annotated[TeiText, Tag("<text>")] | Annotated[list[TeiText], Tag("<list>")], Discriminator(_kind)
]
PredictItem = Annotated[
    Annotated[TeiText, Tag("<text>")] | Annotated[list[TeiText], Tag("<list>")], Discriminator(_kind)
]
PredictInputs = Annotated[
    Annotated[TeiText, Tag("<text>")] | Annotated[list[PredictItem], Tag("<list>")], Discriminator(_kind)
]
PromptName = Annotated[
    str | None,
    Field(
        description='whose tower encodes: "query", or "title" (also "document" and "passage"), which is the default'
    ),
]


class TeiCut(BaseModel):
    """What to do with texts that are longer than the towers read."""

    truncate: StrictBool | None = Field(None, description="cut them; otherwise they are refused with 413")
    truncation_direction: Direction = Field("right", description="which end is cut off, left or right")


class TeiEmbedRequest(TeiCut):
    """Texts to encode."""

    inputs: TeiInputs = Field(examples=["What is Deep Learning?"])
    prompt_name: PromptName = None
    normalize: StrictBool = Field(True, description="vectors have length 1 in any case")
    dimensions: StrictInt | None = Field(
        None, description="the width of the bundle's vectors, or one that they were trained to be cut to"
    )


class TeiSimilarityInputs(BaseModel):
    """One text and those that it is compared with."""

    source_sentence: TeiText
    sentences: list[TeiText]


class TeiSimilarityParameters(TeiCut):
    """How texts are encoded."""

    prompt_name: PromptName = None


class TeiSimilarityRequest(BaseModel):
    """Texts to compare."""

    inputs: TeiSimilarityInputs
    parameters: TeiSimilarityParameters | None = None


class TeiRerankRequest(TeiCut):
    """A query and texts to sort by how well they match it."""

    query: TeiText
    texts: list[TeiText]
    raw_scores: StrictBool = Field(False, description="logits instead of probabilities")
    return_text: StrictBool = False


class TeiPredictRequest(TeiCut):
    """Texts to classify: one, or a batch in which each is in a list of its own."""

    inputs: PredictInputs = Field(examples=["I like you.", [["I like you."], ["I hate pineapples."]]])
    raw_scores: StrictBool = Field(False, description="logarithms of the probabilities instead of these")


class TeiTokenizeRequest(BaseModel):
    """Texts to split into tokens."""

    inputs: TeiInputs = Field(examples=["What is Deep Learning?"])
    add_special_tokens: StrictBool = True
    prompt_name: PromptName = None


class TeiRank(BaseModel):
    """One text's place."""

    index: int = Field(ge=0, description="its number in `texts`")
    score: float
    text: str | None = Field(None, description="not there unless `return_text` asks for it")


class TeiPrediction(BaseModel):
    """One label."""

    score: float
    label: Literal["positive", "neutral", "negative"]


class TeiToken(BaseModel):
    """One token; `start` and `stop` count characters and are null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiError(BaseModel):
    """Every error of these routes."""

    error: str
    error_type: Literal["Empty", "Validation", "Tokenizer", "Backend", "Overloaded", "Unhealthy"]
