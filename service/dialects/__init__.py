"""The same questions in the words of other services, so that their clients work here unchanged.

A dialect is a package: `failures.py` says which paths are its own and how an error looks there, `routes.py` adds
the routes. This file knows the first half only, because errors.py needs it before there are routes.
"""

from service.dialects.dialect import Dialect, dialect_of
from service.dialects.openai.failures import OPENAI
from service.dialects.rerank.failures import COHERE, JINA
from service.dialects.tei.failures import TEI

DIALECTS: tuple[Dialect, ...] = (TEI, OPENAI, JINA, COHERE)

__all__ = ["DIALECTS", "Dialect", "dialect_of"]
