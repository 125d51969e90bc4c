"""The demo: make a release from the example titles, serve it, ask real questions and show the answers.

Needs an environment in which dualtower is installed, and nothing else: no Redis, no network. `make demo` makes one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TITLES = "examples/titles.tsv"
READY_S = 60.0  # a small machine opens the bundle in about a second; a busy one takes its time
STOP_S = 40.0  # longer than the service gives requests to finish
LONGEST_LINE = 180  # characters of a request that are shown

# -P: the installed package is shown, not the source files of the directory that the demo is started in.
DUALTOWER = [sys.executable, "-P", "-m", "dualtower"]

SEARCHES: list[dict[str, Any]] = [
    {"query": "get rid of mice without killing them", "k": 3},
    {"query": "stop my subscription from renewing by itself", "k": 3, "filter": {"domain": "faq"}},
    {"query": "iphone15 手机套 摔不坏的", "k": 3},
    {"query": "电瓶车在楼里充电着火", "k": 3, "filter": {"domain": "news"}},
]
MATCHES: list[dict[str, Any]] = [
    {
        "query": "cover for velora x6",
        "titles": [{"id": "en-shop-007"}, {"id": "en-shop-006"}, {"text": "Phone case, fits the Velora X6"}],
    },
    {
        "query": "信用卡还款日能往后挪吗",
        "titles": [{"id": "zh-faq-068"}, {"id": "zh-faq-099"}, {"text": "信用卡还款日可以修改吗"}],
    },
]
SENTIMENTS = [
    "Absolutely love this kettle, boils in no time and looks great on the counter.",
    "The parcel was delivered on Tuesday at 10:40.",
    "Broke after two days.",
    "没有想象中的塑料感，拿在手里挺有分量，喜欢。",
    "包裹今天下午三点到达临江转运中心。",
    "用了三天就不开机了，联系卖家已读不回。",
]


class DemoError(Exception):
    """The demo cannot go on; the message is for a person."""


class Service:
    """A `dualtower serve` that listens at `url`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url
        # A proxy of the environment is for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request: GET, or POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})
        try:
            with self._opener.open(request, timeout=30) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as exc:
            raise DemoError(f"{path} answered {exc.code}: {exc.read().decode(errors='replace')}") from exc
        except (OSError, ValueError) as exc:
            raise DemoError(f"{path} gave no answer: {exc}") from exc


def main() -> int:
    """Run the demo; the exit status says whether all of it worked."""
    options = _options()
    log = options.work / "serve.log"
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _leave)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Chinese shows question marks
    try:
        run(options, log)
    except DemoError as exc:
        print(f"\nThe demo failed: {exc}", file=sys.stderr)
        _print_tail(log)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(options: argparse.Namespace, log: Path) -> None:
    """Make and publish a release, serve it, ask, and stop at once or with Ctrl-C."""
    options.work.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    chosen = ["--releases", _shown(options.work / "releases")]
    chosen += ["--bundle", _shown(options.bundle)] if options.bundle else []
    make_release(chosen)
    with serving([*chosen, "--port", str(_free_port(options.port))], log) as service:
        ask_all(service)
        if not options.once:
            _wait_for_ctrl_c(service)
    print("\nThe service has stopped.")


def make_release(chosen: list[str]) -> None:
    """Turn the example titles into the published release."""
    arguments = ["index", TITLES, *chosen, "--publish"]
    _show_command(arguments)
    status = subprocess.run([*DUALTOWER, *arguments], cwd=ROOT, env=_environment(), check=False).returncode
    if status:
        raise DemoError(f"dualtower index ended with status {status}; its message stands above")


