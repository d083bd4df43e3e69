"""Sealed frames: what was sealed comes back and nothing else does, wherever the file is cut or damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_rig import CANARY, OTHER, keys

from capture.failures import KeyRefused
from capture.journal import HEADER_BYTES, Kind, frame_parts, frames_of, read_frames
from capture.sealing import Seal, is_sealed, opened_frames, opened_text, sealed_text

KEYS = keys()
PAYLOADS = st.lists(st.lists(st.binary(max_size=40), max_size=3), min_size=1, max_size=6)


def sealed_frames(payloads: list[list[bytes]]) -> tuple[bytes, list[bytes]]:
    """A file's head, and its sealed frames."""
    seal = Seal(KEYS)
    frames = [b"".join(seal.sealed(frame_parts(Kind.END, payload))) for payload in payloads]
    return b"".join(seal.head), frames


def opened(data: bytes) -> list[tuple[int, bytes]]:
    return [(frame.kind, bytes(frame.payload)) for frame in opened_frames(data, keys(), "file")]


def wanted(payloads: list[list[bytes]]) -> list[tuple[int, bytes]]:
    return [(Kind.END, b"".join(payload)) for payload in payloads]


@given(PAYLOADS)
def test_frames_written_in_one_go_are_taken_apart_as_they_were(payloads: list[list[bytes]]) -> None:
    parts = [part for payload in payloads for part in frame_parts(Kind.END, payload)]
    assert [(kind, b"".join(payload)) for kind, payload in frames_of(parts)] == wanted(payloads)
    seal = Seal(KEYS)
    assert opened(b"".join([*seal.head, *seal.sealed(parts)])) == wanted(payloads)


@given(PAYLOADS, st.data())
def test_a_cut_file_opens_to_its_last_whole_frame(payloads: list[list[bytes]], data: st.DataObject) -> None:
    head, frames = sealed_frames(payloads)
    cut = data.draw(st.integers(0, sum(map(len, frames))))
    fit = sum(sum(map(len, frames[: n + 1])) <= cut for n in range(len(frames)))
    assert opened((head + b"".join(frames))[: len(head) + cut]) == wanted(payloads)[:fit]


@given(PAYLOADS, st.data())
def test_one_damaged_frame_costs_itself_and_one_of_the_two_heads_nothing(
    payloads: list[list[bytes]], data: st.DataObject
) -> None:
    head, frames = sealed_frames(payloads)
    pieces = [head[: len(head) // 2], head[len(head) // 2 :], *frames]
    hit = data.draw(st.integers(0, len(pieces) - 1))
    flipped = bytearray(pieces[hit])
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    left = [payload for n, payload in enumerate(payloads, 2) if n != hit]
    assert opened(b"".join([*pieces[:hit], bytes(flipped), *pieces[hit + 1 :]])) == wanted(left)


def test_what_was_changed_with_its_checksum_is_passed_over_all_the_same() -> None:
    head, frames = sealed_frames([[b"one"], [b"two"]])
    (found,) = read_frames(frames[0])
    changed = bytes(found.payload[:-1]) + bytes([found.payload[-1] ^ 1])
    forged = b"".join(frame_parts(found.kind, [changed]))
    foreign = b"".join(frame_parts(Kind.END, [b"never sealed"]))
    assert opened(head + forged + foreign + frames[1]) == [(Kind.END, b"two")]


def test_without_its_head_nothing_opens_and_nothing_is_taken_for_damage() -> None:
    head, frames = sealed_frames([[b"one"]])
    with pytest.raises(KeyRefused, match="its key frames are damaged"):
        opened(frames[0])
    with pytest.raises(KeyRefused, match="file: encrypted, and no key is given"):
        list(opened_frames(head + frames[0], None, "file"))
    with pytest.raises(KeyRefused, match="file: encrypted with another key than env:K gives"):
        list(opened_frames(head + frames[0], keys(OTHER), "file"))


def test_equal_payloads_never_look_alike_in_one_file_or_in_two() -> None:
    files = [sealed_frames([[b"same"], [b"same"]]) for _ in range(2)]
    bodies = [frame[HEADER_BYTES + 8 :] for _, frames in files for frame in frames]
    assert len(set(bodies)) == 4


def test_what_is_not_sealed_reads_with_and_without_a_key() -> None:
    plain = b"".join(frame_parts(Kind.END, [b"plain"]))
    assert opened(plain) == [(Kind.END, b"plain")]
    assert len(list(opened_frames(plain, None, "file"))) == 1


def test_a_text_is_itself_without_keys_and_unreadable_with_them() -> None:
    text = f'{{"source": "{CANARY}"}}'
    assert sealed_text(text, None) == text.encode()
    sealed = sealed_text(text, KEYS)
    assert is_sealed(sealed[:HEADER_BYTES])
    assert CANARY.encode() not in sealed
    assert opened_text(sealed, keys(), "file") == opened_text(text.encode(), None, "file") == text
    assert opened_text(b"", keys(), "file") == ""
