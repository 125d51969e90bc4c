"""Log lines for machines: one JSON object per line on stderr. No texts and no keys, only facts about them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from service.request_ids import request_id
from service.telemetry import trace_id

# What every LogRecord has; anything else came in through `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger and message, the request that it belongs to, and whatever was given as `extra`."""

    def __init__(self, place: int | None = None) -> None:
        super().__init__()
        self._place = {} if place is None else {"place": place}

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | self._place
        if (asked := request_id.get()) is not None:
            line["request_id"] = asked
        if (trace := trace_id()) is not None:
            line["trace_id"] = trace
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str, *, place: int | None = None) -> None:
    """Send all log lines of the process to stderr as JSON; of several processes, each names its place."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(place))
    logging.basicConfig(level=level, handlers=[handler], force=True)
