"""What recording adds to a proxy's CPU time, whatever mood the machine is in: ways in turn, in bursts.

    python tests/benchmarks/capture/paired.py [--only posts,streams] [--seconds 60] [--write]

Proxies that record and proxies that don't are alive at once, on the same core. A client asks one of them for
a burst of some tens of ms, then the next, in an order drawn anew for each round; the CPU time of each is read
before and after its own bursts. A slow bout of the host lasts longer than a round, so it meets all alike, and
what is compared is within a round: the median over rounds of a way's time by that of the same proxy without
a recorder, with a 95 % interval (percentile bootstrap over rounds). Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import costs  # noqa: E402
import load  # noqa: E402
import ways  # noqa: E402

BASE = "slim, passing on"
CONNECTIONS = 8
POSTS = 64
CHUNKS = 100
GAP_MS = 1.0
SETTLE_S = 0.003
"""A proxy has work left when its client has the last byte; its CPU time stands still after that."""
HELD = "capture, recording, its recorder stopped meanwhile"
CHECK_S = 0.03
IDLE_S = 0.002
"""A recorder that takes no more CPU time than this between two checks waits for work."""
RESAMPLES = 2000
SEED = 20_26

Float64 = npt.NDArray[np.float64]


class _Asker(asyncio.Protocol):
    """A connection that is kept: `ask` returns when the answer is whole."""

    def __init__(self, is_whole: Callable[[bytes], bool]) -> None:
        self._is_whole = is_whole
        self._heard = b""
        self._over: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if self._over is not None and self._is_whole(self._heard):
            if not self._heard.startswith(b"HTTP/1.1 200"):
                self._over.set_exception(RuntimeError(self._heard[:200].decode("latin-1")))
            else:
                self._over.set_result(None)
            self._heard, self._over = b"", None

    async def ask(self, request: bytes) -> None:
        self._over = over = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await over

    def close(self) -> None:
        self._transport.abort()


def _is_whole_post(heard: bytes) -> bool:
    head, end, body = heard.partition(b"\r\n\r\n")
    at = head.lower().find(b"content-length:")
    return bool(end) and len(body) >= int(head[at + 15 :].split(b"\r\n")[0])


def _is_whole_stream(heard: bytes) -> bool:
    return heard.endswith(b"0\r\n\r\n")


async def _posts(askers: list[_Asker]) -> int:
    async def some(asker: _Asker) -> None:
        for _ in range(POSTS // CONNECTIONS):
            await asker.ask(load.post())

    await asyncio.gather(*map(some, askers))
    return POSTS


async def _streams(askers: list[_Asker]) -> int:
    request = b"GET /chat/%d/%g HTTP/1.1\r\nHost: h\r\n\r\n" % (CHUNKS, GAP_MS)
    await asyncio.gather(*(asker.ask(request) for asker in askers))
    return len(askers) * CHUNKS


KINDS: dict[str, tuple[Callable[[bytes], bool], Callable[[list[_Asker]], Awaitable[int]]]] = {
    "posts": (_is_whole_post, _posts),
    "streams": (_is_whole_stream, _streams),
}


async def _rounds(alive: list[ways.Way], kind: str, seconds: float) -> Float64:
    """CPU µs a post (or chunk) of each proxy, by round (rows) and way (columns)."""
    is_whole, burst = KINDS[kind]
    loop = asyncio.get_running_loop()
    chance = np.random.default_rng(SEED)
    askers: list[list[_Asker]] = []
    for way in alive:
        made = [
            await loop.create_connection(lambda: _Asker(is_whole), "127.0.0.1", way.port)
            for _ in range(CONNECTIONS)
        ]
        askers.append([asker for _, asker in made])
        for _ in range(5):
            await burst(askers[-1])
    found: list[list[float]] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        row = [0.0] * len(alive)
        for at in chance.permutation(len(alive)):
            way, is_held = alive[at], alive[at].name == HELD
            await asyncio.sleep(SETTLE_S)
            pids = [way.pid or 0]
            with ways.stopped(way.processes()[1:] if is_held else []):
                before_s = way.cpu_s_of(pids)
                count = await burst(askers[at])
                await asyncio.sleep(SETTLE_S)
                row[at] = 1e6 * (way.cpu_s_of(pids) - before_s) / count
            await _children_are_done(way)
        found.append(row)
    for asker in (asker for each in askers for asker in each):
        asker.close()
    return np.array(found)


async def _children_are_done(way: ways.Way) -> None:
    """Return when the recorder has nothing left to do: it works for its own way's burst alone."""
    known_s = -1.0
    for _ in range(100 if len(way.processes()) > 1 else 0):
        _, now_s = way.cpu_s()
        if now_s - known_s < IDLE_S:
            return
        known_s = now_s
        await asyncio.sleep(CHECK_S)


@contextlib.contextmanager
def all_ways(folder: Path) -> Iterator[list[ways.Way]]:
    """The proxies that are compared, on one core; their children, server and client on the other."""
    with ways.server() as up, contextlib.ExitStack() as stack:
        with ways.on_core(ways.PROXY_CORE):
            alive = [
                stack.enter_context(ways.slim(up, folder, passing_on=True, name=BASE)),
                stack.enter_context(ways.slim(up, folder, name="slim, holding bodies until whole")),
                stack.enter_context(
                    ways.capture(up, folder / "none.parquet", "--paused", name="capture, paused")
                ),
                stack.enter_context(ways.capture(up, folder / "one.parquet", name="capture, recording")),
                stack.enter_context(ways.capture(up, folder / "other.parquet", name=HELD)),
            ]
        for way in alive:
            way.free_children([ways.OTHER_CORE])
        with ways.on_core(ways.OTHER_CORE):
            yield alive


def interval(ratios: Float64, chance: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the median of `ratios`, by the percentile bootstrap."""
    drawn = chance.choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def table_of(kind: str, seconds: float) -> costs.Table:
    """The table of one kind of traffic."""
    per = "post" if kind == "posts" else "chunk"
    what = "5 KB posts" if kind == "posts" else f"streams of {CHUNKS} chunks"
    table = costs.Table(
        f"What recording adds to the proxy, {what}: paired bursts",
        ("way", f"CPU µs a {per} (median)", "of the same proxy without recorder (95 % interval)"),
    )
    with tempfile.TemporaryDirectory() as name, all_ways(Path(name)) as alive:
        found = uvloop.run(_rounds(alive, kind, seconds))
        chance = np.random.default_rng(SEED)
        for at, way in enumerate(alive):
            ratios = found[:, at] / found[:, 0]
            low, high = interval(ratios, chance)
            told = "1" if way.name == BASE else f"{np.median(ratios):.3f} ({low:.3f}–{high:.3f})"
            table.rows.append((way.name, f"{np.median(found[:, at]):,.1f}", told))
    table.notes.append(
        f"{len(found)} rounds of a burst each; CPU time of the proxy's process alone. “{BASE.capitalize()}” "
        "is the slim proxy with streams passed on chunk by chunk, as one that records has to; by itself it "
        "holds them. A recorder at work on the other core takes caches, and execution units where both cores "
        "are threads of one, from the proxy: the last line has it stopped during its proxy's bursts."
    )
    return table


def main() -> None:
    """Measure what was asked for; print the tables and, if asked to, put them into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    for kind in chosen.only.split(","):
        table = table_of(kind, chosen.seconds)
        print(table.markdown(), flush=True)
        if chosen.write:
            command = f"python tests/benchmarks/capture/paired.py {' '.join(sys.argv[1:])}"
            costs.write(f"paired {kind}", table, command)


if __name__ == "__main__":
    main()
