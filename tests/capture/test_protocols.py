"""HTTP/2, trailers, codings, streamed uploads through `peaktape capture`: the same bytes, all recorded."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import httpx
import pytest
import zstandard
from aiohttp import web
from capture_rig import (
    GAP_S,
    Upstream,
    eventually,
    keeping,
    rows_of,
    running_capture,
    running_upstream,
    sha256,
    tls_server,
)
from http2_rig import Echo, asked, connected, first_pieces, running_http2

from capture.copied_body import BODY_COPY_LIMIT_BYTES

pytestmark = pytest.mark.slow


def pairs(headers: list[dict[str, str]] | None) -> list[tuple[str, str]] | None:
    return None if headers is None else [(pair["name"], pair["value"]) for pair in headers]


def trusting(folder: Path) -> ssl.SSLContext:
    """Trust in the proxy's own authority."""
    return ssl.create_default_context(cafile=folder / "config/peaktape/mitmproxy/mitmproxy-ca-cert.pem")


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plaintext"])
async def test_http2_on_both_sides_with_trailers_on_both_messages(tmp_path: Path, tls: bool) -> None:
    (tmp_path / "ca").mkdir()
    certificate = tls_server(tmp_path / "ca") if tls else None
    trust = ["--upstream-ca", str(tmp_path / "ca/mitmproxy-ca-cert.pem")] if tls else []
    requests: list[Any] = [
        ([], os.urandom(300_000), [(b"x-sum", b"1"), (b"x-note", b"gr\xc3\xb6\xc3\x9fer")]),
        ([(b"content-length", b"5")], b"short", []),
        ([], b"", [(b"x-alone", b"2")]),
        *(([], os.urandom(20_000), []) for _ in range(20)),
    ]
    names = ("x-sum", "x-note", "x-alone")
    kept = keeping(tmp_path, *names, *(f"echoed-{name}" for name in names))
    async with (
        running_http2(certificate) as (url, received),
        running_capture(tmp_path / "prod.parquet", "--upstream", url, *trust, *kept) as proxy,
    ):
        answers = await asked(proxy.url[7:], requests, trusting(tmp_path) if tls else None)
        assert await proxy.stop() == 0
        assert not [line for line in proxy.said if "crash" in line], proxy.said
    assert sorted(sha256(m.body) for m in received) == sorted(sha256(body) for _, body, _ in requests)
    for (_, body, trailers), answer in zip(requests, answers, strict=True):
        assert sha256(answer.body) == sha256(body)
        assert answer.trailers == [(b"echoed-" + name, value) for name, value in trailers]
    rows = {row["request_body"]: row for row in rows_of(tmp_path / "prod.parquet")}
    assert len(rows) == len(requests)
    for (_, body, trailers), _ in zip(requests, answers, strict=True):
        row = rows[body]
        text = [(name.decode(), value.decode("latin-1")) for name, value in trailers]
        assert (row["outcome"], row["http_version"], row["response_body"]) == ("complete", "HTTP/2.0", body)
        assert pairs(row["request_trailers"]) == (text or None)
        assert pairs(row["response_trailers"]) == ([("echoed-" + n, v) for n, v in text] or None)


