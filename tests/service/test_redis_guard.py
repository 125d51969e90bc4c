from __future__ import annotations

import logging
import threading

import pytest

from service.metrics import Metrics
from service.redis_guard import FORGET_S, LONGEST_PAUSE_S, RedisGuard
from towers.errors import RedisUnavailableError


class Redis:
    """A server that counts how often it is asked, and can be told not to answer probes, or calls."""

    def __init__(self) -> None:
        self.probes, self.calls = 0, 0
        self.answers_probes = self.answers_calls = True

    def ping(self) -> None:
        self.probes += 1
        if not self.answers_probes:
            raise RedisUnavailableError("connection refused")

    def get(self) -> str:
        self.calls += 1
        if not self.answers_calls:
            raise RedisUnavailableError("timeout")
        return "value"


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(redis: Redis, clock: Clock) -> RedisGuard:
    guard = RedisGuard(redis.ping, Metrics(), probe_s=1, now=clock)
    guard.probe()
    return guard


def test_calls_go_through_while_redis_answers(guard: RedisGuard, redis: Redis) -> None:
    """The guard is invisible when all is well."""
    assert guard.up
    assert guard.ask(redis.get) == "value"


def test_before_the_first_probe_nothing_is_asked(redis: Redis) -> None:
    """A service that starts without its Redis does not let the first requests find that out."""
    guard = RedisGuard(redis.ping, Metrics(), probe_s=1)
    assert not guard.up
    assert guard.ask(redis.get) is None
    assert redis.calls == 0


def test_a_dead_redis_costs_one_call_and_one_log_line(
    guard: RedisGuard, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first failure nobody waits, and nobody writes the log full."""
    redis.answers_calls = redis.answers_probes = False
    with caplog.at_level(logging.INFO):
        assert [guard.ask(redis.get) for _ in range(100)] == [None] * 100
        for _ in range(10):
            guard.probe()
    assert redis.calls == 1
    assert not guard.up
    assert [record.message for record in caplog.records] == ["redis down, going on without it"]


def test_it_is_used_again_when_it_is_back(
    guard: RedisGuard, redis: Redis, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The next probe that succeeds opens the way."""
    redis.answers_calls = redis.answers_probes = False
    guard.ask(redis.get)
    clock.time += 2
    guard.probe()
    redis.answers_calls = redis.answers_probes = True
    caplog.clear()
    with caplog.at_level(logging.INFO):
        guard.probe()
    assert guard.up
    assert guard.ask(redis.get) == "value"
    assert [record.message for record in caplog.records] == ["redis answers"]


def test_probes_notice_a_death_without_any_request(guard: RedisGuard, redis: Redis) -> None:
    """Readiness is true also when nobody asks."""
    redis.answers_probes = False
    guard.probe()
    assert not guard.up
    assert redis.calls == 0


def test_a_server_that_only_answers_probes_is_tried_ever_less_often(
    guard: RedisGuard, redis: Redis, clock: Clock
) -> None:
    """Each failure doubles the pause, up to a bound: an overloaded Redis costs next to no latency."""
    redis.answers_calls = False
    for _ in range(600):
        clock.time += 1
        guard.probe()
        guard.ask(redis.get)
    assert redis.calls < 600 / LONGEST_PAUSE_S + 8
    redis.answers_calls = True
    for _ in range(int(LONGEST_PAUSE_S) + 2):
        clock.time += 1
        guard.probe()
    assert guard.ask(redis.get) == "value"
    clock.time += FORGET_S
    redis.answers_calls = False  # a much later failure starts from the short pause again
    guard.ask(redis.get)
    clock.time += 1.5
    guard.probe()
    assert guard.up


def test_calls_that_fail_together_count_as_one_failure(guard: RedisGuard, redis: Redis, clock: Clock) -> None:
    """Sixteen workers wait for the same dead server; the pause after that is that of one failure."""
    together = threading.Barrier(16)

    def fail() -> None:
        together.wait()
        raise RedisUnavailableError("timeout")

    threads = [threading.Thread(target=guard.ask, args=(fail,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not guard.up
    clock.time += 1
    guard.probe()
    assert guard.up


def test_other_errors_are_not_swallowed(guard: RedisGuard) -> None:
    """A bug in our own code is not an unavailable Redis."""
    with pytest.raises(ZeroDivisionError):
        guard.ask(lambda: 1 // 0)
    assert guard.up


@pytest.mark.parametrize("answers", [True, False])
def test_who_sees_the_state_finds_the_gauge_already_there(redis: Redis, clock: Clock, answers: bool) -> None:
    """Ready and metrics never contradict each other: the gauge changes before the state that it tells of."""
    metrics, seen = Metrics(), []

    class Watched(RedisGuard):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "problem" and value != "not asked yet":
                seen.append((value is None, metrics.redis_up._value.get()))
            super().__setattr__(name, value)

    guard = Watched(redis.ping, metrics, probe_s=1, now=clock)
    guard.probe()
    redis.answers_probes = answers
    guard.probe()
    assert seen == [(True, 1.0), (answers, float(answers))]
