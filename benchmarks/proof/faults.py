"""How many requests fail while releases are published, Redis dies, connections run out, and the service is killed?

The service has its default settings: a process for each core, and a parent that hands them connections. Two wrk keep
it, with a release of the 19,406 icecat products, busy over the loopback interface, one with searches and one with
matches of 100 ids, half of them for new queries. In the middle of the load something happens:

- ten releases are published, each as soon as all processes use the one before;
- Redis, which has the title vectors, is killed with SIGKILL, is back five seconds later, empty, and then the release
  is written to it again, until all processes read from it;
- more clients come than may wait: 64 connections more for each kind of request and each process;
- idle connections take, for five seconds, all places of a service whose processes may open 256 files each;
- one of the processes is killed with SIGKILL, and another one takes its place;
- all of them, the parent too, are killed with SIGKILL and the service is started again, once behind an nginx that it
  shares with a second service, and once behind an nginx alone. nginx is configured as in deploy/proxy/nginx.conf.

Failed is a request without an answer, or with another status than 200; 429, with which the service asks clients to
come again, is counted by itself. Beside the load a probe searches every 20 milliseconds, each time on a new
connection: its longest time from one good answer to the next says for how long a newcomer was not served. wrk asks
again at once when it is refused, so that the failures while nothing listens say more about wrk than that time does.
A process that is killed takes the requests that it was answering with it: one on each of its connections.

Wanted: no failed request for the publishes, for Redis, for files and where a second service is there; for a killed
process no more than one for each connection.
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
from benchmarks.proof.services import Service, default_processes, make_release, wait_until
from benchmarks.proof.trial import Endured, Trial
from index.releases import Releases
from service.parent import RESERVE
from tests.redis_server import REDIS_SERVER, RedisServer

MORE_CLIENTS = (
    64  # of each kind and for each process: with two kinds more than its queue's default of 64 takes
)
FILES = 256  # guess: far more than a process opens for itself, and few enough to take them all


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--connections", type=int, default=4, help="of each of the two kinds")
    parser.add_argument("--only", choices=FAULTS, help="try one fault; writes no file")
    options = parse(parser)
    if options.only:
        options.results = None
    if REDIS_SERVER is None:
        raise SystemExit("redis-server is missing; on Debian: apt-get install redis-server")
    asked = {"processes": default_processes(), "connections of each kind": options.connections}
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
                wait_until(
                    lambda version=version: service.releases() == [version], f"all use release {version}"
                )

        return trial.under_load(service.port, publish_all)


def redis_dies(trial: Trial) -> Endured:
    """Redis is killed and comes back empty."""
    with RedisServer() as redis:
        make_release(trial.options, trial.root, trial.rows, redis=redis.url)
        with Service(trial.options, trial.root, redis=redis.url) as service:

            def from_redis() -> bool:
                return service.title_vectors() == {"redis"}

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
        more = MORE_CLIENTS * service.processes
        return trial.under_load(service.port, lambda: time.sleep(trial.pause_s), more=more)


def no_more_files(trial: Trial) -> Endured:
    """Idle connections take every place, and more of them wait."""
    with Service(trial.options, trial.root, files=FILES) as service:
        clients = FILES * service.processes

        def taken() -> bool:
            # Some are kept for what is not a connection.
            return all(process.num_fds() >= FILES - RESERVE for process in service.answering())

        def fill() -> None:
            with contextlib.ExitStack() as idle:
                for _ in range(clients):
                    connection = socket.create_connection(("127.0.0.1", service.port))
                    idle.enter_context(contextlib.closing(connection))
                wait_until(taken, f"{clients} connections take the places of {service.processes} processes")
                time.sleep(trial.pause_s)

        return trial.under_load(service.port, fill)


def one_process_killed(trial: Trial) -> Endured:
    """One of several processes is killed and replaced."""
    with Service(trial.options, trial.root, processes=max(2, default_processes())) as service:
        return trial.under_load(service.port, service.kill_one)


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
    "128 clients more for each process": too_many_clients,
    "no file left to open": no_more_files,
    "one process killed and replaced": one_process_killed,
    "all killed and started, one service of two": killed_beside_another,
    "all killed and started, alone": killed_alone,
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
