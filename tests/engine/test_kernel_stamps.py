"""When bytes came, as the kernel saw it; and that chunks parsed some at a time are what they were at once."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from stamping_kernel import stamping_kernel
from test_feeding import prepared

from capture.kernel_stamps import came_ns
from replay.engine.exchange import Exchange
from replay.engine.plain_transport import PlainTransport, connect
from replay.engine.wire_connection import DEFERRED_READS, LAST, Owner, WireConnection

INSTANTS = st.integers(0, 1 << 62)
LONG_NS = 50_000_000


@pytest.fixture(scope="module", autouse=True)
def _stamps() -> Iterator[None]:
    with stamping_kernel():
        yield


@given(now_ns=INSTANTS, wall_now_ns=INSTANTS, ago_ns=st.integers(-(10**12), 10**12))
def test_a_stamp_is_as_long_ago_by_both_clocks_and_never_in_the_future(
    now_ns: int, wall_now_ns: int, ago_ns: int
) -> None:
    stamp = struct.pack("=qq", *divmod(wall_now_ns - ago_ns, 10**9))
    assert came_ns(stamp, wall_now_ns, now_ns) == now_ns - max(0, ago_ns)


@given(st.lists(INSTANTS, min_size=1, max_size=5), INSTANTS)
def test_no_read_came_before_the_request_left_or_before_an_earlier_read(
    stamps: list[int], sent_ns: int
) -> None:
    exchange = Exchange(prepared(1, 0), sent_ns=sent_ns)
    noted = [exchange.note_read(stamp, 10) for stamp in stamps]
    assert noted == sorted(noted)
    assert noted[0] >= sent_ns
    assert (exchange.first_byte_ns, exchange.last_read_ns) == (noted[0], noted[-1])
    assert exchange.bytes_in == 10 * len(stamps)


class Reader(asyncio.Protocol):
    """Notes what comes: (data, came, read)."""

    def __init__(self) -> None:
        self.reads: list[tuple[bytes, int, int]] = []
        self.some = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def stamped(self, data: bytes, came_ns: int, now_ns: int) -> None:
        """Note a read."""
        self.reads.append((data, came_ns, now_ns))
        self.some.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end; a second one would raise."""
        self.lost.set_result(error)


async def connected() -> tuple[PlainTransport, Reader, socket.socket]:
    """Ours, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, reader = await connect(*listener.getsockname(), Reader)
        return transport, reader, listener.accept()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what TCP brings")
def test_bytes_that_waited_for_a_busy_process_are_stamped_when_they_came() -> None:
    async def scene() -> None:
        transport, reader, other = await connected()
        began_ns = time.monotonic_ns()
        other.send(b"chunk")
        time.sleep(2 * LONG_NS / 1e9)  # noqa: ASYNC251 - the loop is busy with something else
        await reader.some.wait()
        ((data, came, read),) = reader.reads
        assert data == b"chunk"
        assert began_ns <= came <= read - LONG_NS
        transport.abort()
        other.close()

    asyncio.run(scene())


def test_more_than_the_kernel_takes_arrives_whole_also_when_closed_meanwhile() -> None:
    async def scene() -> None:
        transport, reader, other = await connected()
        sent = bytes(range(256)) * 40_000
        transport.write(sent)
        transport.write(b"the end")
        assert transport.get_write_buffer_size() > 0
        transport.close()
        assert transport.is_closing()
        with other:
            found = await asyncio.to_thread(lambda: b"".join(iter(lambda: other.recv(1 << 20), b"")))
        assert found == sent + b"the end"
        assert await reader.lost is None

    asyncio.run(scene())


def _reset(other: socket.socket) -> None:
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()


@pytest.mark.parametrize(("end", "error"), [(socket.socket.close, None), (_reset, ConnectionResetError)])
def test_a_connection_that_ends_tells_once_and_how(
    end: Callable[[socket.socket], None], error: type[Exception] | None
) -> None:
    async def scene() -> None:
        transport, reader, other = await connected()
        end(other)
        found = await reader.lost
        assert found is None if error is None else isinstance(found, error)
        transport.abort()
        transport.write(b"too late")
        await asyncio.sleep(0)

    asyncio.run(scene())


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_what_came_right_before_a_reset_is_read_and_the_reset_noticed(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A server that dies with a request unread: uvloop tells of such a socket once."""

    async def scene() -> None:
        transport, reader, other = await connected()
        transport.write(b"never read")
        time.sleep(0.02)  # noqa: ASYNC251 - the kernel moves it meanwhile
        other.send(b"chunk")
        other.close()
        time.sleep(0.02)  # noqa: ASYNC251 - both are there when the loop looks
        assert isinstance(await asyncio.wait_for(reader.lost, 10), ConnectionResetError)
        assert b"".join(data for data, _, _ in reader.reads) == b"chunk"

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scene())


