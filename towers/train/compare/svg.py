"""A matplotlib figure as SVG for a page that is light or dark: colours by name, the page's font, nothing random."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib wants colours, the page wants names: these stand in until `as_svg` puts the names in their places.
INK = "#010101"
MUTED = "#010102"
GRID = "#010103"
SURFACE = "#010104"
ACCENT = "#010105"
SERIES = ("#010105", "#010106", "#010107", "#010108", "#010109", "#01010a")
_NAMES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    **{colour: f"series-{place}" for place, colour in enumerate(SERIES, 1)},
}
# Name -> (light, dark). Series colours differ in lightness as well, for readers who see few colours.
PALETTE = {
    "ink": ("#1b2330", "#e8ecf2"),
    "muted": ("#5d6878", "#9aa6b6"),
    "grid": ("#dde2e9", "#303a48"),
    "surface": ("#ffffff", "#161b22"),
    "page": ("#f5f7fa", "#0d1117"),
    "good": ("#12733f", "#5fd08f"),
    "bad": ("#b3261e", "#ff8f85"),
    "mark": ("#eaf1fd", "#15253d"),
    "series-1": ("#1f5fc4", "#6ea8ff"),
    "series-2": ("#c2570c", "#ffab66"),
    "series-3": ("#0f7f75", "#4fd1c1"),
    "series-4": ("#8a3ab9", "#d19cf5"),
    "series-5": ("#7a6a00", "#d9c64a"),
    "series-6": ("#b0246b", "#ff8fc4"),
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be found, copied and read aloud
    "text.parse_math": False,  # a name may hold dollar signs
    "text.color": INK,
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page replaces it
    "font.size": 10,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
}


def palette_css() -> str:
    """Return the colours as CSS variables, light ones first and dark ones where the reader prefers them."""
    light, dark = (
        "".join(f"--{name}:{shades[place]};" for name, shades in PALETTE.items()) for place in (0, 1)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def as_svg(figure: Figure, *, name: str, label: str, tips: Mapping[str, str]) -> str:
    """Return a figure as an <svg> element that can stand in a page or, with `standalone`, in a file.

    Args:
        figure: The figure, drawn with STYLE.
        name: Unique in the page; ids begin with it.
        label: What a screen reader says.
        tips: Id of a group (`gid`) -> what the pointer shows over it.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with warnings.catch_warnings(), rc_context(STYLE | {"svg.hashsalt": name}):
        # The page's fonts draw the text, so that it does not matter which characters matplotlib's own one lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = _cleaned(buffer.getvalue())
    for gid, tip in tips.items():
        text = text.replace(f'<g id="{gid}">', f'<g class="tip"><title>{escape(tip)}</title>')
    text = _own_ids(text, name)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def standalone(svg: str) -> str:
    """Return an <svg> element as the content of a file: with its colours and a background."""
    style = f"<style>{palette_css()}text{{font-family:sans-serif}}</style>"
    head, rest = svg.split(">", 1)
    return f'{head}>{style}<rect width="100%" height="100%" style="fill:var(--surface)"/>{rest}\n'


def _cleaned(text: str) -> str:
    """Leave out what says nothing, and give colours their names."""
    text = text[text.index("<svg") :].strip()
    for pattern in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style type.*?</style>"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")
    # Tags alone: a row may be named like a colour or like an id. No attribute holds a bare angle bracket.
    return re.sub(r"<[^<>]+>", lambda match: _styled(match[0]), text)


def _styled(tag: str) -> str:
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", tag)
    for colour, name in _NAMES.items():
        tag = tag.replace(colour, f"var(--{name})")
    return tag


def _own_ids(text: str, name: str) -> str:
    """Drop ids that nothing refers to, and begin the others with the figure's name."""
    refers = re.compile(r"(href=\"#|url\(#)([\w.-]+)")
    used = {match[2] for tag in re.findall(r"<[^<>]+>", text) for match in refers.finditer(tag)}

    def renamed(match: re.Match[str]) -> str:
        tag = re.sub(
            r' id="([^"]*)"', lambda one: f' id="{name}-{one[1]}"' if one[1] in used else "", match[0]
        )
        return refers.sub(rf"\g<1>{name}-\g<2>", tag)

    return re.sub(r"<[^<>]+>", renamed, text)
