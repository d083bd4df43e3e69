"""`peaktape capture` between real clients and a real server: what is recorded, and what clients notice."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from capture_rig import (
    GAP_S,
    WORDS,
    Proxy,
    Upstream,
    eventually,
    metadata_of,
    rows_of,
    running_capture,
    running_upstream,
    segments_in,
    sha256,
    tls_server,
)

pytestmark = pytest.mark.slow

CHAT = {"model": "m1", "messages": [{"role": "user", "content": "count"}]}


@pytest.fixture
async def proxy(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Proxy]:
    async with running_capture(tmp_path / "prod.parquet", "--upstream", upstream.url) as running:
        yield running


async def recorded(proxy: Proxy, tmp_path: Path) -> list[dict[str, Any]]:
    assert await proxy.stop() == 0, proxy.said
    return rows_of(tmp_path / "prod.parquet")


async def test_every_body_sent_and_answered_is_recorded_byte_for_byte(
    proxy: Proxy, upstream: Upstream, tmp_path: Path
) -> None:
    bodies = [b"", b"\x00\xff" * 7, os.urandom(1_000_000), "größer".encode(), gzip.compress(b"zipped by me")]
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        for body in bodies:
            answer = await client.post("/echo", content=body)
            assert answer.content == body

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"chunked upload "

        assert (await client.post("/echo", content=pieces())).content == b"chunked upload " * 4
        assert (await client.post("/gzip", content=b"text" * 100)).content == b"text" * 100
    rows = await recorded(proxy, tmp_path)
    assert [sha256(row["request_body"]) for row in rows] == upstream.received
    assert [row["response_body"] for row in rows[:6]] == [*bodies, b"chunked upload " * 4]
    assert gzip.decompress(rows[6]["response_body"]) == b"text" * 100, "still as sent, content-encoded"
    assert all(sum(row["chunk_bytes"]) == row["response_bytes"] == len(row["response_body"]) for row in rows)


async def test_curl_uploads_and_downloads_unharmed(proxy: Proxy, upstream: Upstream, tmp_path: Path) -> None:
    body = os.urandom(300_000)
    (tmp_path / "body").write_bytes(body)
    curl = await asyncio.create_subprocess_exec(
        "curl",
        "-s",
        "--data-binary",
        f"@{tmp_path}/body",
        "--header",
        "Content-Type: application/octet-stream",  # curl says it is a form, where chance can name a secret
        f"{proxy.url}/echo",
        stdout=asyncio.subprocess.PIPE,
    )
    answer, _ = await curl.communicate()
    (row,) = await recorded(proxy, tmp_path)
    assert answer == body == row["request_body"] == row["response_body"]
    assert row["arrival_ns"] <= row["request_body_ns"] <= row["first_byte_ns"] <= row["end_ns"]


async def test_the_openai_sdk_streams_and_every_fact_is_recorded(
    proxy: Proxy, upstream: Upstream, tmp_path: Path
) -> None:
    client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-very-secret-key-123")
    stream = await client.chat.completions.create(**CHAT, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    whole = await client.chat.completions.create(**CHAT)
    await client.close()
    first, second = await recorded(proxy, tmp_path)
    assert text == whole.choices[0].message.content == "".join(WORDS)
    assert (first["stream"], second["stream"]) == (True, False)
    for row in (first, second):
        assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("m1", 7, 5)
        assert (row["outcome"], row["status"], row["host"]) == ("complete", 200, upstream.url[7:])
    assert len(first["chunk_ns"]) >= len(WORDS)


async def test_chunks_reach_the_client_one_by_one_and_are_stamped_so(proxy: Proxy, tmp_path: Path) -> None:
    async with (
        httpx.AsyncClient(base_url=proxy.url) as client,
        client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        instants = [time.monotonic() async for _ in answer.aiter_raw()]
    (row,) = await recorded(proxy, tmp_path)
    assert len(instants) >= len(WORDS)
    assert instants[-1] - instants[0] > 0.5 * GAP_S * len(WORDS), "buffering would deliver all at once"
    stamps = row["chunk_ns"]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] > 0.5 * GAP_S * len(WORDS) * 1e9


async def test_http_chunks_that_came_in_one_read_are_one_chunk(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(GAP_S)
        writer.write(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
        await asyncio.sleep(GAP_S)
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            assert (await client.get("/")).content == b"abcde"
        (row,) = await recorded(proxy, tmp_path)
    server.close()
    assert row["chunk_bytes"] == [3, 2]
    assert row["first_byte_ns"] < row["chunk_ns"][0]


async def test_a_client_that_goes_mid_stream_is_one_aborted_row(proxy: Proxy, tmp_path: Path) -> None:
    async with (
        httpx.AsyncClient(base_url=proxy.url) as client,
        client.stream("GET", "/endless") as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    await asyncio.sleep(0.3)
    (row,) = await recorded(proxy, tmp_path)
    assert row["outcome"] == "client_aborted"
    assert row["status"] == 200
    assert row["response_bytes"] > 0
    assert row["end_ns"] >= row["chunk_ns"][-1]


@pytest.mark.parametrize("who", ["client", "server"])
async def test_an_end_that_brings_no_bytes_is_stamped_when_it_comes(who: str, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nword")
        await asyncio.sleep(5 * GAP_S if who == "server" else 60)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = "http://{}:{}".format(*server.sockets[0].getsockname())
    async with running_capture(tmp_path / "prod.parquet", "--upstream", address) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url) as client, client.stream("GET", "/") as answered:
            async for _ in answered.aiter_raw():
                if who == "client":
                    await asyncio.sleep(5 * GAP_S)
                    break
        await asyncio.sleep(0.3)
        (row,) = await recorded(proxy, tmp_path)
    server.close()
    assert row["outcome"] == ("client_aborted" if who == "client" else "complete")
    assert row["end_ns"] - row["chunk_ns"][-1] > 4 * GAP_S * 1e9


async def test_a_client_that_closes_right_after_done_had_its_answer(proxy: Proxy, tmp_path: Path) -> None:
    async with (
        httpx.AsyncClient(base_url=proxy.url) as client,
        client.stream(
            "POST", "/v1/chat/completions", json={**CHAT, "stream": True}, headers={"x-linger": "1"}
        ) as answer,
    ):
        async for line in answer.aiter_lines():
            if "[DONE]" in line:
                break
    await asyncio.sleep(0.3)
    (row,) = await recorded(proxy, tmp_path)
    assert (row["outcome"], row["error"]) == ("complete", None)
    assert row["end_ns"] == row["chunk_ns"][-1]


async def test_a_server_that_breaks_off_is_a_server_error_with_what_came(
    proxy: Proxy, tmp_path: Path
) -> None:
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/breaks", content=b"x")
    (row,) = await recorded(proxy, tmp_path)
    assert (row["outcome"], row["status"]) == ("server_error", 200)
    assert row["response_body"] == b"data: 1\n\n"


async def test_an_upstream_that_is_down_leaves_rows_with_the_502_that_clients_saw(tmp_path: Path) -> None:
    async with (
        running_capture(tmp_path / "prod.parquet", "--upstream", "http://127.0.0.1:9") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        assert (await client.post("/echo", content=b"lost?")).status_code == 502
        (row,) = await recorded(proxy, tmp_path)
    assert (row["outcome"], row["status"], row["request_body"]) == ("server_error", 502, b"lost?")
    assert "refused" in row["error"].lower()


async def test_half_an_upload_and_a_malformed_request_are_one_row_each(proxy: Proxy, tmp_path: Path) -> None:
    host, port = proxy.url[7:].split(":")
    for request in (
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf",
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        writer.write_eof()
        await reader.read()
        writer.close()
    half, malformed = await recorded(proxy, tmp_path)
    assert (half["outcome"], half["request_body"]) == ("client_aborted", None)
    assert (malformed["outcome"], malformed["status"]) == ("proxy_error", 400)


async def test_a_server_side_refusal_is_a_complete_exchange(proxy: Proxy, tmp_path: Path) -> None:
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        assert (await client.get("/refused")).status_code == 429
    (row,) = await recorded(proxy, tmp_path)
    assert (row["outcome"], row["status"]) == ("complete", 429)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_what_is_under_way_at_the_end_is_recorded_as_in_flight(
    proxy: Proxy, tmp_path: Path, number: int
) -> None:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        await client.post("/echo", content=b"over before")
        stream = client.stream("GET", "/endless")
        answer = await stream.__aenter__()
        waiting = asyncio.create_task(client.get("/silent"))
        pieces = answer.aiter_raw()
        await anext(pieces)
        await asyncio.sleep(0.2)
        assert await proxy.stop(number) == 0, proxy.said
        await answer.aclose()
        with pytest.raises(httpx.HTTPError):
            await waiting
    rows = rows_of(tmp_path / "prod.parquet")
    assert sorted(row["outcome"] for row in rows) == ["complete", "in_flight", "in_flight"]
    streamed = next(row for row in rows if row["path"] == "/endless")
    assert streamed["response_bytes"] > 0
    assert streamed["end_ns"] is None
    assert metadata_of(tmp_path / "prod.parquet")["counts"] == {"seen": 3, "recorded": 3, "dropped": {}}


async def test_credentials_are_nowhere_in_the_files(proxy: Proxy, upstream: Upstream, tmp_path: Path) -> None:
    secrets = {
        "authorization": "Bearer bearer-secret-1",
        "cookie": "session=cookie-secret-0",
        "x-api-key": "header-secret-2",
        "x-goog-api-key": "header-secret-3",
        "x-custom": "sk-proj-0123456789abcdef",
        "x-request-id": "kept",
        "x-unlisted": "secret-6",
    }
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        await client.get("/echo?api_key=query-secret-4&limit=5&access_token=query-secret-5", headers=secrets)
    (row,) = await recorded(proxy, tmp_path)
    everything = repr(row) + repr(metadata_of(tmp_path / "prod.parquet"))
    for secret in ("secret-", "sk-proj"):
        assert secret not in everything
    assert row["path"] == "/echo?api_key=REDACTED&limit=5&access_token=REDACTED"
    headers = {pair["name"].lower(): pair["value"] for pair in row["request_headers"]}
    assert headers["x-request-id"] == "kept"
    assert headers["x-unlisted"] == "REDACTED"
    assert headers["authorization"] == "REDACTED"
    assert len(metadata_of(tmp_path / "prod.parquet")["redaction"]["sha256"]) == 64


async def test_a_conversation_is_one_session_with_ascending_turns(proxy: Proxy, tmp_path: Path) -> None:
    client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-0123456789")
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    for question in ("and then?", "and then??", None):
        answer = await client.chat.completions.create(model="m", messages=messages)
        messages += [{"role": "assistant", "content": answer.choices[0].message.content}]
        messages += [{"role": "user", "content": question}]
    await client.close()
    rows = await recorded(proxy, tmp_path)
    assert [row["turn"] for row in rows] == [0, 1, 2]
    assert len({row["session_id"] for row in rows}) == 1


async def test_the_clients_host_header_reaches_the_server_unless_asked_otherwise(
    upstream: Upstream, tmp_path: Path
) -> None:
    for option in ([], ["--rewrite-host"]):
        async with running_capture(
            tmp_path / "prod.parquet", "--upstream", upstream.url, "--overwrite", *option
        ) as proxy:
            async with httpx.AsyncClient(base_url=proxy.url) as client:
                await client.post("/echo", headers={"host": "models.example"})
            await proxy.stop()
    assert upstream.hosts == ["models.example", upstream.url[7:]]


async def test_regular_mode_records_where_each_request_went(upstream: Upstream, tmp_path: Path) -> None:
    async with running_capture(tmp_path / "prod.parquet", "--mode", "regular") as proxy:
        async with httpx.AsyncClient(proxy=proxy.url) as client:
            assert (await client.post(f"{upstream.url}/echo", content=b"by proxy")).content == b"by proxy"
        (row,) = await recorded(proxy, tmp_path)
    assert (row["host"], row["path"], row["request_body"]) == (upstream.url[7:], "/echo", b"by proxy")
    assert metadata_of(tmp_path / "prod.parquet")["upstreams"] == [upstream.url[7:]]


@pytest.mark.parametrize("mode", ["reverse", "regular"])
async def test_a_server_behind_tls_is_verified_and_recorded(tmp_path: Path, mode: str) -> None:
    (tmp_path / "upstream-ca").mkdir()
    trusted = tmp_path / "upstream-ca" / "mitmproxy-ca-cert.pem"
    async with running_upstream(tls_server(tmp_path / "upstream-ca")) as upstream:
        target = ["--upstream", upstream.url] if mode == "reverse" else ["--mode", "regular"]
        output = tmp_path / "prod.parquet"
        for trust, status in (([], 502), (["--upstream-ca", str(trusted)], 200)):
            async with running_capture(output, *target, *trust, "--overwrite") as proxy:
                ours = ssl.create_default_context(
                    cafile=tmp_path / "config/peaktape/mitmproxy/mitmproxy-ca-cert.pem"
                )
                client = (
                    httpx.AsyncClient(base_url=proxy.url)
                    if mode == "reverse"
                    else httpx.AsyncClient(proxy=proxy.url, verify=ours, base_url=upstream.url)
                )
                async with client:
                    assert (await client.post("/echo", content=b"sealed")).status_code == status
                (row,) = await recorded(proxy, tmp_path)
                assert (row["status"], row["scheme"]) == (status, "https")
                assert row["host"] == upstream.url[8:]
                assert row["request_body"] == b"sealed"
    assert row["response_body"] == b"sealed"


async def test_a_client_may_speak_tls_and_http2_to_the_proxy(
    proxy: Proxy, upstream: Upstream, tmp_path: Path
) -> None:
    authority = tmp_path / "config/peaktape/mitmproxy/mitmproxy-ca-cert.pem"
    command = ["curl", "-s", "--http2", "--cacert", str(authority), "-d", "tls", f"https{proxy.url[4:]}/echo"]
    curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    answer, _ = await curl.communicate()
    (row,) = await recorded(proxy, tmp_path)
    assert answer == row["request_body"] == b"tls"
    assert (row["outcome"], row["http_version"]) == ("complete", "HTTP/2.0")


async def test_a_folder_gets_rolling_segments_while_the_capture_runs(
    upstream: Upstream, tmp_path: Path
) -> None:
    folder = tmp_path / "segments"
    async with running_capture(folder, "--upstream", upstream.url, "--segment-s", "0.2") as proxy:
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            for count in range(1, 4):
                await client.post("/echo", content=b"x" * count)
                await eventually(lambda count=count: len(segments_in(folder)) == count)
        assert await proxy.stop() == 0
    assert [len(row["request_body"]) for row in rows_of(folder)] == [1, 2, 3]
    assert metadata_of(folder)["counts"] == {"seen": 3, "recorded": 3, "dropped": {}}
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


async def test_response_bodies_can_be_left_out_and_are_still_counted(
    upstream: Upstream, tmp_path: Path
) -> None:
    async with running_capture(
        tmp_path / "prod.parquet", "--upstream", upstream.url, "--response-bodies", "drop"
    ) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            await client.post("/v1/chat/completions", json=CHAT)
        (row,) = await recorded(proxy, tmp_path)
    assert row["response_body"] is None
    assert row["response_bytes"] > 0
    assert row["output_tokens"] == 5


async def test_one_file_is_left_and_no_folder_beside_it(proxy: Proxy, tmp_path: Path) -> None:
    assert await proxy.stop() == 0
    left = sorted(os.listdir(tmp_path))
    assert left == ["config", "prod.parquet"]
    assert rows_of(tmp_path / "prod.parquet") == [], "a capture without requests is a whole, empty trace"