async def test_httpx_speaks_http2_through_the_proxy(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    async with running_http2(tls_server(tmp_path / "ca")) as (url, _):
        trust = ["--upstream-ca", str(tmp_path / "ca/mitmproxy-ca-cert.pem")]
        async with running_capture(tmp_path / "prod.parquet", "--upstream", url, *trust) as proxy:
            async with httpx.AsyncClient(http2=True, verify=trusting(tmp_path)) as client:
                bodies = [os.urandom(50_000) for _ in range(20)]
                posts = [client.post(f"https{proxy.url[4:]}/{i}", content=b) for i, b in enumerate(bodies)]
                answers = await asyncio.gather(*posts)
            assert await proxy.stop() == 0
    assert [answer.http_version for answer in answers] == ["HTTP/2"] * 20
    assert [sha256(answer.content) for answer in answers] == [sha256(body) for body in bodies]
    rows = rows_of(tmp_path / "prod.parquet")
    assert {row["path"]: sha256(row["request_body"]) for row in rows} == {
        f"/{i}": sha256(body) for i, body in enumerate(bodies)
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("option", ["--http2-prior-knowledge", "--http2"])
async def test_curl_gets_http2_in_plaintext_or_stays_with_http1(tmp_path: Path, option: str) -> None:
    async with running_http2() as (http2, _), running_upstream() as http1:
        upstream = http2 if option == "--http2-prior-knowledge" else http1.url
        async with running_capture(tmp_path / "prod.parquet", "--upstream", upstream) as proxy:
            command = ["curl", "-s", option, "-d", "plain", f"{proxy.url}/echo"]
            curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            answer, _ = await curl.communicate()
            assert await proxy.stop() == 0
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert answer == row["request_body"] == row["response_body"] == b"plain"
    assert row["http_version"] == ("HTTP/2.0" if upstream is http2 else "HTTP/1.1")


async def test_many_streams_of_one_http2_client_run_at_once_over_an_http1_server(tmp_path: Path) -> None:
    """mitmproxy alone lets five through, and the sixth wait for one of them to end."""
    async with (
        running_upstream() as upstream,
        running_capture(tmp_path / "prod.parquet", "--upstream", upstream.url) as proxy,
    ):
        await first_pieces(proxy.url[7:], "/endless", 12, trusting(tmp_path))
        assert await proxy.stop() == 0
    rows = rows_of(tmp_path / "prod.parquet")
    assert [(row["http_version"], row["outcome"]) for row in rows] == [("HTTP/2.0", "client_aborted")] * 12


async def test_an_http2_server_that_stalls_holds_its_http2_client_back(tmp_path: Path) -> None:
    """mitmproxy alone takes all of it, and holds it in memory."""
    size, peers = 24 << 20, list[Echo]()

    def stalling() -> Echo:
        peers.append(Echo([], stalled=True))
        return peers[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(stalling, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    body = os.urandom(1 << 20) * (size >> 20)
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address) as proxy:
        client = await connected(proxy.url[7:], None)
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"h"), (b":path", b"/")]
        client.send(1, fields, body, [])
        await eventually(lambda: peers and peers[0].messages)
        await asyncio.sleep(1)
        assert size - client.unsent_bytes() < 12 << 20
        peers[0].go_on()
        assert await asyncio.wait_for(client.ended.get(), 30) == 1
        client.transport.close()
        assert await proxy.stop() == 0
    server.close()
    assert sha256(client.messages[1].body) == sha256(body)


async def test_an_http2_client_that_stalls_holds_its_http1_server_back(tmp_path: Path) -> None:
    size, sent = 40 << 20, 0

    class Large(Upstream):
        async def echo(self, request: web.Request) -> web.StreamResponse:
            nonlocal sent
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(size >> 16):
                await response.write(bytes(1 << 16))
                sent += 1 << 16
            return response

    async with (
        running_upstream(upstream=Large()) as upstream,
        running_capture(tmp_path / "prod.parquet", "--upstream", upstream.url) as proxy,
    ):
        client = await connected(proxy.url[7:], trusting(tmp_path))
        client.stalled = True
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/echo")]
        client.send(1, fields, b"", [])
        await eventually(lambda: client.messages)
        await asyncio.sleep(1)
        assert sent < size / 2, "what loopback's buffers take, and little more"
        client.go_on()
        assert await asyncio.wait_for(client.ended.get(), 30) == 1
        client.transport.close()
        assert await proxy.stop() == 0
    assert len(client.messages[1].body) == size


async def test_trailers_of_http1_pass_both_ways(tmp_path: Path) -> None:
    request = (
        b"POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 12\r\nX-Note: a b\r\n\r\n"
    )
    response = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"6\r\nanswer\r\n0\r\nServer-Timing: gpu;dur=53\r\n\r\n"
    )
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            received.append(await reader.readuntil(b"a b\r\n\r\n"))
            writer.write(response)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    kept = keeping(tmp_path, "x-sum", "x-note")
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address, *kept) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.url[7:].split(":"))
        for _ in range(2):
            writer.write(request)
            assert await asyncio.wait_for(reader.readexactly(len(response)), 10) == response
        writer.close()
        assert await proxy.stop() == 0
        assert not [line for line in proxy.said if "crash" in line], proxy.said
    server.close()
    assert received == [request, request]
    for row in rows_of(tmp_path / "prod.parquet"):
        assert (row["request_body"], row["response_body"]) == (b"hello", b"answer")
        assert pairs(row["request_trailers"]) == [("X-Sum", "12"), ("X-Note", "a b")]
        assert pairs(row["response_trailers"]) == [("Server-Timing", "gpu;dur=53")]


