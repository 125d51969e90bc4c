from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from service.cores import cores
from service.logs import JsonFormatter
from service.settings import Settings, load_settings, settings_table, unknown_variables
from towers.errors import InputError


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given on the command line comes from the environment, else it is the default."""
    monkeypatch.setenv("DUALTOWER_PORT", "9000")
    monkeypatch.setenv("DUALTOWER_HOST", "0.0.0.0")
    settings = load_settings(port=9001, host=None)
    assert (settings.port, settings.host, settings.releases) == (9001, "0.0.0.0", Path("releases"))


@pytest.mark.parametrize(
    ("name", "value"), [("port", "99999"), ("workers", "0"), ("max_titles", "many"), ("log_level", "LOUD")]
)
def test_a_bad_value_names_the_setting_and_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """One line for a person, not a validation report."""
    monkeypatch.setenv(f"DUALTOWER_{name.upper()}", value)
    with pytest.raises(InputError, match=rf"setting {name} \(variable DUALTOWER_{name.upper()}\): "):
        load_settings()


def test_secrets_are_not_shown() -> None:
    """Neither the key nor the password in the Redis URL; what is shown can be written as JSON."""
    settings = load_settings(api_key="open sesame", redis="redis://user:hush@redis:6379/0")
    shown = json.dumps(settings.shown()) + repr(settings.api_key)
    assert "sesame" not in shown
    assert "hush" not in shown
    assert settings.shown()["redis"] == "redis://***@redis:6379/0"
    assert settings.shown()["api_key"] == "set"


def test_misspelt_variables_are_found() -> None:
    """A variable that does nothing is worse than none."""
    environ = {"DUALTOWER_PORT": "1", "DUALTOWER_RELEASE": "x", "PATH": "y"}
    assert unknown_variables(environ) == ["DUALTOWER_RELEASE"]


def test_every_setting_is_documented() -> None:
    """The table has a row for each, with a meaning; the variables in it are the ones that are read."""
    rows = settings_table()
    assert [row[0] for row in rows] == list(Settings.model_fields)
    assert all(meaning and variable == f"DUALTOWER_{name.upper()}" for name, variable, _, meaning in rows)
    assert ("port", "DUALTOWER_PORT", "8000", "port to listen on; 0 takes a free one and logs it") in rows
    assert unknown_variables({variable: "" for _, variable, _, _ in rows}) == []


def test_a_log_line_is_one_json_object() -> None:
    """With what was given as extra, and with the traceback inside of it."""
    record = logging.makeLogRecord(
        {"msg": "two\nlines", "levelname": "INFO", "name": "service", "status": 200}
    )
    try:
        raise ValueError("why")
    except ValueError as exc:
        record.exc_info = (type(exc), exc, exc.__traceback__)
    text = JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert line["message"] == "two\nlines"
    assert line["status"] == 200
    assert "ValueError: why" in line["traceback"]
    assert line.keys() == {"time", "level", "logger", "message", "status", "traceback"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", 3), ("150000 100000", 2), ("50000 100000", 1), ("?", 3), (None, 3)],
)
def test_a_container_may_have_fewer_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, expected: int
) -> None:
    """Than the machine it is on; a part of one counts as one."""
    monkeypatch.setattr("service.cores.available_cores", lambda: 3)
    limit = tmp_path / "cpu.max"
    if content is not None:
        limit.write_text(content)
    assert cores(limit) == expected


@pytest.mark.parametrize(("available", "most", "processes"), [(4, 1, 1), (4, 3, 3), (2, 8, 2), (1, 8, 1)])
def test_there_are_no_more_processes_than_cores_by_default(
    monkeypatch: pytest.MonkeyPatch, available: int, most: int, processes: int
) -> None:
    """Nor more than the service's own bound; a setting may ask for any number."""
    monkeypatch.setattr("service.settings.cores", lambda: available)
    monkeypatch.setattr("service.settings.MOST_BY_DEFAULT", most)
    assert load_settings().processes == processes
    assert load_settings(processes=9).processes == 9


@pytest.mark.parametrize(("processes", "workers"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_workers_are_the_cores_divided_among_processes(
    monkeypatch: pytest.MonkeyPatch, processes: int, workers: int
) -> None:
    """Unless the setting says otherwise."""
    monkeypatch.setattr("service.settings.cores", lambda: 4)
    assert load_settings(processes=processes).workers == workers
    assert load_settings(processes=processes, workers=7).workers == 7
