"""Debian's Chromium, driven over a pipe, and what a test sees of the page; nothing is downloaded."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Locator, Page, Playwright

# Root in a container gets no sandbox; the rest keeps Chromium from looking for updates and the like.
SWITCHES = ["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]

HOSTILE = "<img src=x onerror=\"document.title='taken over'\"> red phone"
TITLES = [
    "red shoe",
    "blue phone",
    HOSTILE,
    "light music box",
    "password order",
    "\u202ecable red\u202c 红 手机",
]


def chromium() -> str | None:
    """Where Chromium is; None when it is not installed."""
    return shutil.which("chromium")


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    """A browser without a window."""
    sandbox = os.geteuid() != 0
    browser = playwright.chromium.launch(
        executable_path=chromium(), chromium_sandbox=sandbox, args=SWITCHES, handle_sigint=False
    )
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visit:
    """A window on a server, and what it asked for and complained about."""

    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def box(self, name: str) -> Locator:
        return self.page.locator(f"#{name}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


Visits = Callable[..., Visit]

# [words, colour, colours behind it from the text outwards] of every text that is shown.
TEXT_COLOURS = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest(":disabled")) continue;
    const grounds = [];
    for (let node = element; node; node = node.parentElement) grounds.push(getComputedStyle(node).backgroundColor);
    const solid = grounds.find(colour => !/, 0\\)$/.test(colour));
    found.push([text.data.trim(), getComputedStyle(element).color, solid]);
  }
  return found;
}"""


def numbers(colour: str) -> list[float]:
    """Red, green and blue of a computed colour."""
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def luminance(rgb: list[float]) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21."""
    dark, light = sorted(luminance(numbers(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)
