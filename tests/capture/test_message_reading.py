"""Laws of what reads messages from passing bytes: however the reads cut them, the same messages come out."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
import wsproto
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st

from capture import copied_body
from capture.copied_body import CopiedBody, CopyBudget
from capture.framed_messages import MessageSizes, is_framed
from capture.message_log import MessageLog
from capture.message_semantics import grpc_error
from capture.websocket_frames import WebSocketReader

MESSAGES = st.lists(st.binary(max_size=300), max_size=6)
CUTS = st.lists(st.integers(0, 2000), max_size=10)


def in_reads(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


@given(MESSAGES, CUTS)
def test_framed_messages_are_found_however_the_reads_cut_them(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(b"\0" + len(message).to_bytes(4) + message for message in messages)
    sizes = MessageSizes()
    found = [size for piece in in_reads(data, cuts) for size in sizes.feed(piece)]
    assert found == [5 + len(message) for message in messages]


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_at_all_can_be_read_for_messages(pieces: list[bytes]) -> None:
    sizes, reader = MessageSizes(), WebSocketReader(from_client=True)
    for piece in pieces:
        assert all(size >= 5 for size in sizes.feed(piece))
        reader.feed(piece)


@pytest.mark.parametrize(
    ("kind", "framed"),
    [
        ("application/grpc", True),
        ("application/grpc+proto", True),
        ("Application/gRPC-Web+proto", True),
        ("application/grpc-web-text", False),
        ("application/connect+json", True),
        ("application/json", False),
        ("", False),
    ],
)
def test_which_bodies_are_framed(kind: str, framed: bool) -> None:
    assert is_framed([("x", "y"), ("Content-Type", kind)]) is framed


@given(st.lists(st.text(max_size=50) | st.binary(max_size=300), max_size=5), CUTS, st.booleans())
def test_a_websockets_messages_are_found_however_the_reads_cut_them(
    messages: list[str | bytes], cuts: list[int], from_client: bool
) -> None:
    sender = wsproto.Connection(
        wsproto.ConnectionType.CLIENT if from_client else wsproto.ConnectionType.SERVER
    )
    data = b""
    for message in messages:
        data += sender.send(wsproto.events.Ping(b"between"))
        halves = message[: len(message) // 2], message[len(message) // 2 :]
        for half, last in zip(halves, (False, True), strict=True):
            kind = wsproto.events.TextMessage if isinstance(message, str) else wsproto.events.BytesMessage
            data += sender.send(kind(half, message_finished=last))
    data += sender.send(wsproto.events.CloseConnection(4000, "enough"))
    reader = WebSocketReader(from_client=from_client)
    pieces = [piece for read in in_reads(data, cuts) for piece in reader.feed(read)]
    found: list[tuple[bool, bytes]] = []
    payload = b""
    for piece in pieces:
        payload += piece.payload
        if piece.ends:
            found.append((piece.text, payload))
            payload = b""
    sent = [(isinstance(m, str), m.encode() if isinstance(m, str) else m) for m in messages]
    assert found == sent
    assert not reader.broken
    assert reader.complaint() == "websocket closed with 4000: enough"


def test_a_message_that_inflates_beyond_the_bound_loses_the_body_and_not_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(10_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    log = MessageLog()
    log.add(1, len(packed) - 4, from_client=True, text=False, compressed=True)
    log.add(2, 3, from_client=False, text=True)
    monkeypatch.setattr("capture.message_log.BODY_COPY_LIMIT_BYTES", 1_000_000)
    assert log.unpacked(packed[:-4], from_client=True) is None
    assert log.unpacked(b"abc", from_client=False) == b"abc"
    assert log.columns()["message_bytes"] == [len(packed) - 4, 3]
    monkeypatch.setattr("capture.message_log.BODY_COPY_LIMIT_BYTES", 20_000_000)
    assert log.unpacked(packed[:-4], from_client=True) == bytes(10_000_000)
    assert log.columns()["message_bytes"] == [10_000_000, 3]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.integers(0, 5)), max_size=30))
def test_chunks_are_the_reads_that_bytes_came_in(pieces: list[tuple[bytes, int]]) -> None:
    body = CopiedBody()
    for number, (piece, read) in enumerate(pieces):
        body.take(piece, number, read)
    assert body.body() == b"".join(piece for piece, _ in pieces)
    assert sum(body.chunk_bytes) == body.size_bytes == body.held_bytes
    changes = [one[1] != other[1] for one, other in pairwise(pieces)]
    assert len(body.chunk_ns) == sum(changes) + bool(pieces)


def test_copies_are_bounded_one_by_one_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied_body, "STAMPS_LIMIT", 3)
    budget = CopyBudget(150, body_limit_bytes=100)
    large, other, third = (CopiedBody(budget) for _ in range(3))
    for number in range(5):
        large.take(os.urandom(25), number, number)
    assert (large.body(), large.size_bytes, large.held_bytes, budget.held_bytes) == (None, 125, 0, 0)
    assert large.chunk_bytes == [25, 25, 25], "what is beyond the stamps is counted in the size alone"
    other.take(bytes(90), 0, 0)
    third.take(bytes(70), 0, 0)
    assert (other.body(), third.body(), budget.held_bytes) == (bytes(90), None, 90)
    other.release()
    assert (other.body(), budget.held_bytes) == (bytes(90), 0)


@pytest.mark.parametrize(
    ("headers", "trailers", "error"),
    [
        ([], [("grpc-status", "0")], None),
        ([], [], None),
        ([("Grpc-Status", "5")], [], "grpc-status 5 (NOT_FOUND)"),
        (
            [],
            [("grpc-status", "13"), ("grpc-message", "out%20of%20m")],
            "grpc-status 13 (INTERNAL): out of m",
        ),
        ([], [("grpc-status", "99")], "grpc-status 99"),
        ([], [("grpc-status", "\xff")], "grpc-status \xff"),
    ],
)
def test_how_a_call_failed(
    headers: list[tuple[str, str]], trailers: list[tuple[str, str]], error: str | None
) -> None:
    assert grpc_error(headers, trailers) == error
