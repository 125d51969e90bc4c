from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.query_table import NEIGHBOURS, QueryTable, table_bytes
from service.query_vectors import query_id_of

DIM = 4


def vector(number: int) -> np.ndarray:
    return np.full(DIM, number, np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queries"


def test_what_one_keeps_another_finds(path: Path) -> None:
    """Two tables over one file are one; the file is as large as was said."""
    one, two = (QueryTable(path, size=100, dim=DIM) for _ in range(2))
    one.put(query_id_of("a"), vector(1))
    found = two.get(query_id_of("a"))
    assert found is not None
    assert np.array_equal(found, vector(1))
    assert two.get(query_id_of("b")) is None
    assert path.stat().st_size == table_bytes(100, DIM)


def test_a_full_table_displaces(path: Path) -> None:
    """Never more than there is room for; what is found is always the right one, and the latest is there."""
    table = QueryTable(path, size=NEIGHBOURS, dim=DIM)
    for number in range(100):
        table.put(query_id_of(str(number)), vector(number))
        found = table.get(query_id_of(str(number)))
        assert found is not None
        assert found[0] == number
    kept = {number: table.get(query_id_of(str(number))) for number in range(100)}
    assert 0 < sum(found is not None for found in kept.values()) <= NEIGHBOURS
    assert all(found is None or found[0] == number for number, found in kept.items())


def test_a_half_written_vector_is_not_found(path: Path) -> None:
    """Whichever byte of the slot another process has just changed; an empty slot is nobody's."""
    table = QueryTable(path, size=1, dim=DIM)
    query_id = query_id_of("a")
    assert table.get("0" * 64) is None
    for _ in range(2):
        table.put(query_id, vector(1))
    data = path.read_bytes()
    slot = len(data) // NEIGHBOURS
    start = next(i for i in range(0, len(data), slot) if data[i : i + 32] == bytes.fromhex(query_id))
    for byte in range(start, start + slot):
        torn = bytearray(data)
        torn[byte] ^= 1
        path.write_bytes(torn)
        assert QueryTable(path, size=1, dim=DIM).get(query_id) is None
