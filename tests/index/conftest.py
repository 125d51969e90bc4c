from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from index.build import BuildOptions, index_titles
from index.manifest import ReleaseManifest
from index.progress import Reporter
from index.release import Release, open_release
from index.releases import Releases
from tests.index.fake_encoder import FakeEncoder

SUPPLIERS = ("HP", "Xerox", "联想", "")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def sample_rows(count: int = 300) -> list[dict[str, Any]]:
    """Titles in two languages and of several lengths; every tenth has the text of the one before it."""
    return [
        {
            "id": f"sku-{i}",
            "title": _sample_text(i - (i % 10 == 9)),
            "supplier": SUPPLIERS[i % 4],
            "price": i / 4,
            "stock": i % 2 == 0,
        }
        for i in range(count)
    ]


def _sample_text(i: int) -> str:
    return f"title {i}" + " 长" * (i % 7) + " word" * (i % 5)


class Desk:
    """A directory of releases with what it takes to fill it."""

    def __init__(self, root: Path) -> None:
        self.releases = Releases(root / "releases")
        self.source = root / "titles.jsonl"
        self.encoder = FakeEncoder()
        self._said = io.StringIO()
        self.report = Reporter(Console(file=self._said, width=500))

    def index(self, rows: list[dict[str, Any]] | None = None, **how: Any) -> ReleaseManifest:
        """Index rows (or the source as it is); `how` goes to BuildOptions or to index_titles."""
        if rows is not None:
            write_rows(self.source, rows)
        options = {name: how.pop(name) for name in list(how) if name in BuildOptions.__dataclass_fields__}
        return index_titles(
            self.source,
            self.releases,
            self.encoder,
            options=BuildOptions(**{"block_titles": 50, **options}),
            report=self.report,
            **how,
        )

    @property
    def said(self) -> str:
        return self._said.getvalue()

    @property
    def encoded(self) -> int:
        return sum(len(call) for call in self.encoder.calls)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A published release of 300 titles, for tests that only read."""
    desk = Desk(tmp_path_factory.mktemp("release"))
    desk.index(sample_rows(), publish=True)
    return desk


@pytest.fixture(scope="session")
def release(shared_desk: Desk) -> Iterator[Release]:
    opened = open_release(shared_desk.releases.root)
    yield opened
    opened.close()
