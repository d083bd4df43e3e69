"""Sorting through a file without a name: the same as sorting in memory, and nothing left behind."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.importers.sorted_spool import SortedSpool


@given(keys=st.lists(st.integers(-5, 5)), held_bytes=st.sampled_from([1, 900, 1 << 20]))
def test_items_come_out_by_key_and_equal_ones_as_they_came(keys: list[int], held_bytes: int) -> None:
    spool = SortedSpool(held_bytes=held_bytes)
    for place, key in enumerate(keys):
        spool.add(key, (place, b"\x00\xff", "é", None, [1, {"a": 2}]))
    found = [item[0] for item in spool]
    assert found == sorted(range(len(keys)), key=lambda place: keys[place])
    assert spool.fraction() == (1.0 if keys else 0.0)


def test_the_temporary_file_has_no_name_while_it_is_in_use(tmp_path: Path) -> None:
    spool = SortedSpool(tmp_path, held_bytes=10_000)
    numbers = list(range(5_000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        spool.add(number, number, 100)
    assert list(tmp_path.iterdir()) == []
    assert list(spool) == sorted(numbers)


def test_what_lies_on_the_disk_is_encrypted(tmp_path: Path) -> None:
    spool = SortedSpool(tmp_path, held_bytes=1_000)
    for number in range(1_000):
        spool.add(number, "a word that no policy has seen", 100)
    places = {os.path.realpath(place): place for place in Path("/proc/self/fd").iterdir()}
    (data,) = (place.read_bytes() for real, place in places.items() if real.startswith(f"{tmp_path}/"))
    assert len(data) > 1_000 * 20
    assert b"no policy" not in data
    assert len(list(spool)) == 1_000


def test_a_folder_that_can_not_be_written_gives_one_line(tmp_path: Path) -> None:
    spool = SortedSpool(tmp_path / "nowhere", held_bytes=1)
    with pytest.raises(BadInput, match="no room to sort the requests"):
        spool.add(1, 1)
