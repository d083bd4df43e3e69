"""What `peaktape capture` records of the traffic that it passes, and that clients never notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from capture_rig import (
    Proxy,
    Upstream,
    eventually,
    metadata_of,
    processes_of,
    rows_of,
    running_capture,
    sha256,
)

pytestmark = pytest.mark.slow


def added_up(trace: Path) -> dict[str, Any]:
    """A trace's counts, whose parts are all that was seen."""
    counts: dict[str, Any] = metadata_of(trace)["counts"]
    not_chosen = counts.get("not_chosen", {})
    assert counts["seen"] == counts["recorded"] + sum(counts["dropped"].values()) + sum(not_chosen.values())
    assert counts["recorded"] == len(rows_of(trace))
    return counts


async def posts(proxy: Proxy, *paths: str, **headers: str) -> None:
    """One echoed request for each path, whose body must come back as it went."""
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        for path in paths:
            body = f"body of {path}".encode()
            answer = await client.post(path, content=body, headers=headers)
            assert sha256(answer.content) == sha256(body)


async def test_a_filter_decides_at_the_head_at_the_answer_and_on_bodies(
    upstream: Upstream, tmp_path: Path
) -> None:
    told = "(~u /echo & ~m POST & !~bq unwanted & !~bs broken) | ~c 429 | ~e"
    output = tmp_path / "t.parquet"
    async with running_capture(output, "--upstream", upstream.url, "--filter", told) as proxy:
        await posts(proxy, "/echo?wanted", "/echo?unwanted", "/echo?broken")
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            assert (await client.get("/echo")).status_code == 200
            assert (await client.get("/refused")).status_code == 429
            packed = await client.post("/gzip", content=b"text" * 100)
            assert packed.content == b"text" * 100

            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(4):
                    yield b"unwanted upload "

            assert (await client.post("/echo", content=pieces())).content == b"unwanted upload " * 4
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/breaks", content=b"x")
        assert await proxy.stop() == 0, proxy.said
    assert [(row["path"], row["status"]) for row in rows_of(output)] == [
        ("/echo?wanted", 200),
        ("/refused", 429),
        ("/breaks", 200),
    ]
    assert rows_of(output)[0]["request_body"] == b"body of /echo?wanted"
    assert added_up(output)["not_chosen"] == {"filter": 5}
    assert metadata_of(output)["choice"] == {"filter": told}
    assert any("not chosen 5 (filter 5)" in line for line in proxy.said)


async def test_what_is_not_chosen_streams_as_ever_and_a_cut_off_is_decided_as_it_is(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = tmp_path / "t.parquet"
    async with (
        running_capture(output, "--upstream", upstream.url, "--filter", "~c 500 | ~u silent & !~s") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=60) as client,
    ):
        for path in ("/endless", "/endless?again"):
            async with client.stream("GET", path) as answer:
                pieces = answer.aiter_raw()
                assert await anext(pieces) == b"data: more\n\n"
        waits = asyncio.create_task(client.get("/silent"))
        await asyncio.sleep(0.3)
        assert await proxy.stop() == 0
        with pytest.raises(httpx.HTTPError):
            await waits
    (row,) = rows_of(output)
    assert (row["path"], row["outcome"]) == ("/silent", "in_flight")
    assert added_up(output) == {"seen": 3, "recorded": 1, "dropped": {}, "not_chosen": {"filter": 2}}


def chat(conversation: int, turn: int) -> list[dict[str, str]]:
    """The messages of a conversation's turn; the answers are the upstream's."""
    said = [{"role": "user", "content": f"question {conversation}"}]
    for later in range(turn):
        said += [
            {"role": "assistant", "content": "One two three four five"},
            {"role": "user", "content": f"and then {later}"},
        ]
    return said


