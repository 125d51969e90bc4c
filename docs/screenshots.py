"""Take the screenshots of the page again: `python -m docs.screenshots`. Needs Debian's chromium and fonts-noto-cjk.

The release is made from the titles in examples/ with the bundle that is shipped, as in the demo.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

from index.build import BuildOptions, index_titles
from index.progress import Reporter
from index.releases import Releases
from tests.integration.browser import launched
from tests.service.served import Served
from towers import open_bundle

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "screenshots"
SIZES = {"desktop": (1280, 2400), "phone": (390, 4200)}  # as high as all boxes: one picture holds each whole
LARGEST = 150_000  # bytes: they are looked at on phones, too

QUERY = "somebody stole my card"
MATCH = "cover for velora x6"
TEXT = "Absolutely love this kettle!"
CHINESE = ("iphone15 手机套 摔不坏的", "信用卡还款日能往后挪吗", "拿在手里挺有分量，喜欢。")


def main() -> None:
    """Each box on both sizes, then the whole page dark, and in Chinese."""
    OUT.mkdir(exist_ok=True)
    with served() as url, sync_playwright() as playwright, launched(playwright) as browser:
        for size in SIZES:
            with page(browser, url, size) as shown:
                fill(shown, QUERY, MATCH, TEXT)
                for box in ("search", "match", "sentiment", "live"):
                    shown.locator(f"#{box}").screenshot(path=OUT / f"{box}-{size}.png", animations="disabled")
        with page(browser, url, "desktop", scheme="dark") as shown:
            fill(shown, QUERY, MATCH, TEXT)
            shown.locator("body").screenshot(path=OUT / "dark-desktop.png")
        with page(browser, url, "desktop", language="zh-CN") as shown:
            fill(shown, *CHINESE)
            shown.locator("body").screenshot(path=OUT / "chinese-desktop.png")
        with page(browser, url, "phone", language="zh-CN") as shown:
            shown.screenshot(
                path=OUT / "chinese-phone.png", clip={"x": 0, "y": 0, "width": 390, "height": 844}
            )
    for path in sorted(OUT.glob("*.png")):
        with Image.open(path) as picture:
            colours = picture.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE)
            colours.save(path, optimize=True)  # a third of the bytes, looks the same
        length = path.stat().st_size
        print(f"{path.relative_to(ROOT)}  {length / 1000:.0f} KB")
        assert length < LARGEST, f"{path} has {length} bytes, at most {LARGEST} are wanted"


@contextmanager
def served() -> Iterator[str]:
    """The address of a service with the example titles."""
    with tempfile.TemporaryDirectory() as work, Path(work, "index.log").open("w", encoding="utf-8") as said:
        root, bundle = Path(work, "releases"), open_bundle()
        report = Reporter(Console(file=said))
        titles = ROOT / "examples" / "titles.tsv"
        made = index_titles(titles, Releases(root), bundle, options=BuildOptions(), report=report)
        Releases(root).publish(made.version)
        with Served(root, bundle=bundle.path) as server:
            yield f"http://127.0.0.1:{server.port}/"


@contextmanager
def page(
    browser: Browser, url: str, size: str, *, scheme: str = "light", language: str = "en-GB"
) -> Iterator[Page]:
    """The page in a new window."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        locale=language,
        is_mobile=size == "phone",
        has_touch=size == "phone",
    )
    shown = context.new_page()
    shown.goto(url)
    shown.locator("#live-facts .quality").wait_for()
    yield shown
    context.close()


def fill(shown: Page, query: str, match: str, text: str) -> None:
    """Click an example in each box, twice: first times are no measure of later ones."""
    for box, label in (("search", query), ("match", match), ("sentiment", text)):
        for _ in range(2):
            with shown.expect_response(f"**/v1/{box}"):
                shown.locator(f"#{box} .example", has_text=label).click()
        shown.locator(f"#{box} .times").wait_for()
    shown.mouse.move(0, 0)
    shown.evaluate("document.activeElement.blur()")


if __name__ == "__main__":
    main()
