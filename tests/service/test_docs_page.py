from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.testclient import TestClient

from service.app import create_app
from service.docs_page import page
from tests.service.fakes import fake_state


def test_the_page_tells_of_every_route_and_schema_and_asks_nobody_else(tmp_path: Path) -> None:
    """No script, no address of another host; every link inside leads somewhere; the policy allows its style."""
    app = create_app(fake_state(tmp_path))
    with TestClient(app) as client:
        answer = client.get("/docs")
        assert client.get("/redoc").status_code == 404
    text = answer.text
    described = app.openapi()
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in text
    anchors = set(re.findall(r' id="([^"]+)"', text))
    assert anchors == set(described["components"]["schemas"])
    targets = set(re.findall(r'(?:href|src)="([^"]+)"', text))
    assert {target for target in targets if not target.startswith("#")} == {"/openapi.json"}
    assert {target[1:] for target in targets if target.startswith("#")} <= anchors
    assert "<script" not in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["Content-Security-Policy"]


def test_what_a_document_says_is_no_markup() -> None:
    text = page({"info": {"title": "<b>", "version": "1"}, "paths": {}})
    assert "<b>" not in text