@contextlib.contextmanager
def serving(options: list[str], log: Path) -> Iterator[Service]:
    """Run the service while the block lasts, and stop it gracefully whatever happens there."""
    arguments = ["serve", *options]
    _show_command(arguments)
    started = time.monotonic()
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the service.
        process = subprocess.Popen(
            [*DUALTOWER, *arguments],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        service = _when_ready(process, log)
        print(f"Ready at {service.url} after {time.monotonic() - started:.1f} s; its log is {_shown(log)}")
        yield service
    finally:
        status = _stop(process)
    if status:
        raise DemoError(f"the service was told to stop and ended with status {status}")


def ask_all(service: Service) -> None:
    """Send every request and print what comes back."""
    for body in SEARCHES:
        show_found(body, service.ask("/v1/search", body))
    for body in MATCHES:
        show_judged(body, service.ask("/v1/match", body))
    body = {"texts": SENTIMENTS}
    show_sentiments(body, service.ask("/v1/sentiment", body))


def show_found(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """Print the titles that a search found."""
    if len(answer["matches"]) != body["k"]:
        raise DemoError(f"expected {body['k']} titles for {body['query']!r}, found {answer['matches']}")
    rows = [(*_judgement(item), item["id"], item["title"]) for item in answer["matches"]]
    _show("/v1/search", body, ("score", "cosine", "match", "id", "title"), rows, answer)


def show_judged(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """Print how well each title matches."""
    title_of = _titles()
    rows = []
    for title, item in zip(body["titles"], answer["matches"], strict=True):
        if "error" in item:
            raise DemoError(f"{title} was answered with {item['error']}")
        id_ = title.get("id", "")
        rows.append((*_judgement(item), id_, title.get("text") or title_of[id_]))
    _show("/v1/match", body, ("score", "cosine", "match", "id", "title"), rows, answer)


def show_sentiments(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """Print what each text says."""
    rows = [
        (
            f"{item['label']:+d}" if item["label"] else "0",
            item["name"],
            f"{max(item['probabilities'].values()):.3f}",
            text,
        )
        for text, item in zip(body["texts"], answer["sentiments"], strict=True)
    ]
    _show("/v1/sentiment", body, ("label", "name", "probability", "text"), rows, answer)


# The service as a process.


def _when_ready(process: subprocess.Popen[bytes], log: Path) -> Service:
    """Wait until the service says that it is ready."""
    problem = "it has not said where it listens"
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the service did not start, it ended with status {process.returncode}")
        if url := _listens_at(log):
            service = Service(process, url)
            try:
                service.ask("/health/ready")
                return service
            except DemoError as exc:
                problem = str(exc)
        time.sleep(0.1)
    raise DemoError(f"the service was not ready after {READY_S:.0f} s: {problem}")


def _listens_at(log: Path) -> str | None:
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # a warning of a library, or a line that is being written
            entry = json.loads(line)
            if entry["message"] == "listening":
                return str(entry["url"])
    return None


def _wait_for_ctrl_c(service: Service) -> None:
    try:
        print(f"\nServing at {service.url} until Ctrl-C; {service.url}/docs lists the routes.", flush=True)
        status = service.process.wait()
    except KeyboardInterrupt:
        return
    raise DemoError(f"the service ended by itself, with status {status}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    """Let the service finish its requests; end it by force if that takes too long or Ctrl-C comes again."""
    process.terminate()
    try:
        return process.wait(timeout=STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        return process.wait()


def _free_port(wanted: int) -> int:
    """The wanted port, or 0, with which the service takes a free one."""
    try:
        with socket.create_server(("127.0.0.1", wanted)):
            return wanted
    except OSError:
        print(f"Port {wanted} is taken.")
        return 0


def _titles() -> dict[str, str]:
    """Id to title of the example titles."""
    lines = (ROOT / TITLES).read_text(encoding="utf-8").splitlines()[1:]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def _environment() -> dict[str, str]:
    """This environment without settings of dualtower: what the demo does is what its options say."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DUALTOWER_")}


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)


# What people see.


def _show(
    path: str,
    body: dict[str, Any],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    answer: dict[str, Any],
) -> None:
    print(f"\nPOST {path}  {_cut(json.dumps(body, ensure_ascii=False))}")
    table = [columns, *rows]
    widths = [max(_width(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        print("   ", "  ".join(_padded(*cell) for cell in zip(row, widths, strict=True)).rstrip())
    print("   ", ", ".join(f"{stage} {spent:.1f} ms" for stage, spent in answer["milliseconds"].items()))


def _judgement(item: dict[str, Any]) -> tuple[str, str, str]:
    return f"{item['score']:.3f}", f"{item['cosine']:.3f}", "yes" if item["match"] else "no"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} …"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: Chinese characters take two, accents of their own none."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _shown(path: Path) -> str:
    """A path as one would type it in the project's directory."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _show_command(arguments: list[str]) -> None:
    print("\n$ dualtower", *arguments, flush=True)


def _print_tail(log: Path) -> None:
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print(f"The end of {_shown(log)}:", *lines[-15:], sep="\n    ", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the answers")
    parser.add_argument(
        "--bundle", type=Path, help="a bundle's directory; default: the one that is installed"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="default: 8000, or a free one if that is taken"
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".demo", help="where releases and the log go")
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.bundle = options.bundle and options.bundle.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
