"""One of several processes that answer: what it does from its start to its end."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from service import logs, shared_metrics, telemetry
from service.settings import Settings
from towers.errors import DualtowerError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a child stands among the others.

    Attributes:
        number: From 0; the process that takes a dead one's place has its number.
        directory: Where the children keep what they share.
        parent: The parent's process number.
        again: Whether there was another process in this place before.
    """

    number: int
    directory: Path
    parent: int
    again: bool


def run_child(settings: Settings, place: Place, channel: socket.socket) -> None:
    """Serve what comes through the channel until told to stop."""
    try:
        _serve(settings, place, channel)
    finally:
        if os.getppid() != place.parent:  # which would have cleared up
            shutil.rmtree(place.directory, ignore_errors=True)


def _serve(settings: Settings, place: Place, channel: socket.socket) -> None:
    os.setsid()  # Ctrl-C in a terminal is for the parent, which passes it on
    logs.configure(settings.log_level, place=place.number)
    shared_metrics.keep_in(place.directory, place.number)
    telemetry.tell_apart(place.number)
    # Only now: the metrics of these modules belong into the directory.
    from service.compose import open_state
    from service.metrics import Metrics
    from service.server import run

    metrics = Metrics((place.directory, place.parent))
    if place.again:
        metrics.restarts.inc()
    try:
        state = open_state(settings, metrics=metrics, common=place.directory)
    except DualtowerError as exc:
        log.error("cannot start", extra={"reason": str(exc)})
        sys.exit(1)
    run(state, channel)
