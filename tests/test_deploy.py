"""What stands in deploy/ is true of the service: metrics, alerts, paths, ports, variables, files."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmarks.proof.proxy import NGINX, Proxy
from benchmarks.proof.services import free_port
from index.releases import Releases
from service.keys import parse_lines
from service.metrics import Metrics
from service.server import KEEP_ALIVE_S
from service.settings import PREFIX, Settings
from tests.service.served import Served, eventually, make_release
from towers import Bundle

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VARIABLES = {PREFIX + name.upper() for name in Settings.model_fields}
SCRAPED = {"instance", "job", "le"}  # labels that come from Prometheus itself
CADDYFILE = DEPLOY / "proxy" / "Caddyfile"
HIDDEN = ("/metrics", "/docs", "/openapi.json")  # by the proxies
QUESTION = json.dumps({"query": "confidential shoe", "k": 1}).encode()


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

    def test_prometheus_finds_a_key_where_it_looks_for_one(self) -> None:
        """The file is mounted; without keys it is empty, and an empty key is no fault where none is asked for."""
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        (scraped,) = config["scrape_configs"]
        file = scraped["authorization"]["credentials_file"]
        assert f"${{PROMETHEUS_KEY_FILE:-/dev/null}}:{file}:ro" in services["prometheus"]["volumes"]

    def test_an_empty_key_scrapes_a_service_without_keys_and_no_other(self, root: Path) -> None:
        """As Prometheus sends it."""
        for settings, status in (({}, 200), ({"api_key": "open sesame"}, 401)):
            with Served(root, **settings) as server, server.connect() as client:
                assert client.ask("GET", "/metrics", headers={"Authorization": "Bearer "})[0] == status

    def test_variables_are_settings(self) -> None:
        """Those for which nothing is given stay away: an empty one would be no number."""
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
        given = services["service"]["environment"]
        assert {name for name in given if name.startswith(PREFIX)} <= VARIABLES
        for name in ("RATE_LIMIT", "RATE_BURST", "CORS_ORIGINS"):
            assert given[PREFIX + name] is None


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
            containers = pod.get("initContainers", []) + pod["containers"]
            for container in containers:
                assert {one["name"] for one in container.get("env", [])} <= VARIABLES
                assert container["resources"]["limits"]["memory"]
                # The root is read-only: what is written for a moment needs a place.
                assert container["securityContext"]["readOnlyRootFilesystem"]
                assert "/tmp" in {one["mountPath"] for one in container["volumeMounts"]}
            mounted = {one["name"] for container in containers for one in container["volumeMounts"]}
            assert mounted == {one["name"] for one in pod["volumes"]}
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

    def test_the_job_knows_the_same_redis_and_deletes_old_releases(self) -> None:
        """A service looks for its titles where the job has written them; a volume does not fill up over the nights."""
        (service,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
        (redis,) = [one for one in service["env"] if one["name"] == f"{PREFIX}REDIS"]
        pod = manifest("CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        (index,), (prune,) = pod["initContainers"], pod["containers"]
        assert index["env"] == prune["env"] == [redis]
        assert "--publish" in index["args"]
        assert prune["args"][:2] == ["releases", "prune"]

    def test_prometheus_brings_a_key(self) -> None:
        """Without one it gets 401: no annotation may promise that it can ask by itself."""
        monitor = yaml.safe_load((DEPLOY / "prometheus" / "servicemonitor.yaml").read_text("utf-8"))["spec"]
        service = manifest("Service")
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert endpoint["authorization"]["credentials"]["name"]
        assert "annotations" not in manifest("Deployment")["spec"]["template"]["metadata"]

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


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)")
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
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


NO_NGINX = "nginx or openssl is not installed (Debian: apt-get install nginx-light openssl)"


@pytest.mark.skipif(NGINX is None or shutil.which("openssl") is None, reason=NO_NGINX)
class TestNginx:
    """The example as it is, but for names, ports and a certificate of a day; a second copy of the service is away."""

    @pytest.fixture
    def proxied(self, root: Path, tmp_path: Path) -> Iterator[tuple[Served, Proxy]]:
        certificate(tmp_path)
        with Served(root) as server, Proxy(tmp_path, [free_port(), server.port], tls=True) as proxy:
            eventually(lambda: listens(proxy.port), "nginx listens")
            yield server, proxy

    def test_it_ends_tls_and_hands_requests_on(self, proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
        """Also one that it has tried to hand to the copy that is away; the request's id is the same in both logs."""
        server, proxy = proxied
        for _ in range(4):
            answer = https(proxy.port, tmp_path / "fullchain.pem", "POST", "/v1/search", QUESTION)
            assert answer.status == 200
            assert json.loads(answer.content)["matches"]
            assert answer.headers["Strict-Transport-Security"]
            asked = answer.headers["X-Request-ID"]
            assert asked in {line["request_id"] for line in server.logged("request")}

    @pytest.mark.parametrize("path", HIDDEN)
    def test_it_hides_what_is_for_operators(
        self, proxied: tuple[Served, Proxy], tmp_path: Path, path: str
    ) -> None:
        """From all but the machine itself; 127.0.0.2 stands for the world."""
        _, proxy = proxied
        trusted = tmp_path / "fullchain.pem"
        assert https(proxy.port, trusted, "GET", path).status == 200
        assert https(proxy.port, trusted, "GET", path, source="127.0.0.2").status == 403

    def test_it_bounds_the_body(self, proxied: tuple[Served, Proxy], tmp_path: Path) -> None:
        """At the service's own limit."""
        body = b" " * (Settings.model_fields["max_body"].default + 1)
        answer = https(proxied[1].port, tmp_path / "fullchain.pem", "POST", "/v1/search", body)
        assert answer.status == 413


