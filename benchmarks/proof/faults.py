"""How many requests fail while releases are published, Redis dies, connections run out, and the service is killed?

Two wrk keep a service of the 19,406 icecat products busy over the loopback interface, one with searches and one with
matches of 100 ids, half of them for new queries. In the middle of the load something happens:

- ten releases are published, each as soon as the one before is in use;
- Redis, which has the title vectors, is killed with SIGKILL, is back five seconds later, empty, and then the release
  is written to it again;
- more clients come than may wait: 64 connections more for each kind of request;
- idle connections take all files that the process may open, for five seconds;
- the service is killed with SIGKILL and started again, once behind an nginx that it shares with a second one, and
  once behind an nginx alone.

Failed is a request without an answer, or with another status than 200; 429, with which the service asks clients to
come again, is counted by itself. Beside the load a probe searches every 20 milliseconds, each time on a new
connection: its longest time from one good answer to the next says for how long a newcomer was not served. wrk asks
again at once when it is refused, so that the failures while nothing listens say more about wrk than that time does.

Wanted: no failed request for the publishes, for Redis, and where a second service is there.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import Report, opened, option_parser, parse, run
from benchmarks.proof.load import numbers
from benchmarks.proof.proxy import Proxy
from benchmarks.proof.services import Service, make_release, wait_until
from benchmarks.proof.trial import Endured, Trial
from index.releases import Releases
from tests.redis_server import REDIS_SERVER, RedisServer

MORE_CLIENTS = 64  # of each kind: with two kinds more than the queue's default of 64 takes
MORE_FILES = 30


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--connections", type=int, default=4, help="of each of the two kinds")
    parser.add_argument("--only", choices=FAULTS, help="try one fault; writes no file")
    options = parse(parser)
    if options.only:
        options.results = None
    if REDIS_SERVER is None:
        raise SystemExit("redis-server is missing; on Debian: apt-get install redis-server")
    asked = {"connections of each kind": options.connections}
    report = Report("proof_faults", __doc__, options, opened(options), **asked)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder:
        trial = Trial(options, Path(folder))
        chosen = [options.only] if options.only else FAULTS
        found = {name: FAULTS[name](trial) for name in chosen}
    report.table("Requests while something happens", COLUMNS, [row(name, one) for name, one in found.items()])
    report.finish({name: measured(one) for name, one in found.items()})


def publishes(trial: Trial) -> Endured:
    """Ten releases in a row."""
    releases = Releases(trial.root)
    releases.publish(trial.release)
    with Service(trial.options, trial.root, release_poll_s=0.1) as service:

        def publish_all() -> None:
            for version in trial.later:
                releases.publish(version)
                wait_until(lambda version=version: service.release == version, f"release {version} is in use")

        return trial.under_load(service.port, publish_all)


def redis_dies(trial: Trial) -> Endured:
    """Redis is killed and comes back empty."""
    with RedisServer() as redis:
        make_release(trial.options, trial.root, trial.rows, redis=redis.url)
        with Service(trial.options, trial.root, redis=redis.url) as service:

            def from_redis() -> bool:
                return service.title_vectors == "redis"

            def die_and_return() -> None:
                redis.stop()
                time.sleep(trial.pause_s)
                redis.start()
                make_release(trial.options, trial.root, trial.rows, redis=redis.url)
                wait_until(from_redis, "title vectors come from Redis again")

            wait_until(from_redis, "title vectors come from Redis")
            return trial.under_load(service.port, die_and_return)


def too_many_clients(trial: Trial) -> Endured:
    """More requests than may wait."""
    with Service(trial.options, trial.root) as service:
        return trial.under_load(service.port, lambda: time.sleep(trial.pause_s), more=MORE_CLIENTS)


def no_more_files(trial: Trial) -> Endured:
    """Idle connections take every file that the service may open."""
    with Service(trial.options, trial.root) as service:

        def fill() -> None:
            with service.few_files(MORE_FILES), contextlib.ExitStack() as idle:
                for _ in range(2 * MORE_FILES):
                    connection = socket.create_connection(("127.0.0.1", service.port))
                    idle.enter_context(contextlib.closing(connection))
                time.sleep(trial.pause_s)

        return trial.under_load(service.port, fill)


def killed_beside_another(trial: Trial) -> Endured:
    """One of two services behind a proxy is killed and comes back."""
    with Service(trial.options, trial.root) as one, Service(trial.options, trial.root) as other:
        return killed(trial, one, [one.port, other.port])


def killed_alone(trial: Trial) -> Endured:
    """The one service behind a proxy is killed and comes back."""
    with Service(trial.options, trial.root) as service:
        return killed(trial, service, [service.port])


def killed(trial: Trial, service: Service, ports: list[int]) -> Endured:
    def kill_and_start() -> None:
        service.kill()
        service.start()

    with tempfile.TemporaryDirectory(dir=trial.folder) as folder, Proxy(Path(folder), ports) as proxy:
        return trial.under_load(proxy.port, kill_and_start)


FAULTS: dict[str, Callable[[Trial], Endured]] = {
    "ten releases published": publishes,
    "Redis killed, back empty, filled": redis_dies,
    "128 clients more": too_many_clients,
    "no file left to open": no_more_files,
    "killed and started, one of two": killed_beside_another,
    "killed and started, alone": killed_alone,
}

COLUMNS = (
    "", "seconds", "requests", "failed", "refused (429)", "p99 ms", "longest ms", "probes failed", "without answer s"
)  # fmt: skip


def row(name: str, found: Endured) -> tuple[str, ...]:
    load = found.load
    counts = (f"{count:,}" for count in (load.requests, load.failed, load.refused))
    latencies = (f"{load.ms(share):,.0f}" for share in (99, 100))
    probes = f"{found.probes_failed:,} of {found.probes:,}"
    return (name, f"{load.seconds:.0f}", *counts, *latencies, probes, f"{found.gap_s:.2f}")


def measured(found: Endured) -> dict[str, object]:
    probe = {"asked": found.probes, "failed": found.probes_failed, "longest_without_answer_s": found.gap_s}
    return {**numbers(found.load), "probe": probe}


if __name__ == "__main__":
    run(main)
