"""Do the tests of contract, hostile input, keys and secrets hold, with many more random requests than usual?

They are pytest's, of the project's tests; each group runs in a pytest of its own, against services with a tiny bundle
of the tests, and what is counted is what pytest writes as JUnit XML. schemathesis sends the examples: random requests
to each route, made from the running service's own document. A skipped test has proven nothing, so it counts as failed.

- contract: every route answers what its document says, and nothing that the document forbids is taken;
- hostile input: broken and oversized bodies, hostile texts and values, and any input at all;
- keys: no route but health and the page's files answers without one, and they are compared in constant time;
- secrets: no key, password or text of a request stands in logs, traces, /info, /metrics or errors.

Wanted: no failed test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT, Report, environment, option_parser, parse, run
from tests.conftest import TINY
from towers import open_bundle

QUICK_EXAMPLES = 10
TESTS = {
    "contract": ["test_contract.py"],
    "hostile input": ["test_hostile.py", "test_any_input.py"],
    "keys": [
        "test_keys.py",
        "test_middleware.py::TestKeys",
        "test_refusals.py::TestKey",
    ],
    "secrets": [
        "test_middleware.py::test_no_secret_is_told",
        "test_middleware.py::TestRequestIds",
        "test_settings.py::test_secrets_are_not_shown",
        "test_refusals.py::TestRefusals::test_the_input_is_not_repeated",
        "test_routes.py::TestHealth::test_info",
        "test_routes.py::test_log_lines_hold_no_texts",
        "test_telemetry.py",
    ],
}
COLUMNS = ("", "tests", "failed", "seconds")


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--examples", type=int, default=200, help="random requests to each route")
    options = parse(parser)
    if options.quick:
        options.examples = QUICK_EXAMPLES
    report = Report("proof_contract", __doc__, options, open_bundle(TINY), examples=options.examples)
    found = {name: tested(tests, examples=options.examples) for name, tests in TESTS.items()}
    report.table("Tests", COLUMNS, [row(name, one) for name, one in found.items()])
    report.finish({name: vars(one) for name, one in found.items()})
    if any(one.failed for one in found.values()):
        raise SystemExit(f"failed: {[name for name, one in found.items() if one.failed]}; see above")


@dataclass(frozen=True)
class Tested:
    """What pytest said about tests.

    Attributes:
        tests: How many there were.
        failed: How many did not pass, those included that were skipped.
        seconds: How long they took.
    """

    tests: int
    failed: int
    seconds: float


def tested(tests: Sequence[str], *, examples: int) -> Tested:
    """Run tests, named as paths from tests/service."""
    with tempfile.TemporaryDirectory(prefix="dualtower-") as folder:
        file = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={file}"]
        command += [str((ROOT / "tests" / "service").joinpath(test)) for test in tests]
        environ = environment() | {"DUALTOWER_EXAMPLES": str(examples)}
        done = subprocess.run(command, cwd=ROOT, env=environ, stdout=sys.stderr)
        if not file.is_file():
            raise SystemExit(f"pytest ended with {done.returncode} and wrote no result")
        found = read_junit(file.read_text(encoding="utf-8"))
    if done.returncode and not found.failed:
        raise SystemExit(f"pytest ended with {done.returncode}")
    return found


def read_junit(text: str) -> Tested:
    """The sums of all suites in JUnit's XML."""
    suites = list(ElementTree.fromstring(text).iter("testsuite"))

    def total(name: str) -> float:
        return sum(float(suite.get(name, 0)) for suite in suites)

    failed = total("failures") + total("errors") + total("skipped")
    return Tested(int(total("tests")), int(failed), total("time"))


def row(name: str, found: Tested) -> tuple[str, ...]:
    return (name, f"{found.tests:,}", f"{found.failed:,}", f"{found.seconds:,.0f}")


if __name__ == "__main__":
    run(main)
