from __future__ import annotations

import hashlib
import hmac
import logging
import os
from pathlib import Path

import pytest

from service.keys import Keys, new_key, parse_lines
from service.settings import load_settings
from towers.errors import InputError


def test_a_made_key_is_known_by_its_line() -> None:
    """The line holds the SHA-256 of the key, not the key; two keys of one name differ."""
    key, line = new_key("shop")
    keys = Keys(load_settings(api_keys=line))
    assert keys.name_of(key.encode()) == "shop"
    assert key not in line
    assert line == f"shop:{hashlib.sha256(key.encode()).hexdigest()}"
    assert new_key("shop")[0] != key
    assert len(key) > 40


def test_all_ways_of_giving_keys_go_together(tmp_path: Path) -> None:
    """The single one in clear, those of the variable and those of the file; an unknown one has no name."""
    (variable, first), (filed, second), (third, line) = new_key("shop"), new_key("batch"), new_key("shop")
    file = tmp_path / "keys"
    file.write_text(f"# for the night job\n{second}\n\n")
    keys = Keys(load_settings(api_key="open sesame", api_keys=f"{first},{line}", api_keys_file=file))
    names = [keys.name_of(key.encode()) for key in ("open sesame", variable, third, filed, "other", "")]
    assert names == ["default", "shop", "shop", "batch", None, None]
    assert keys.names == ["batch", "default", "shop"]


def test_without_settings_no_key_is_wanted_but_an_empty_file_locks(tmp_path: Path) -> None:
    """A file that somebody emptied must not open the service."""
    assert not Keys(load_settings()).wanted
    assert not Keys(load_settings(api_keys="")).wanted
    file = tmp_path / "keys"
    file.touch()
    assert Keys(load_settings(api_keys_file=file)).wanted


def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key is exchanged without a restart; a slip of the editor locks nobody out and shows as a problem."""
    caplog.set_level(logging.INFO)
    (old, before), (new, after) = new_key("shop"), new_key("shop")
    file = tmp_path / "keys"
    file.write_text(before)
    keys = Keys(load_settings(api_keys_file=file))
    file.write_text(f"{before}\n{after}\n")
    keys.look()
    assert [keys.name_of(key.encode()) for key in (old, new)] == ["shop", "shop"]
    file.write_text(f"{after}\nshop={new}")
    keys.look()
    keys.look()
    assert keys.name_of(old.encode()) == "shop"
    assert "key 2 is not NAME:SHA256" in (keys.problem or "")
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    file.write_text(after)
    keys.look()
    assert keys.problem is None
    assert keys.name_of(old.encode()) is None
    os.remove(file)
    keys.look()
    assert keys.name_of(new.encode()) == "shop"
    assert new not in caplog.text + str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    "line", ["shop", "shop:abc", "sh op:" + "0" * 64, ":" + "0" * 64, "shop:" + "G" * 64]
)
def test_a_line_that_is_none_is_refused_without_being_quoted(line: str) -> None:
    """People paste the key itself by mistake; the message says how to make a line."""
    with pytest.raises(InputError, match="dualtower key NAME") as refusal:
        parse_lines(["", line])
    assert line not in str(refusal.value)


def test_a_name_is_fit_for_logs_and_metrics() -> None:
    with pytest.raises(InputError, match="letters, digits"):
        new_key('shop"} 1')


def test_a_key_is_compared_with_all_keys_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever fits, and if none does: as many comparisons, each of them hmac's, of hashes and not of keys."""
    keys, lines = zip(*(new_key(name) for name in ("shop", "batch", "night")), strict=True)
    compared: list[bytes] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counting)
    known = Keys(load_settings(api_keys=",".join(lines)))
    for key, name in zip((*keys, "dt-unknown", ""), ("shop", "batch", "night", None, None), strict=True):
        compared.clear()
        assert known.name_of(key.encode()) == name
        assert compared == [hashlib.sha256(key.encode()).digest()] * 3
