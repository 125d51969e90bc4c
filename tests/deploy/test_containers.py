"""The compose file and the manifests for Kubernetes name what is there: variables, files, routes, ports, keys."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from service.keys import parse_lines
from service.settings import PREFIX, Settings
from tests.service.served import Served

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VARIABLES = {PREFIX + name.upper() for name in Settings.model_fields}


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
