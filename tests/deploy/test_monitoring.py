"""Dashboard, alerts and configuration of Prometheus ask for what the service tells, and Prometheus takes them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import Metrics
from tests.service.served import Served
from tests.tools import need

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCRAPED = {"instance", "job", "le"}  # labels that come from Prometheus itself


def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana" / "dualtower.json").read_text(encoding="utf-8"))


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    """Every question to Prometheus in the dashboard and in the alerts."""
    shown = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return shown + [rule["expr"] for rule in alerts()]


class TestMetrics:
    def test_every_metric_that_is_asked_for_is_exposed(self, root: Path) -> None:
        """By a running service; a histogram under its three names."""
        with Served(root) as server:
            text = server.get("/metrics")[1]
        exposed = set()
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE):
            exposed |= (
                {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
            )
        asked = {
            name for text in expressions() for name in re.findall(r"\b(?:dualtower|process)_[a-z_]+", text)
        }
        assert asked - exposed == set()
        assert len(asked) > 15

    def test_every_label_that_is_asked_for_exists(self) -> None:
        """On the metric that it stands at."""
        labels = {
            metric._name: set(metric._labelnames) | SCRAPED
            for metric in vars(Metrics()).values()
            if hasattr(metric, "_labelnames")
        }
        checked = 0
        for text in expressions():
            for name, matchers in re.findall(r"\b(dualtower_[a-z_]+)\{([^}]*)\}", text):
                known = labels[re.sub("_(total|bucket|sum|count)$", "", name)]
                assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= known, text
                checked += 1
        assert checked > 15

    def test_every_metric_of_ours_is_looked_at(self) -> None:
        """What is counted and shown nowhere is counted for nobody."""
        names = {metric._name for metric in vars(Metrics()).values() if hasattr(metric, "_labelnames")}
        everything = " ".join(expressions())
        assert [name for name in sorted(names) if name not in everything] == []

    def test_every_alert_says_what_to_do(self) -> None:
        """Its heading stands in the runbook."""
        text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
            for line in re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
        }
        for rule in alerts():
            file, _, heading = rule["annotations"]["runbook"].partition("#")
            assert file == "docs/runbook.md"
            assert heading in headings, rule["alert"]
            assert f"`{rule['alert']}`" in text, rule["alert"]
            assert rule["labels"]["severity"] in ("page", "ticket")

    def test_the_dashboard_can_be_provisioned(self) -> None:
        """Each panel has a number of its own, a title, and a place inside of the 24 columns that nothing else takes."""
        panels = dashboard()["panels"]
        assert (
            len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        )
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in panels):
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not cells & taken
            taken |= cells


class TestPrometheus:
    def test_it_takes_the_rules_and_the_configuration(self, tmp_path: Path) -> None:
        """The configuration with the files that the compose file mounts."""
        (tmp_path / "key").write_text("dt-key")
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        for old, new in (
            ("/etc/prometheus/alerts.yml", str(DEPLOY / "prometheus" / "alerts.yml")),
            ("/run/secrets/dualtower_key", str(tmp_path / "key")),
        ):
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "prometheus.yml").write_text(text)
        promtool("check", "config", str(tmp_path / "prometheus.yml"))

    @pytest.mark.parametrize(
        ("route", "fires"),
        [("/v1/search", True), ("other", True), ("/health", False), ("/health/ready", False)],
    )
    def test_probes_that_get_503_are_no_errors(self, tmp_path: Path, route: str, fires: bool) -> None:
        """A service that waits for a release or drains says so in ready; what fails is a question."""
        labels = 'job="dualtower",instance="a"'
        alert = {
            "exp_labels": {"severity": "page", "instance": "a"},
            "exp_annotations": {
                "summary": "more than one request in a hundred fails on a",
                "runbook": "docs/runbook.md#errors",
            },
        }
        series = [
            {
                "series": f'dualtower_requests_total{{{labels},route="{route}",status="503"}}',
                "values": "0+30x20",
            },
            {
                "series": f'dualtower_requests_total{{{labels},route="/v1/search",status="200"}}',
                "values": "0+60x20",
            },
        ]
        asked = {"eval_time": "15m", "alertname": "DualtowerErrors", "exp_alerts": [alert] if fires else []}
        test = {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}
        rules = {"rule_files": [str(DEPLOY / "prometheus" / "alerts.yml")], "tests": [test]}
        (tmp_path / "test.yml").write_text(yaml.safe_dump(rules))
        promtool("test", "rules", str(tmp_path / "test.yml"))


def promtool(*arguments: str) -> None:
    done = subprocess.run([need("promtool", "prometheus"), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
