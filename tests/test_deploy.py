"""What stands in deploy/ is true of the service: metrics, alerts, paths, ports, variables, files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from index.releases import Releases
from service.keys import parse_lines
from service.metrics import Metrics
from service.settings import PREFIX, Settings
from tests.service.served import Served, eventually, make_release
from towers import Bundle

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VARIABLES = {PREFIX + name.upper() for name in Settings.model_fields}
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


def manifests() -> list[dict[str, Any]]:
    files = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert set(files) == {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")} - {
        "kustomization.yaml"
    }
    return [
        one for file in files for one in yaml.safe_load_all((DEPLOY / "kubernetes" / file).read_text("utf-8"))
    ]


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [one for one in manifests() if one["kind"] == kind]
    return found


@pytest.fixture
def root(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    root = tmp_path / "releases"
    Releases(root).publish(make_release(root, tiny_bundle, prefix="a"))
    return root


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


class TestCompose:
    def test_files_that_are_mounted_exist(self) -> None:
        """A missing one would become an empty directory."""
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        mounted = [
            volume.split(":") for service in services.values() for volume in service.get("volumes", [])
        ]
        ours = {source: target for source, target, *_ in mounted if source.startswith("./")}
        assert len(ours) == 5
        for source in ours:
            assert (ROOT / source).is_file(), source
        rules = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["rule_files"]
        assert rules == [ours["./deploy/prometheus/alerts.yml"]]


class TestKubernetes:
    def test_probes_ask_paths_that_answer_without_a_key(self, root: Path) -> None:
        """At the port that the container opens."""
        (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": 8000}]
        with Served(root, api_key="open sesame") as server:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe]["httpGet"]
                assert asked["port"] == "http"
                assert server.get(asked["path"])[0] == 200
            assert server.get("/metrics")[0] == 401
        (port,) = manifest("Service")["spec"]["ports"]
        assert port["targetPort"] == "http"

    def test_variables_are_settings_and_mounts_have_volumes(self) -> None:
        for kind in ("Deployment", "CronJob"):
            spec = manifest(kind)["spec"]
            pod = (spec if kind == "Deployment" else spec["jobTemplate"]["spec"])["template"]["spec"]
            (container,) = pod["containers"]
            assert {one["name"] for one in container.get("env", [])} <= VARIABLES
            assert {one["name"] for one in container["volumeMounts"]} == {
                one["name"] for one in pod["volumes"]
            }
            claims = {
                one["metadata"]["name"] for one in manifests() if one["kind"] == "PersistentVolumeClaim"
            }
            named = {
                v["persistentVolumeClaim"]["claimName"]
                for v in pod["volumes"]
                if "persistentVolumeClaim" in v
            }
            assert named <= claims
            assert pod["securityContext"]["runAsNonRoot"]
            assert container["resources"]["limits"]["memory"]

    def test_a_rollout_takes_no_copy_away_before_its_successor_is_ready(self) -> None:
        """And a copy that goes has the time that its settings promise to requests."""
        spec = manifest("Deployment")["spec"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        pod = spec["template"]["spec"]
        (drain,) = [one["value"] for one in pod["containers"][0]["env"] if one["name"] == f"{PREFIX}DRAIN_S"]
        assert pod["terminationGracePeriodSeconds"] > float(drain) + Settings().shutdown_s
        assert manifest("PodDisruptionBudget")["spec"]["selector"] == spec["selector"]
        assert manifest("Service")["spec"]["selector"] == spec["selector"]["matchLabels"]

    def test_the_example_of_keys_is_read_and_opens_nothing(self) -> None:
        lines = manifest("Secret")["stringData"]["keys"].splitlines()
        (key,) = parse_lines(lines)
        assert key.digest == bytes(32) != hashlib.sha256(b"").digest()


class TestProxy:
    def test_nginx_ends_tls_and_hands_requests_on(self, root: Path, tmp_path: Path) -> None:
        """The example as it is, but for names, ports and a certificate of a minute."""
        nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if nginx is None or shutil.which("openssl") is None:
            pytest.skip("nginx or openssl is not installed (Debian: apt-get install nginx-light openssl)")
        certificate(tmp_path)
        with Served(root) as server, socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            probe.close()
            process = started_nginx(nginx, tmp_path, port, server.port)
            try:
                eventually(lambda: answers(port), "nginx listens")
                body = json.dumps({"query": "confidential shoe", "k": 1}).encode()
                request = urllib.request.Request(f"https://127.0.0.1:{port}/v1/search", body)
                request.add_header("Content-Type", "application/json")
                context = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
                with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                    assert json.load(answer)["matches"]
                    assert answer.headers["Strict-Transport-Security"]
                    asked = answer.headers["X-Request-ID"]
                assert asked in {line["request_id"] for line in server.logged("request")}
            finally:
                process.terminate()
                process.wait()


def certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout privkey.pem"
    command += " -out fullchain.pem -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


def started_nginx(nginx: str, folder: Path, port: int, upstream: int) -> subprocess.Popen[bytes]:
    text = (DEPLOY / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/dualtower", str(folder)),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"server \{\n    listen 80;.*?\n\}\n", "", text, flags=re.DOTALL)
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"{user}{head}http {{ access_log off; {paths}\n{text}}}\n")
    return subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