CADDY = shutil.which("caddy")


@pytest.mark.skipif(CADDY is None, reason="caddy is not installed (Debian: apt-get install caddy)")
class TestCaddy:
    """The example as it is, but for names and ports; a second copy of the service is away."""

    def test_it_takes_the_file(self, tmp_path: Path) -> None:
        """As it is shipped."""
        assert CADDY is not None
        command = [CADDY, "validate", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        environ = os.environ | {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
        assert done.returncode == 0, done.stderr

    def test_it_ends_tls_and_hands_requests_on(self, root: Path, tmp_path: Path) -> None:
        """With its own authority; also those that it has tried to hand to the copy that is away."""
        with Served(root) as server, started_caddy(tmp_path, [free_port(), server.port]) as port:
            trusted = tmp_path / "caddy/pki/authorities/local/root.crt"
            eventually(lambda: trusted.is_file() and answers(port, trusted), "caddy answers")
            for _ in range(8):
                answer = https(port, trusted, "POST", "/v1/search", QUESTION)
                assert answer.status == 200
                assert json.loads(answer.content)["matches"]
                assert answer.headers["Strict-Transport-Security"]
            for path in HIDDEN:
                assert https(port, trusted, "GET", path).status == 404
            body = b" " * (Settings.model_fields["max_body"].default + 1)
            # Older ones, Debian's 2.6 among them, say 502 where they notice it only while they pass it on.
            assert https(port, trusted, "POST", "/v1/search", body).status in (413, 502)

    def test_it_ends_idle_connections_before_the_service_does(self) -> None:
        """Else a question might meet a connection that is just being closed."""
        (seconds,) = re.findall(r"^\s*keepalive (\d+)s", CADDYFILE.read_text("utf-8"), re.MULTILINE)
        assert int(seconds) < KEEP_ALIVE_S


@contextlib.contextmanager
def started_caddy(folder: Path, services: list[int]) -> Iterator[int]:
    """Caddy on a port of the loopback interface that is told; what it writes is in the folder."""
    assert CADDY is not None
    port, text = free_port(), CADDYFILE.read_text(encoding="utf-8")
    for old, new in (
        ("dualtower.example {", f"https://127.0.0.1:{port} {{\n\tbind 127.0.0.1"),
        ("127.0.0.1:8000 {", f"127.0.0.1:{services[0]} {{"),
        ("# to 127.0.0.1:8001", f"to 127.0.0.1:{services[1]}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    # No second listener, no change of the system's certificates.
    text = "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n" + text
    (folder / "Caddyfile").write_text(text)
    environ = os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [CADDY, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def certificate(folder: Path) -> None:
    """A key and a certificate for 127.0.0.1."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout privkey.pem"
    command += " -out fullchain.pem -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)


class Answer(NamedTuple):
    status: int
    headers: Message
    content: bytes


def https(
    port: int, trusted: Path, method: str, path: str, body: bytes | None = None, *, source: str = "127.0.0.1"
) -> Answer:
    """The answer to one request from a loopback address."""
    context = ssl.create_default_context(cafile=str(trusted))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=30, source_address=(source, 0), context=context
    )
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def answers(port: int, trusted: Path) -> bool:
    try:
        return https(port, trusted, "GET", "/health/ready").status == 200
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
