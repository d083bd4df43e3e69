"""A proxy's own connections: when their bytes came, and that nothing is lost where they end or break."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from stamping_kernel import stamping_kernel

from capture import kernel_stamps, stamped_streams, stamped_transport
from capture.event_loop import new_loop
from capture.stamped_streams import HIGH_WATER_BYTES, StampedStream, hold_writes, send_held, stream_of

LONG_NS = 50_000_000


@pytest.fixture(scope="module", autouse=True)
def _stamps() -> Iterator[None]:
    with stamping_kernel():
        yield


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Awaitable[None]], None]:
    """Runs a scene on the loop of a proxy, with uvloop and where there is none."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)

    def on_the_loop(scene: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(scene, 20))

    return on_the_loop


@contextlib.asynccontextmanager
async def dialled() -> AsyncIterator[tuple[StampedStream, socket.socket]]:
    """A stream that the loop made, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        stream = stream_of(writer)
        assert stream is not None
        other = listener.accept()[0]
        with other:
            yield stream, other
        stream.close()


@contextlib.asynccontextmanager
async def accepted() -> AsyncIterator[tuple[StampedStream, socket.socket]]:
    """A stream that the loop accepted, and the other end."""
    come: asyncio.Future[StampedStream] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = stream_of(writer)
        assert stream is not None
        come.set_result(stream)
        await done.wait()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as other:
        other.send(b"first")
        busy()
        stream = await come
        yield stream, other
        stream.close()
    done.set()
    server.close()


def busy() -> None:
    """The loop has something else to do."""
    time.sleep(2 * LONG_NS / 1e9)


async def rest_of(stream: StampedStream) -> tuple[bytes, OSError | None]:
    """All that comes, and what broke it."""
    heard = b""
    try:
        while piece := await stream.read():
            heard += piece
    except OSError as error:
        return heard, error
    return heard, None


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps what TCP brings")


@linux
def test_bytes_that_waited_for_a_busy_loop_are_stamped_when_they_came(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        async with dialled() as (stream, other):
            for _ in range(2):
                began_ns = time.monotonic_ns()
                other.send(b"chunk")
                busy()
                assert await stream.read() == b"chunk"
                assert began_ns <= stream.came_ns < time.monotonic_ns() - LONG_NS

    run(scene())


@linux
def test_what_came_before_a_connection_was_accepted_is_stamped_when_it_came(
    run: Callable[[Any], None],
) -> None:
    async def scene() -> None:
        began_ns = time.monotonic_ns()
        async with accepted() as (stream, _):
            assert await stream.read() == b"first"
            assert began_ns <= stream.came_ns < time.monotonic_ns() - LONG_NS

    run(scene())


def test_a_stamp_from_before_the_socket_was_empty_counts_for_nothing(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with dialled() as (stream, other):
            other.send(b"one")
            assert await stream.read() == b"one"
            began_ns = time.monotonic_ns()
            other.send(b"two")
            monkeypatch.setattr(stamped_streams, "_wall_ns", lambda: time.time_ns() + 3600 * 10**9)
            assert await stream.read() == b"two"
            assert stream.came_ns >= began_ns

    run(scene())


def test_without_the_kernels_stamps_a_read_is_stamped_when_it_is_made(
    run: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamped_transport, "have_stamped", lambda connected: False)

    async def scene() -> None:
        async with dialled() as (stream, other):
            other.send(b"chunk")
            busy()
            asked_ns = time.monotonic_ns()
            assert await stream.read() == b"chunk"
            assert stream.came_ns >= asked_ns

    run(scene())


def test_other_sockets_than_tcps_have_no_stamps() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not kernel_stamps.have_stamped(one)


@pytest.mark.parametrize("heard", [b"refused", b"", bytes(300_000)], ids=["an answer", "nothing", "much"])
@pytest.mark.parametrize("waits", [False, True], ids=["read later", "being read"])
def test_a_peer_that_answers_and_resets_is_heard_before_the_error(
    run: Callable[[Any], None], heard: bytes, *, waits: bool
) -> None:
    """Data and error are told of at once when the loop was busy; closing with something unread resets."""

    async def scene() -> None:
        async with dialled() as (stream, other):
            stream.write(b"never read")
            busy()
            reading = asyncio.ensure_future(rest_of(stream))
            await asyncio.sleep(0)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sent = other.send(heard) if heard else 0
            time.sleep(0.05)  # noqa: ASYNC251 - the kernel moves it meanwhile
            other.close()
            if not waits:
                busy()
            answer, error = await reading
            assert isinstance(error, ConnectionResetError)
            assert heard.startswith(answer)
            assert len(answer) == len(heard) or sent > 100_000  # a reset drops what the other end still had

    run(scene())


def test_a_write_that_fails_lets_what_came_before_be_read_and_then_tells(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        async with dialled() as (stream, other):
            stream.write(b"never read")
            busy()
            other.send(b"refused")
            other.close()
            stream.write(b"more")
            await stream.drain()  # whoever reads doesn't know yet
            answer, error = await rest_of(stream)
            assert (answer, type(error)) == (b"refused", ConnectionResetError)
            with pytest.raises(ConnectionResetError):
                await stream.drain()
            stream.write(b"into the void")

    run(scene())


def test_an_end_of_file_leaves_the_other_direction_open(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        async with dialled() as (stream, other):
            other.send(b"question")
            other.shutdown(socket.SHUT_WR)
            assert await rest_of(stream) == (b"question", None)
            assert await stream.read() == b""
            stream.write(b"answer")
            stream.write_eof()
            assert other.recv(100) == b"answer"
            assert other.recv(100) == b""

    run(scene())


def test_what_one_event_writes_leaves_in_one_piece(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        async with dialled() as (stream, other):
            other.setblocking(False)
            hold_writes()
            for word in (b"HTTP/1.1 200 OK\r\n\r\n", b"data: a\n\n"):
                stream.write(word)
                with pytest.raises(BlockingIOError):
                    other.recv(100)
            send_held()
            assert other.recv(100) == b"HTTP/1.1 200 OK\r\n\r\ndata: a\n\n"
            stream.write(b"at once")
            assert other.recv(100) == b"at once"

    run(scene())


def test_a_writer_waits_for_a_peer_that_does_not_read_and_closing_keeps_all(
    run: Callable[[Any], None],
) -> None:
    sent = bytes(range(256)) * 40_000

    async def scene() -> None:
        async with dialled() as (stream, other):
            stream.write(sent)
            assert stream.get_write_buffer_size() > HIGH_WATER_BYTES
            draining = asyncio.ensure_future(stream.drain())
            await asyncio.sleep(0.02)
            assert not draining.done()
            stream.write(b"and more")
            stream.close()
            stream.close()
            stream.write(b"too late")
            taken = bytearray()
            other.setblocking(False)
            while piece := await asyncio.get_running_loop().sock_recv(other, 1 << 20):
                taken += piece
            await draining
            assert bytes(taken) == sent + b"and more"
            assert await stream.read() == b""

    run(scene())


def test_closing_ends_a_read_that_waits(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        for end in (StampedStream.close, StampedStream.abort):
            async with dialled() as (stream, other):
                reading = asyncio.ensure_future(stream.read())
                await asyncio.sleep(0)
                end(stream)
                assert await reading == b""
                assert stream.is_closing()
                assert other.recv(10) == b""

    run(scene())


def test_nobody_reading_leaves_what_comes_to_the_kernel(run: Callable[[Any], None]) -> None:
    """A sender that is not read from has to stop: that is what holds it back."""

    async def scene() -> None:
        async with dialled() as (stream, other):
            other.send(b"one")
            assert await stream.read() == b"one"
            other.setblocking(False)
            sent = 0
            for _ in range(200):
                with contextlib.suppress(BlockingIOError):
                    sent += other.send(bytes(1 << 16))
                await asyncio.sleep(0)
            assert sent < 200 << 16
            other.setblocking(True)
            other.shutdown(socket.SHUT_WR)
            heard, error = await rest_of(stream)
            assert (len(heard), error) == (sent, None)

    run(scene())


def test_a_server_that_cannot_be_reached_says_why(run: Callable[[Any], None]) -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=r"\[Errno \d+\] Connection refused"):
            await asyncio.open_connection("127.0.0.1", port)

    run(scene())