async def test_compressed_answers_stay_compressed_and_are_understood(tmp_path: Path) -> None:
    plain = b'{"model": "m1", "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "choices": []}'
    packed = {
        "gzip": gzip.compress(plain),
        "br": brotli.compress(plain),
        "zstd": zstandard.compress(plain),
        "deflate": gzip.zlib.compress(plain),
    }

    async def answer(request: web.Request) -> web.Response:
        coding = request.path[1:]
        headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
        return web.Response(body=packed[coding], headers=headers)

    app = web.Application()
    app.router.add_get("/{coding}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0])
    async with running_capture(tmp_path / "prod.parquet", "--upstream", url) as proxy:
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            for coding, body in packed.items():
                async with client.get(f"{proxy.url}/{coding}") as response:
                    assert sha256(await response.read()) == sha256(body)
        assert await proxy.stop() == 0
    await runner.cleanup()
    for row, body in zip(rows_of(tmp_path / "prod.parquet"), packed.values(), strict=True):
        assert row["response_body"] == body
        assert (row["input_tokens"], row["output_tokens"]) == (3, 4)


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(GAP_S)


async def test_a_chunked_upload_passes_as_it_comes_and_each_chunk_is_stamped(tmp_path: Path) -> None:
    pieces = [os.urandom(1000), os.urandom(70_000), b"the end"]
    came: list[float] = []

    class Watching(Upstream):
        async def echo(self, request: web.Request) -> web.Response:
            body = b""
            async for piece in request.content.iter_any():
                came.append(asyncio.get_running_loop().time())
                body += piece
            return web.Response(body=body)

    async with (
        running_upstream(upstream=Watching()) as upstream,
        running_capture(tmp_path / "prod.parquet", "--upstream", upstream.url) as proxy,
    ):
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{proxy.url}/echo", data=in_pieces(*pieces)) as response,
        ):
            assert sha256(await response.read()) == sha256(b"".join(pieces))
        assert await proxy.stop() == 0
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert came[-1] - came[0] > 0.5 * 2 * GAP_S, "a buffered upload would come all at once"
    stamps = row["request_chunk_ns"]
    assert stamps[-1] - stamps[0] > 0.5 * 2 * GAP_S * 1e9
    assert row["request_body"] == b"".join(pieces)
    assert sum(row["request_chunk_bytes"]) == row["request_bytes"] == len(row["request_body"])
    assert stamps[-1] <= row["request_body_ns"] <= row["first_byte_ns"]


async def test_an_answer_before_the_upload_is_in_reaches_the_client_and_is_one_row(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much")
        await writer.drain()
        await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address) as proxy:
        reader, writer = await asyncio.open_connection(*proxy.url[7:].split(":"))
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 100_000)
        answer = await asyncio.wait_for(reader.readuntil(b"too much"), 10)
        writer.close()
        assert await proxy.stop() == 0
    server.close()
    assert answer.startswith(b"HTTP/1.1 413")
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert (row["outcome"], row["status"], row["response_body"]) == ("complete", 413, b"too much")
    assert (row["request_body"], row["request_body_ns"]) == (None, None), "it never came whole"
    assert row["request_bytes"] > 0


async def test_of_a_large_upload_the_copy_is_bounded_and_the_row_says_so(tmp_path: Path) -> None:
    sizes = [3 << 20, BODY_COPY_LIMIT_BYTES + 1]
    async with (
        running_upstream() as upstream,
        running_capture(tmp_path / "prod.parquet", "--upstream", upstream.url) as proxy,
    ):
        async with aiohttp.ClientSession() as client:
            for size in sizes:
                body = os.urandom(1 << 16) * (size >> 16) + b"x" * (size % (1 << 16))
                async with client.post(f"{proxy.url}/echo", data=body) as response:
                    assert sha256(await response.read()) == sha256(body) == upstream.received[-1]
        assert await proxy.stop() == 0
    kept, passed = rows_of(tmp_path / "prod.parquet")
    assert len(kept["request_body"]) == kept["request_bytes"] == sizes[0]
    assert (passed["request_body"], passed["request_bytes"]) == (None, sizes[1])
    assert (passed["response_body"], passed["response_bytes"]) == (None, sizes[1])
    assert passed["request_body_ns"] is not None
