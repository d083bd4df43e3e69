"""Several proxies on one address, into one trace."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from capture_rig import (
    children_of,
    eventually,
    metadata_of,
    rows_of,
    running_capture,
    running_upstream,
    sha256,
)

pytestmark = pytest.mark.slow


async def echoes(url: str, count: int, start: int = 0) -> None:
    """One connection each: the kernel deals them out."""

    async def one(number: int) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            body = b"%d" % number * 1000
            assert sha256((await client.post("/echo", content=body)).content) == sha256(body)

    await asyncio.gather(*(one(number) for number in range(start, start + count)))


async def test_what_all_proxies_saw_is_one_trace_also_when_one_is_killed(
    tmp_path: Path, spools: Path
) -> None:
    output = tmp_path / "prod.parquet"
    options = ("--processes", "3", "--segment-s", "0.5")
    async with (
        running_upstream() as upstream,
        running_capture(output, "--upstream", upstream.url, *options) as proxy,
    ):
        await echoes(proxy.url, 40)
        shards = [pid for pid in children_of(proxy.process.pid) if b"capture.shards" in _command(pid)]
        assert len(shards) == 2
        os.kill(shards[0], signal.SIGKILL)
        await eventually(lambda: any("died" in line for line in proxy.said))
        await eventually(lambda: len(list(spools.glob("*/*.listens"))) == 3)
        await echoes(proxy.url, 40, start=40)
        assert await proxy.stop() == 0
    bodies = sorted(row["request_body"] for row in rows_of(output))
    assert bodies == sorted(b"%d" % number * 1000 for number in range(80))
    assert metadata_of(output)["counts"] == {"seen": 80, "recorded": 80, "dropped": {}}
    ids = {row["request_id"].partition("-")[0] for row in rows_of(output)}
    assert len(ids) >= 3, "the kernel dealt them out"
    assert os.listdir(spools) == []


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_an_address_in_use_is_refused_though_it_could_be_shared(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AssertionError, match="ended with 2"):
            async with running_capture(
                tmp_path / "t.parquet",
                *("--upstream", "http://127.0.0.1:9", "--processes", "2", "--listen", address),
            ):
                pass
    assert not (tmp_path / "t.parquet.segments").exists()
