"""Debian's Chromium, driven over a pipe; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Playwright

# Root in a container gets no sandbox; the rest keeps Chromium from looking for updates and the like.
SWITCHES = ["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]


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
