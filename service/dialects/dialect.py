"""What all dialects have: paths of their own, and a shape for errors there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Failure = Callable[[int, str, str], tuple[int, bytes]]


@dataclass(frozen=True)
class Dialect:
    """One other service's way of asking.

    Attributes:
        name: Of the service.
        paths: What belongs to it; one that ends in `/*` stands for everything below it.
        failure: From our status, message and error type to its status and its body as JSON.
    """

    name: str
    paths: frozenset[str]
    failure: Failure

    def owns(self, path: str) -> bool:
        """Whether the path is one of this dialect's."""
        return path in self.paths or any(
            own.endswith("/*") and path.startswith(own[:-1]) for own in self.paths
        )


def dialect_of(path: str, dialects: Iterable[Dialect]) -> Dialect | None:
    """The dialect that a path belongs to, None for our own paths and for unknown ones."""
    return next((dialect for dialect in dialects if dialect.owns(path)), None)
