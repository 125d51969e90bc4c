"""What answers without a key: probes have none, and the page asks for one."""

from __future__ import annotations

HEALTH = frozenset({"/health", "/health/live", "/health/ready"})
PAGE = "/"
PAGE_FILES = "/page/"


def is_health(path: str) -> bool:
    """Whether probes ask this."""
    return path in HEALTH


def is_page(path: str, method: str) -> bool:
    """Whether this reads the page or one of its files. What is posted to its path is a question to a dialect."""
    return (path == PAGE or path.startswith(PAGE_FILES)) and method in ("GET", "HEAD")


def is_open(path: str, method: str) -> bool:
    """Whether this answers without a key."""
    return is_health(path) or is_page(path, method)
