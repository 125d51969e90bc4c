"""The reports: everything is in them, nothing of it is markup, nothing is fetched, the same bytes every time."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.towers.train.compare.made_up import REALISTIC, failed, measure, reference, results, row
from towers import InputError
from towers.train.compare.markdown import escaped
from towers.train.compare.report import write_reports
from towers.train.compare.results import Results

EVIL = """<script>alert("1")</script> & 'a' | `b` *c* [d](e) \\ "f" """.strip()
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Holds that tags are closed in order; collects tags, attributes and the words that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def written(made: Results, out: Path) -> tuple[str, str]:
    write_reports(made, out)
    return (out / "report.html").read_text(encoding="utf-8"), (out / "report.md").read_text(encoding="utf-8")


def everything(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def realistic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("realistic")
    write_reports(REALISTIC, out)
    return out


def test_the_same_results_give_the_same_bytes(realistic: Path, tmp_path: Path) -> None:
    """All files, and no others: no temporary one is left."""
    write_reports(REALISTIC, tmp_path)
    assert everything(tmp_path) == everything(realistic)
    assert {name for name in everything(tmp_path) if "/" not in name} == {
        "report.html",
        "report.json",
        "report.md",
    }


def test_the_results_can_be_read_back(realistic: Path) -> None:
    """report.json is what the other two were made from."""
    assert Results.read(realistic / "report.json") == REALISTIC


def test_the_page_fetches_nothing(realistic: Path) -> None:
    """No tag that loads, no address in an attribute or a style, and a policy that forbids it all."""
    text = (realistic / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        assert "src" not in attributes
        for name, value in attributes.items():
            if name.endswith("href"):
                assert (value or "").startswith("#"), tag
            elif not name.startswith("xmlns"):
                assert "//" not in (value or ""), tag
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert styles
    assert not any("@import" in style or "url(" in style for style in styles)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_every_row_is_told_in_both(realistic: Path) -> None:
    """Failed ones with their reason, in the table and in the summary."""
    page = Page((realistic / "report.html").read_text(encoding="utf-8"))
    markdown = (realistic / "report.md").read_text(encoding="utf-8")
    words = "\n".join(page.words)
    for one in REALISTIC.rows:
        assert one.name in page.words
        assert escaped(one.name) in markdown
        if one.failed:
            assert f"failed: {one.failed}" in page.words
            assert f"failed: {escaped(one.failed)}" in markdown
    for fact in (
        REALISTIC.command,
        "3f" * 32,
        "torch 2.13.0",
        "a made-up processor",
        "20.0 min",
        "take turns",
    ):
        assert fact in words
        assert escaped(fact) in markdown


def test_tables_have_a_cell_for_each_heading(realistic: Path) -> None:
    """In Markdown every line of a table has as many bars as its head."""
    lines = (realistic / "report.md").read_text(encoding="utf-8").splitlines()
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    for before, here, line in zip(counts, counts[1:], lines[1:], strict=False):
        assert here in (0, before) or before == 0, line


def test_markdown_links_the_figures(realistic: Path) -> None:
    """Each link leads to a file that was written."""
    links = re.findall(r"\]\((figures/[\w-]+\.svg)\)", (realistic / "report.md").read_text(encoding="utf-8"))
    assert sorted(links) == sorted(name for name in everything(realistic) if name.startswith("figures/"))
    assert len(links) == 10


def test_names_and_notes_are_no_markup(tmp_path: Path) -> None:
    """Whatever stands in a name, note, reason, command or fact is shown as it is."""
    made = results(
        reference(),
        row(
            EVIL,
            about=EVIL,
            notes=[EVIL],
            quality=replace(measure(0.9), others={EVIL: [0.5]}),
            cost={EVIL: 1.0},
        ),
        failed(EVIL + "!", EVIL),
        command=EVIL,
        machine={EVIL: EVIL},
        versions={EVIL: EVIL},
    )
    html, markdown = written(made, tmp_path)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert page.words.count(EVIL) >= 4
    assert EVIL not in markdown
    assert escaped(EVIL) in markdown
    assert re.search(r"(?<!\\)<script", markdown) is None


@pytest.mark.parametrize(
    "made",
    [
        results(),
        results(reference()),
        results(failed("uncut", "no disk", against="")),
        results(reference(latency_ms=None, per_second=None, bytes=None, parameters=None, multiply_adds=None)),
        results(failed("uncut", "no disk", against=""), row("a"), data={}),
        results(reference(quality=measure(-0.01)), row("zero", quality=measure(0.0), multiply_adds=0)),
        results(reference(), row("  ", about="", notes=[" "])),
    ],
    ids=["empty", "one", "failed", "bare", "lonely", "zero", "blank"],
)
def test_a_poor_comparison_is_still_reported(made: Results, tmp_path: Path) -> None:
    """Interrupted, failed or empty: the page is sound, and no figure is made up."""
    html, markdown = written(made, tmp_path)
    Page(html)
    for word in ("nan", "None", "inf"):
        assert (
            re.search(
                rf"\b{word}\b", re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S)
            )
            is None
        )
        assert re.search(rf"\b{word}\b", markdown) is None


def test_results_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    """Checked before the first file."""
    with pytest.raises(InputError, match="budget_s: found nan"):
        write_reports(replace(REALISTIC, budget_s=math.nan), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_heading_sorts_by_value(realistic: Path) -> None:
    """Cells carry their number, as 9.5 sorts before 10; a missing figure carries none and stays last."""
    page = Page((realistic / "report.html").read_text(encoding="utf-8"))
    values = [a["data-sort"] for tag, a in page.tags if tag == "td" and "data-sort" in a]
    assert "23" in values
    assert "86.64" in values
    assert "90800000" in values
