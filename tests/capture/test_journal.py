"""The journal's frames as byte scripts, and their law: whatever is cut or damaged, the rest reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.journal import HEADER_BYTES, MAGIC, PAYLOAD_LIMIT_BYTES, Kind, frame_parts, read_frames
from capture.row_frames import columns_of, readable_columns, row_frame

PAYLOADS = st.lists(st.one_of(st.binary(max_size=40), st.just(MAGIC * 5)), min_size=1, max_size=6)


def frame(payload: bytes, kind: int = Kind.END) -> bytes:
    return b"".join(frame_parts(kind, [payload]))


def payloads_in(data: bytes, **how: bool) -> list[bytes]:
    return [bytes(found.payload) for found in read_frames(data, **how)]


def test_a_frame_is_its_magic_kind_length_checksum_and_payload() -> None:
    assert frame(b"abc", kind=1) == bytes.fromhex("b51f 01 00 03000000 ba5d0552") + b"abc"
    assert HEADER_BYTES == 12


def test_a_payload_may_come_in_parts_and_none_is_copied() -> None:
    large = bytes(100)
    header, *parts = frame_parts(Kind.END, [b"ab", large])
    assert parts[1] is large
    assert payloads_in(b"".join([header, *parts])) == [b"ab" + large]


@given(PAYLOADS, st.data())
def test_any_prefix_reads_to_its_last_whole_frame(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(payload) for payload in payloads]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    fit = 0
    while fit < len(frames) and len(b"".join(frames[: fit + 1])) <= cut:
        fit += 1
    for how in (False, True):
        assert payloads_in(whole[:cut], more_may_come=how) == payloads[:fit]


@given(PAYLOADS, st.data())
def test_one_damaged_frame_costs_itself_and_no_other(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(payload) for payload in payloads]
    hit = data.draw(st.integers(0, len(frames) - 1))
    at = data.draw(st.integers(0, len(frames[hit]) - 1))
    flipped = bytearray(frames[hit])
    flipped[at] ^= data.draw(st.integers(1, 255))
    found = payloads_in(b"".join([*frames[:hit], bytes(flipped), *frames[hit + 1 :]]))
    assert found == payloads[:hit] + payloads[hit + 1 :]


@given(PAYLOADS, st.binary(max_size=30))
def test_rubbish_between_frames_is_passed_over(payloads: list[bytes], rubbish: bytes) -> None:
    assert payloads_in(rubbish + rubbish.join(frame(payload) for payload in payloads)) == payloads


@given(st.binary(max_size=200))
def test_any_bytes_at_all_can_be_read(data: bytes) -> None:
    for how in (False, True):
        list(readable_columns(read_frames(data, more_may_come=how)))
        assert payloads_in(memoryview(data).toreadonly().tobytes(), more_may_come=how) == [
            bytes(found.payload) for found in read_frames(memoryview(data), more_may_come=how)
        ]


def test_a_view_is_searched_like_bytes_even_where_the_magic_straddles_a_piece() -> None:
    rubbish = bytes((1 << 16) - 2)
    data = MAGIC + rubbish + frame(b"found")
    assert [bytes(found.payload) for found in read_frames(memoryview(data))] == [b"found"]


def test_a_length_beyond_the_limit_is_damage_and_is_not_waited_for() -> None:
    lying = bytearray(frame(b"abc"))
    lying[4:8] = (PAYLOAD_LIMIT_BYTES + 1).to_bytes(4, "little")
    assert payloads_in(bytes(lying) + frame(b"next"), more_may_come=True) == [b"next"]
    with pytest.raises(ValueError, match="a frame of"):
        frame_parts(Kind.END, [memoryview(bytes(1)).cast("B")] * 0 + [_Huge()])  # type: ignore[list-item]


class _Huge(bytes):
    def __len__(self) -> int:
        return PAYLOAD_LIMIT_BYTES + 1


COLUMNS = st.dictionaries(
    st.text(max_size=8),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=50),
        st.text(st.characters(codec=None), max_size=20),
        st.lists(st.integers(0, 2**62), max_size=5),
    ),
    max_size=8,
)


@given(COLUMNS)
def test_columns_come_back_as_they_were(columns: dict[str, object]) -> None:
    (found,) = read_frames(b"".join(row_frame(Kind.REQUEST, columns)))
    assert columns_of(found) == columns


def test_a_good_frame_that_holds_no_columns_is_passed_over() -> None:
    data = frame(b"\xff\xff\xff\xff") + b"".join(row_frame(Kind.END, {"request_id": "r"})) + frame(b"")
    assert list(readable_columns(read_frames(data))) == [(Kind.END, {"request_id": "r"})]
