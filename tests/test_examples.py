"""The example data: every file can be read by the package's own readers, and keeps what its README promises."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towers.labelled import read_pairs, read_searches, read_texts
from towers.tables import read_rows

EXAMPLES = Path(__file__).parents[1] / "examples"
COLUMNS = {
    "titles.tsv": ["id", "title", "domain", "lang"],
    "queries.tsv": ["query_id", "query", "lang"],
    "qrels.tsv": ["query_id", "title_id", "relevance"],
    "pairs.tsv": ["query", "title", "label"],
    "sentiment.tsv": ["text", "label", "lang"],
}


def rows_of(name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(EXAMPLES / name)]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_reads_the_same_with_and_without_quoting(name: str) -> None:
    """No field starts with a quote or has spaces around it, so that every reader of .tsv sees the same text."""
    lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    rows = rows_of(name)
    assert [list(row.values()) for row in rows] == [line.split("\t") for line in lines[1:]]
    for row in rows:
        assert list(row) == COLUMNS[name]
        assert all(value and value == value.strip() and value[0] != '"' for value in row.values())


def test_titles_are_enough_and_different_in_both_languages() -> None:
    """At least 1,000 titles of three domains; each language has 45 percent or more, and no id or text is twice."""
    rows = rows_of("titles.tsv")
    languages = Counter(row["lang"] for row in rows)
    assert len(rows) >= 1000
    assert set(languages) == {"en", "zh"}
    assert min(languages.values()) >= 0.45 * len(rows)
    assert {row["domain"] for row in rows} == {"shop", "faq", "news"}
    assert len({row["id"] for row in rows}) == len({row["title"] for row in rows}) == len(rows)


def test_every_query_has_an_answer_and_a_distractor_of_its_language() -> None:
    """At least 100 queries; each has a title of relevance 3 and one that is judged 0, all of which exist."""
    language_of = {row["id"]: row["lang"] for row in rows_of("titles.tsv")}
    queries = {row["query_id"]: row["lang"] for row in rows_of("queries.tsv")}
    assert len(queries) == len(rows_of("queries.tsv")) >= 100
    judged: dict[str, dict[str, str]] = {query: {} for query in queries}
    for row in rows_of("qrels.tsv"):
        assert language_of[row["title_id"]] == queries[row["query_id"]]
        assert row["title_id"] not in judged[row["query_id"]]
        judged[row["query_id"]][row["title_id"]] = row["relevance"]
    for relevances in judged.values():
        assert {"0", "3"} <= set(relevances.values()) <= {"0", "1", "2", "3"}


def test_searches_are_read_as_evaluate_does() -> None:
    """`dualtower evaluate search` finds every judged query and title."""
    searches = read_searches(
        EXAMPLES / "titles.tsv", EXAMPLES / "qrels.tsv", queries=EXAMPLES / "queries.tsv"
    )
    assert searches.unknown_queries == 0
    assert len(searches.query_ids) == len(rows_of("queries.tsv"))
    assert {title for judged in searches.relevances for title in judged} <= set(searches.title_ids)


def test_pairs_are_balanced_and_share_no_text_with_the_searches() -> None:
    """As many pairs match as not, in each language; training on them says nothing about the judged searches."""
    pairs = read_pairs(EXAMPLES / "pairs.tsv")
    chinese = np.array([any("一" <= character <= "鿿" for character in query) for query in pairs.queries])
    assert set(pairs.labels) == {0.0, 1.0}
    for language in (chinese, ~chinese):
        assert language.sum() >= 100
        assert abs(pairs.labels[language].mean() - 0.5) <= 0.1
    assert len(set(zip(pairs.queries, pairs.titles, strict=True))) == len(pairs.labels)
    assert not set(pairs.queries) & {row["query"] for row in rows_of("queries.tsv")}
    assert not set(pairs.titles) & {row["title"] for row in rows_of("titles.tsv")}


def test_sentiments_are_balanced_in_each_language() -> None:
    """Each language has as many positive as neutral and negative texts, none of them twice."""
    texts = read_texts(EXAMPLES / "sentiment.tsv")
    languages = [row["lang"] for row in rows_of("sentiment.tsv")]
    counts = Counter(zip(languages, texts.labels.tolist(), strict=True))
    assert set(counts) == {(language, label) for language in ("en", "zh") for label in (-1, 0, 1)}
    assert len(set(counts.values())) == 1
    assert len(set(texts.texts)) == len(texts.texts)


def test_the_readme_counts_the_rows() -> None:
    """The counts in the table of examples/README.md are those of the files."""
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in COLUMNS:
        line = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert line.split("|")[3].split()[0] == f"{len(rows_of(name)):,}"
