"""What answers without a key: probes have none, and the page asks for one."""

from __future__ import annotations

HEALTH = frozenset({"/health", "/health/live", "/health/ready"})
PAGE = "/"
PAGE_FILES = "/page/"


def is_health(path: str) -> bool:
    """Whether probes ask this."""
    return path in HEALTH


def is_page(path: str) -> bool:
    """Whether this is the page or one of its files, which hold nothing of the release."""
    return path == PAGE or path.startswith(PAGE_FILES)


def is_open(path: str, method: str = "GET") -> bool:
    """Whether this answers without a key. What is posted to the page's path is a question to a dialect."""
    return is_health(path) or (is_page(path) and method in ("GET", "HEAD"))
