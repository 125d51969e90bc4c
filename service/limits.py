"""Bounds on what one request may ask for. A refusal names the field, what was found and the bound."""

from __future__ import annotations

from collections.abc import Sequence

from service.asked import Asked
from service.schemas import SearchRequest, SentimentRequest
from service.settings import Settings
from towers.errors import InputError

DEFAULT_CANDIDATES = 100  # guess, untested: ten times the default k


def check_match(asked: Asked, settings: Settings) -> None:
    """Refuse too many titles or pairs, too many texts to encode, and too long texts or ids."""
    query_texts = [query for query in asked.queries if isinstance(query, str)]
    _count("the number of titles", len(asked.order), settings.max_titles)
    _count("the number of titles given by text", len(asked.texts), settings.max_texts)
    _count("the number of different queries", len(asked.queries), settings.max_texts)
    _length("query", query_texts, settings)
    _length("a title", asked.texts, settings)
    _length("an id", asked.ids, settings)


def check_search(request: SearchRequest, settings: Settings) -> int:
    """Refuse too large a k, number of candidates or query; returns how many candidates to score."""
    _count("k", request.k, settings.max_k)
    _length("query", [request.query or ""], settings)
    if request.candidates is None:
        return max(request.k, min(DEFAULT_CANDIDATES, settings.max_candidates))
    _count("candidates", request.candidates, settings.max_candidates)
    return request.candidates


def check_sentiment(request: SentimentRequest, settings: Settings) -> list[str]:
    """Refuse too many or too long texts; returns the texts."""
    texts = [request.text] if request.text is not None else list(request.texts or ())
    _count("the number of texts", len(texts), settings.max_texts)
    _length("a text", texts, settings)
    return texts


def _count(what: str, found: int, limit: int) -> None:
    if found > limit:
        raise InputError(f"{what} is {found}, at most {limit} is accepted; split the request")


def _length(what: str, texts: Sequence[str], settings: Settings) -> None:
    longest = max(map(len, texts), default=0)
    if longest > settings.max_text_length:
        raise InputError(
            f"{what} has {longest} characters, at most {settings.max_text_length} are accepted; shorten it"
        )