async def test_a_sample_has_whole_conversations_however_they_are_named(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = tmp_path / "t.parquet"
    options = ("--sample", "40%", "--sample-seed", "s1", "--processes", "2")
    async with running_capture(output, "--upstream", upstream.url, *options) as proxy:
        for turn in range(3):
            async with httpx.AsyncClient(base_url=proxy.url) as client:
                for number in range(20):
                    model = {"model": f"c{number}"}
                    said = {**model, "messages": chat(number, turn)}
                    await client.post("/v1/chat/completions", json=said)
                    by_header = {**model, "messages": chat(0, 0)}
                    named = {"x-session-id": f"session {number}"}
                    await client.post("/v1/chat/completions", json=by_header, headers=named)
        assert await proxy.stop() == 0, proxy.said
    rows = rows_of(output)
    counts = added_up(output)
    by_conversation = Counter(
        (json.loads(row["request_body"])["model"], dict(_pairs(row)).get("x-session-id")) for row in rows
    )
    assert set(by_conversation.values()) == {3}, "all turns or none"
    assert 4 <= len(by_conversation) <= 28, "of 40 conversations"
    assert counts["seen"] == 120
    assert counts["not_chosen"] == {"sample": 120 - len(rows)}
    assert metadata_of(output)["sampling"] == "40% of sessions, seed s1"
    assert metadata_of(output)["choice"] == {"sample": 0.4, "sample_seed": "s1"}


def _pairs(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(pair["name"], pair["value"]) for pair in row["request_headers"]]


async def test_a_body_beyond_the_limit_passes_and_is_kept_as_its_size(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = tmp_path / "t.parquet"
    sizes = [10_000, 10_001, 3_000_000]  # the last one is passed on as it comes
    async with running_capture(output, "--upstream", upstream.url, "--max-body", "10kB") as proxy:
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            for size in sizes:
                body = os.urandom(size)
                assert (await client.post("/echo", content=body)).content == body
        assert await proxy.stop() == 0
    rows = rows_of(output)
    assert [(row["request_bytes"], row["response_bytes"]) for row in rows] == [(size, size) for size in sizes]
    kept = [(row["request_body"] is not None, row["response_body"] is not None) for row in rows]
    assert kept == [(True, True), (False, False), (False, False)]
    assert metadata_of(output)["choice"] == {"max_body_bytes": 10_000}


async def test_signals_pause_and_resume_and_the_trace_tells_when(upstream: Upstream, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    options = ("--upstream", upstream.url, "--processes", "2", "--paused")
    async with running_capture(output, *options) as proxy:

        async def switched(number: int, said: str) -> None:
            heard = len(proxy.said)
            for pid in processes_of(proxy):  # as `systemctl kill` does: only the first one listens
                os.kill(pid, number)
            await eventually(lambda: any(said in line for line in proxy.said[heard:]))

        await posts(proxy, *(f"/echo?before{n}" for n in range(4)))
        await switched(signal.SIGUSR1, "recording is on")
        client = httpx.AsyncClient(base_url=proxy.url)
        async with client, client.stream("GET", "/endless") as begun_while_on:
            await switched(signal.SIGUSR2, "recording is paused")
            await posts(proxy, *(f"/echo?between{n}" for n in range(4)))
            assert begun_while_on.status_code == 200
        await switched(signal.SIGUSR1, "recording is on")
        await posts(proxy, *(f"/echo?after{n}" for n in range(4)))
        await switched(signal.SIGUSR2, "recording is paused")
        assert await proxy.stop() == 0, proxy.said
    rows = rows_of(output)
    assert [row["path"] for row in rows] == ["/endless", *(f"/echo?after{n}" for n in range(4))]
    assert rows[0]["outcome"] == "client_aborted", "what came in while it was on is recorded to its end"
    assert added_up(output)["not_chosen"] == {"paused": 8}
    first, second = metadata_of(output)["recorded_ns"]
    assert first[0] <= rows[0]["arrival_ns"] < first[1] < second[0]
    assert all(second[0] <= row["arrival_ns"] < second[1] for row in rows[1:])


@pytest.mark.alone
async def test_a_capture_for_a_while_ends_by_itself(upstream: Upstream, tmp_path: Path) -> None:
    output = tmp_path / "t.parquet"
    async with running_capture(output, "--upstream", upstream.url, "--for", "700ms") as proxy:
        await posts(proxy, "/echo")
        assert await asyncio.wait_for(proxy.process.wait(), 30) == 0
    assert any(line.startswith("seen 1 · recorded 1") for line in proxy.said), "it is over, not paused"
    assert added_up(output)["recorded"] == 1
    ((start, end),) = metadata_of(output)["recorded_ns"]
    assert end - start >= 700_000_000