def test_who_refuses_is_an_error_and_not_a_connection() -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = listener.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await connect(*place, Reader)

    asyncio.run(scene())


class Pool:
    """Stands in for the sender: nothing is due, and what ends is noted."""

    def __init__(self) -> None:
        self.pacer = self
        self.ended: list[tuple[Exchange, bool]] = []

    def catch_up(self, now_ns: int) -> None:
        """Nothing is due."""

    def note_sent(self, exchange: Exchange) -> None:
        """Nothing to count."""

    def release(self, connection: WireConnection, exchange: Exchange, *, reusable: bool) -> None:
        """Note the end."""
        self.ended.append((exchange, reusable))


class Unused(asyncio.Transport):
    """A transport that nothing is written to."""

    def is_closing(self) -> bool:
        """It stays open."""
        return False

    def abort(self) -> None:
        """Nobody is told."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As if there were TLS: no socket is asked for."""
        return "tls" if name == "sslcontext" else default

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(2 * DEFERRED_READS + 3)]
TRAILERS = [b"", b"X-Took: 3\r\n"]


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.sampled_from([*EVENTS, b"\r\n\r\n", b"0\r\n\r\n"]), min_size=1, max_size=80),
    trailer=st.sampled_from(TRAILERS),
    cuts=st.sets(st.integers(1, 2000), max_size=90),
)
def test_however_a_stream_is_cut_it_ends_with_its_last_read_and_each_read_has_its_bytes(
    events: list[bytes], trailer: bytes, cuts: set[int]
) -> None:
    whole = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)
    whole += b"0\r\n" + trailer + b"\r\n"
    places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
    pool = Pool()
    connection = WireConnection(cast("Owner", pool))
    connection.connection_made(Unused())
    connection.exchange = exchange = Exchange(prepared(1, 0), sent_ns=0)
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        assert not pool.ended
        connection.stamped(whole[start:end], number, number)
    assert pool.ended == [(exchange, True)]
    assert exchange.error is None
    assert exchange.body == b"".join(events)
    assert sum(exchange.read_bytes) == len(exchange.body)
    assert list(exchange.read_ns) == sorted(set(exchange.read_ns))
    assert len(exchange.read_ns) == len(exchange.read_bytes)
    assert exchange.last_read_ns == len(places) - 2


def test_what_follows_a_whole_answer_costs_the_connection_and_not_the_answer() -> None:
    pool = Pool()
    connection = WireConnection(cast("Owner", pool))
    connection.connection_made(Unused())
    connection.exchange = exchange = Exchange(prepared(1, 0), sent_ns=0)
    for at_ns, data in enumerate([HEAD, b"2\r\n{}\r\n0\r\n\r\nmore of", b"what nobody asked", LAST * 2]):
        connection.stamped(data, at_ns, at_ns)
    assert pool.ended == [(exchange, False)]
    assert (exchange.error, exchange.body, list(exchange.read_ns)) == (None, b"{}", [1])


def test_what_had_come_before_a_connection_broke_is_in_the_row() -> None:
    pool = Pool()
    connection = WireConnection(cast("Owner", pool))
    connection.connection_made(Unused())
    connection.exchange = exchange = Exchange(prepared(1, 0), sent_ns=0)
    connection.stamped(HEAD, 1, 1)
    for at_ns, event in enumerate(EVENTS[:5], start=2):
        connection.stamped(b"%x\r\n%b\r\n" % (len(event), event), at_ns, at_ns)
    connection.connection_lost(ConnectionResetError("gone"))
    assert pool.ended == [(exchange, False)]
    assert exchange.error == "reset"
    assert exchange.body == b"".join(EVENTS[:5])
    assert list(exchange.read_ns) == [2, 3, 4, 5, 6]
