"""SIGKILL at random instants, of the proxy, of all processes at once, of the recorder or the compactor alone.

    python tests/capture/test_killed_captures.py 100    # that many instants, instead of the few below

What a client has had an answer for is a row; what was under way is one too; nothing is there twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from capture_rig import (
    Proxy,
    Upstream,
    eventually,
    processes_of,
    rows_of,
    running_capture,
    running_upstream,
    sha256,
)

from capture.failures import BadInput
from replay.cli.recovering import recover

pytestmark = pytest.mark.slow

CLIENTS = 5
SEED = 20_26


class Clients:
    """Clients that ask until they are stopped; `answered` and `asked` hold the names of their requests."""

    def __init__(self, url: str, chance: np.random.Generator) -> None:
        self._url = url
        self._bodies = [chance.bytes(int(size)) for size in (10, 3_000, 100_000)]
        self.asked: set[str] = set()
        self.answered: set[str] = set()
        self.wrong = 0

    async def echo(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as client:
            with contextlib.suppress(httpx.HTTPError):
                for count in range(1_000_000):
                    name, body = f"{number}-{count}", self._bodies[count % len(self._bodies)]
                    answer = await client.post(f"/echo?n={name}", content=body)
                    self.wrong += sha256(answer.content) != sha256(body)
                    self.answered.add(name)

    async def watch_an_endless_stream(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=10) as client:
            with contextlib.suppress(httpx.HTTPError):
                async with client.stream("GET", "/endless?n=endless") as answer:
                    async for _ in answer.aiter_raw():
                        self.asked.add("endless")

    async def upload_slowly(self) -> None:
        async def body() -> Any:
            yield b"begun"
            await asyncio.sleep(0.5)  # by then it has reached even a proxy that gets little of its core
            self.asked.add("slow")
            await asyncio.sleep(60)

        async with httpx.AsyncClient(base_url=self._url, timeout=100) as client:
            with contextlib.suppress(httpx.HTTPError):
                await client.post("/echo?n=slow", content=body())

    @contextlib.asynccontextmanager
    async def working(self) -> Any:
        work = [self.echo(number) for number in range(CLIENTS)]
        tasks = [
            asyncio.create_task(it) for it in (*work, self.watch_an_endless_stream(), self.upload_slowly())
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def kill(proxy: Proxy, whom: str) -> None:
    """SIGKILL to the proxy alone, or to all processes of the capture at one instant."""
    victims = processes_of(proxy)
    for pid in victims:  # stopped first: none sees another die
        os.kill(pid, signal.SIGSTOP)
    for pid in victims if whom == "all" else victims[:1]:
        os.kill(pid, signal.SIGKILL)
    for pid in victims[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def names_in(trace: Path) -> list[str]:
    return [row["path"].partition("?n=")[2] for row in rows_of(trace)]


async def killed_once(upstream: Upstream, folder: Path, chance: np.random.Generator, whom: str) -> None:
    """A capture that is killed at a random instant; raises AssertionError unless its trace is complete."""
    output = folder / "prod.parquet"
    async with running_capture(output, "--upstream", upstream.url, "--segment-s", "0.3") as proxy:
        clients = Clients(proxy.url, chance)
        async with clients.working():
            await asyncio.sleep(chance.uniform(0.05, 1.2))
            kill(proxy, whom)
            asked, answered = set(clients.asked), set(clients.answered)
            await proxy.process.wait()
    try:
        recover(str(output))
    except BadInput:
        assert not asked | answered, "killed before a request had come in"
        return
    names = names_in(output)
    assert clients.wrong == 0
    assert (asked | answered) - set(names) == set(), "lost"
    assert len(names) == len(set(names)), "doubled"
    assert set(os.listdir(folder)) <= {"prod.parquet", "config"}, "left lying about"


@pytest.mark.parametrize("whom", ["proxy", "all"])
async def test_a_capture_killed_at_a_random_instant_loses_nothing(
    tmp_path: Path, whom: str, spools: Path
) -> None:
    chance = np.random.default_rng(SEED)
    async with running_upstream() as upstream:
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            await killed_once(upstream, folder, chance, whom)
            assert os.listdir(spools) == []


async def test_killing_recorder_and_compactor_again_and_again_loses_nothing_and_no_client_notices(
    tmp_path: Path, spools: Path
) -> None:
    chance = np.random.default_rng(SEED)
    output = tmp_path / "prod.parquet"
    async with (
        running_upstream() as upstream,
        running_capture(output, "--upstream", upstream.url, "--segment-s", "0.2") as proxy,
    ):
        clients = Clients(proxy.url, chance)
        async with clients.working():
            for _ in range(8):
                await asyncio.sleep(chance.uniform(0.1, 0.9))
                victims = processes_of(proxy)[1:]
                if victims:
                    os.kill(victims[int(chance.integers(len(victims)))], signal.SIGKILL)
        await eventually(lambda: len(processes_of(proxy)) > 1)
        assert await proxy.stop() == 0
    assert os.listdir(spools) == []
    names = names_in(output)
    assert clients.wrong == 0
    assert clients.answered - set(names) == set(), "lost"
    assert len(names) == len(set(names)), "doubled"


async def test_the_same_command_after_a_kill_goes_on_with_the_same_trace(tmp_path: Path) -> None:
    output = tmp_path / "prod.parquet"
    async with running_upstream() as upstream:
        for number in range(3):
            async with (
                running_capture(output, "--upstream", upstream.url) as proxy,
                httpx.AsyncClient(base_url=proxy.url) as client,
            ):
                await client.post(f"/echo?n=capture-{number}", content=b"kept")
                if number < 2:
                    kill(proxy, ("all", "proxy")[number])
                    await proxy.process.wait()
                else:
                    assert await proxy.stop() == 0
    assert names_in(output) == ["capture-0", "capture-1", "capture-2"]


async def _many(count: int, folder: Path) -> None:
    chance = np.random.default_rng()
    async with running_upstream() as upstream:
        for number in range(count):
            whom = ("proxy", "all")[number % 2]
            place = folder / str(number)
            place.mkdir()
            await killed_once(upstream, place, chance, whom)
            print(f"{number + 1} of {count}: {whom} killed, nothing lost", flush=True)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_many(int(sys.argv[1]), Path(name)))
