"""What a capture costs, beside mitmdump, the same proxy without a recorder, and no proxy at all, in one run.

    python tests/benchmarks/capture/costs.py [--only throughput,share,…] [--write]

Ways are alive side by side and take turns, so that what else the machine does meets all alike; medians of the
turns are shown. Client and server are bare asyncio protocols on another core than the proxy. `--write` puts
the tables into RESULTS.md beside this file. Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import platform
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import hook_share  # noqa: E402
import load  # noqa: E402
import ways  # noqa: E402
from chats import chat_requests  # noqa: E402

from capture.trace_format import STORED_AS  # noqa: E402

_BUSY_US = 1200
"""About what a proxy takes of a core for a request, see the table of requests a second."""


@dataclasses.dataclass
class Table:
    """A titled table, cells as text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, "", *(note + "\n" for note in self.notes)])


@contextlib.contextmanager
def all_ways(folder: Path) -> Iterator[dict[str, ways.Way]]:
    """Everything that is compared, alive, each proxy on the proxies' core; we are on the other one."""
    with ways.server() as up, contextlib.ExitStack() as stack:
        found = {"no proxy": ways.Way("no proxy", up, None)}
        makers: dict[str, Callable[[], contextlib.AbstractContextManager[ways.Way]]] = {
            "mitmdump": lambda: ways.mitmdump(up, folder),
            "mitmdump -w": lambda: ways.mitmdump(up, folder, "-w", str(folder / "flows.mitm")),
            "slim, not recording": lambda: ways.slim(up, folder),
            "capture, paused": lambda: ways.capture(up, folder / "none.parquet", "--paused"),
            "peaktape capture": lambda: ways.capture(up, folder / "one.parquet"),
            "capture, all on one core": lambda: ways.capture(up, folder / "other.parquet"),
        }
        with ways.on_core(ways.PROXY_CORE):
            found |= {name: stack.enter_context(make()) for name, make in makers.items()}
        found["capture, paused"].free_children()
        found["peaktape capture"].free_children()
        with ways.on_core(ways.OTHER_CORE):
            yield found


def costs_of(alive: dict[str, ways.Way], turns: int) -> dict[str, list[tuple[float, float, float]]]:
    """Of each way and turn: requests/s, CPU µs a request in the proxy, and in its children."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for way in alive.values():
        load.closed_loop(way.port, 1)
    for _ in range(turns):
        for name, way in random.sample(list(alive.items()), len(alive)):
            before = way.cpu_s()
            rate = load.closed_loop(way.port, 1)  # for a second: as many requests
            time.sleep(1.5)  # the children come after: what waits is the same turn's
            own, others = (after - b for after, b in zip(way.cpu_s(), before, strict=True))
            found.setdefault(name, []).append((rate, 1e6 * own / rate, 1e6 * others / rate))
    return found


def throughput(folder: Path, turns: int) -> Table:
    """Requests a second of 16 clients that ask at once again, and CPU time for each."""
    table = Table(
        "Requests a second, 5 KB posts, 16 connections",
        (
            "way",
            "requests/s",
            "of mitmdump's",
            "CPU µs/request, proxy",
            "of slim's (median of turns, quartiles)",
            "CPU µs/request, its children",
        ),
    )
    with all_ways(folder) as all_:
        found = costs_of(all_, turns)
    middle = {name: [median(column) for column in zip(*turn, strict=True)] for name, turn in found.items()}
    slim = [own for _, own, _ in found["slim, not recording"]]
    for name in all_:
        rate, own, others = middle[name]
        beside = [turn[1] / base for turn, base in zip(found[name], slim, strict=True)]
        low, half, high = np.quantile(beside, [0.25, 0.5, 0.75])
        bare = name == "no proxy"
        table.rows.append(
            (
                name,
                f"{rate:,.0f}",
                f"{rate / middle['mitmdump'][0]:.2f}x",
                "–" if bare else f"{own:,.0f}",
                "–" if bare else f"{half:.2f}x ({low:.2f}–{high:.2f})",
                "–" if bare else f"{others:,.0f}",
            )
        )
    table.notes.append(
        "Every proxy has the same one core. Paused, a capture passes bodies on as they come, as a recording "
        "one does; slim holds them until they are whole. The children are the recorder's process (meaning, "
        "redaction, journal) and the compactor's (Parquet): they may run on any core, but for the last line."
    )
    return table


def streams(folder: Path, turns: int) -> Table:
    """From the server's writing of a chunk to its arrival at the client."""
    table = Table(
        "Delay of a stream's chunks, 20 streams at once, a chunk each 50 ms",
        ("way", "p50 ms", "p99 ms", "max ms", "p50 − direct's"),
    )
    found: dict[str, list[load.Int64]] = {}
    with all_ways(folder) as all_:
        for _ in range(turns):
            for name, way in all_.items():
                found.setdefault(name, []).append(load.stream_delays(way.port, 20, 60, 50))
    direct = 0.0
    for name, parts in found.items():
        p50, p99 = np.quantile(np.concatenate(parts), [0.5, 0.99]) / 1e6
        direct = p50 if name == "no proxy" else direct
        most = np.concatenate(parts).max() / 1e6
        table.rows.append((name, f"{p50:.2f}", f"{p99:.2f}", f"{most:.1f}", f"{p50 - direct:+.2f}"))
    table.notes.append("mitmdump buffers streams: its chunks arrive with the last.")
    return table


def stamps(folder: Path, turns: int) -> Table:
    """How far a recorded arrival lies from the sending, and a bare server's stamp."""
    table = Table(
        "Arrival stamps at 200 requests/s: recorded arrival − sent",
        ("who stamps", "requests", "p50 ms", "p99 ms", "max ms"),
    )
    output = folder / "stamps.parquet"
    sent: dict[str, list[load.Int64]] = {}
    with (
        ways.server() as up,
        ways.stamp_server() as bare,
        ways.stamp_server(_BUSY_US) as busy,
        ways.capture(up, output) as way,
    ):
        marker = Path(f"{output}.segments/.capture.json")
        zero_ns = json.loads(marker.read_text())["zero_ns"]
        ports = {
            "peaktape capture": way.port,
            "a bare server on the same loop": bare.port,
            f"the same, each request {_BUSY_US:,} µs of arithmetic": busy.port,
        }
        with ways.on_core(ways.OTHER_CORE):
            for turn in range(turns + 1):  # the first is to warm up
                for name, port in ports.items():
                    sent.setdefault(name, []).append(load.constant_rate(port, 200, 10.0 if turn else 1.0))
        noted = [one.stamps_ns() for one in (bare, busy)]
    arrivals = pq.read_table(output, columns=["arrival_ns"])["arrival_ns"].to_numpy() + zero_ns
    for name, found in zip(ports, (np.sort(arrivals), *noted), strict=True):
        # Each comes 5 ms after the other, on a connection of its own: they may not overtake.
        errors = (found - np.concatenate(sent[name]))[len(sent[name][0]) :] / 1e6
        p50, p99 = np.quantile(errors, [0.5, 0.99])
        table.rows.append((name, f"{len(errors):,}", f"{p50:.2f}", f"{p99:.2f}", f"{errors.max():.2f}"))
    table.notes.append(
        "They take turns of ten seconds. The bare server does nothing but stamp and answer: what its stamps "
        "are late by is the client's, the machine's and the event loop's. What has some work to do for each "
        "request, as a proxy has, is late by what a core that the host slows adds to it, too."
    )
    return table


def memory(folder: Path, turns: int) -> Table:
    """Resident memory of the proxy and its children as requests go by."""
    table = Table("Memory (resident), MB", ("after", "proxy", "recorder", "compactor"))

    def note(after: str, way: ways.Way) -> None:
        found = [f"{mb:.0f}" for mb in way.rss_mb()]
        table.rows.append((after, *found, *["–"] * (3 - len(found))))

    with ways.server() as up, ways.capture(up, folder / "memory.parquet") as way:
        note("start", way)
        for thousands in (10, 20, 40, 60, 80, 100)[: 2 * turns]:
            step = 20 if thousands > 20 else 10
            load.closed_loop(way.port, 170, count=step * 1000)
            note(f"{thousands},000 requests", way)
        load.stream_delays(way.port, 200, 100, 100)
        note("200 streams at once, of 100 chunks", way)
    return table


def size(folder: Path, turns: int) -> Table:
    """What a trace of chats takes on disk."""
    table = Table("Size of a trace of multi-turn chats", ("of", "bytes", "in the trace", "ratio"))
    count = 1000 * turns
    output = folder / "size.parquet"
    bodies = list(chat_requests(count))
    with ways.server() as up, ways.capture(up, output) as way:
        load.posts(way.port, bodies)
        load.stream_delays(way.port, 100, 200, 20, kind="chat")
    file = pq.ParquetFile(output)
    stored: dict[str, int] = {}
    for group in range(file.num_row_groups):
        for at in range(file.metadata.num_columns):
            column = file.metadata.row_group(group).column(at)
            name = column.path_in_schema.split(".")[0]
            stored[name] = stored.get(name, 0) + column.total_compressed_size
    gaps = STORED_AS["chunk_ns"]
    rows = file.read(columns=["request_body", "response_body", gaps]).to_pylist()
    asked = sum(len(row["request_body"] or b"") for row in rows)
    answered = sum(len(row["response_body"] or b"") for row in rows)
    chunks = sum(len(row[gaps]) for row in rows)
    for name, raw, column in (
        ("request bodies", asked, "request_body"),
        ("response bodies", answered, "response_body"),
    ):
        table.rows.append((name, f"{raw:,}", f"{stored[column]:,}", f"{stored[column] / raw:.4f}x"))
    whole = output.stat().st_size
    table.rows.append(
        (
            "the file, of all bodies",
            f"{asked + answered:,}",
            f"{whole:,}",
            f"{whole / (asked + answered):.4f}x",
        )
    )
    per_stamp = stored[gaps] / chunks
    table.rows.append((f"{chunks:,} chunk stamps", "–", f"{stored[gaps]:,}", f"{per_stamp:.2f} B each"))
    return table


def shards(folder: Path, turns: int) -> Table:
    """One proxy against two, with nothing pinned: client and server take their share of the same cores."""
    table = Table("`--processes`, 64 connections", ("processes", "requests/s", "CPU µs/request, all proxies"))
    found: dict[int, list[tuple[float, float]]] = {}
    with ways.server() as up, contextlib.ExitStack() as stack:
        alive = {
            number: stack.enter_context(
                ways.capture(up, folder / f"shards{number}.parquet", "--processes", str(number))
            )
            for number in (1, 2)
        }
        for _ in range(turns):
            for number, way in alive.items():
                load.closed_loop(way.port, 0.5, connections=64)
                before = way.cpu_s()
                rate = load.closed_loop(way.port, 3, connections=64)
                used = sum(way.cpu_s()) - sum(before)
                found.setdefault(number, []).append((rate, 1e6 * used / (3 * rate)))
    for number, parts in found.items():
        rate, used = (median(column) for column in zip(*parts, strict=True))
        table.rows.append((str(number), f"{rate:,.0f}", f"{used:,.0f}"))
    table.notes.append(f"On {len(ways.CORES)} cores, which client and server and the recorder need as well.")
    return table


def elsewhere(folder: Path, turns: int) -> Table:
    """One proxy against two, each with a bounded share of a core, so that all else has room beside them."""
    share = 0.25
    table = Table(
        f"`--processes`, each proxy with {share:.0%} of a core, 64 connections",
        ("processes", "requests/s", "of one's", "CPU of all proxies, cores", "of the recorder and compactor"),
    )
    found: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
    with ways.server() as up:
        for number in [1, 2] * turns:
            output = folder / f"elsewhere{number}-{len(found[number])}.parquet"
            with ways.capture(up, output, "--processes", str(number)) as way:
                load.closed_loop(way.port, 60, connections=64, count=1500)  # until all of them have started
                proxies = [pid for pid in way.processes() if ways.is_proxy(pid)]
                if len(proxies) != number:
                    raise RuntimeError(f"{len(proxies)} proxies found, {number} wanted")
                try:
                    with ways.bounded(proxies, share):
                        load.closed_loop(way.port, 1, connections=64)
                        before = way.cpu_s_of(proxies), sum(way.cpu_s())
                        rate = load.closed_loop(way.port, 5, connections=64)
                        own, every = way.cpu_s_of(proxies) - before[0], sum(way.cpu_s()) - before[1]
                except OSError as error:
                    table.notes.append(
                        f"Not measured: no control groups of version 1 here ({error.strerror})."
                    )
                    return table
                found[number].append((rate, own / 5, (every - own) / 5))
    one = median(rate for rate, _, _ in found[1])
    for number, parts in found.items():
        rate, own, others = (median(column) for column in zip(*parts, strict=True))
        table.rows.append((str(number), f"{rate:,.0f}", f"{rate / one:.2f}x", f"{own:.2f}", f"{others:.2f}"))
    table.notes.append(
        "An emulation of proxies on cores of their own: client, server and recorder don't compete with them. "
        "It shows that nothing which the proxies share is a bottleneck at these rates; it doesn't show what "
        "two full cores would do to each other's caches, nor where the one recorder is the limit."
    )
    return table


def share(folder: Path, turns: int) -> Table:
    """The share of a capture's CPU time that its hooks take."""
    table = Table("Recording's hooks, of the proxy's CPU time", ("hook", "share", "of all else"))
    told = folder / "told"
    with ways.server() as up, contextlib.ExitStack() as stack:
        with ways.on_core(ways.PROXY_CORE):
            way = stack.enter_context(ways.capture(up, folder / "share.parquet", told=told))
        way.free_children([ways.OTHER_CORE])  # nobody takes the core from the proxy within a hook
        with ways.on_core(ways.OTHER_CORE):
            load.closed_loop(way.port, 2)
            first = len(told.read_text().splitlines())
            load.closed_loop(way.port, 5 * turns)
    found = hook_share.shares(told, first)
    for name, part in found.items():
        table.rows.append((name, f"{part:.1%}", ""))
    whole = sum(found.values())
    table.rows.append(("all", f"{whole:.1%}", f"{whole / (1 - whole):.1%}"))
    table.notes.append(
        "The proxy alone on its core. Timed within one process at work: depends little on what else the "
        "machine does; it leaves out what recording costs outside of its hooks."
    )
    return table


def options(folder: Path, turns: int) -> Table:
    """What choosing, encrypting and pseudonymising cost where they happen."""
    table = Table(
        "What options cost",
        ("`peaktape capture`", "CPU µs/request, proxy", "of none", "CPU µs/request, its children", "of none"),
    )
    key, policy = folder / "key", folder / "policy.yml"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    policy.write_text("contents: {prompts: pseudonymise, completions: pseudonymise}\n")
    given: dict[str, list[str]] = {
        "no option": [],
        "`--filter '~u /v1/ & ~m POST'`": ["--filter", "~u /v1/ & ~m POST"],
        "`--filter '~bq word'`": ["--filter", "~bq word"],
        "`--sample 10%`": ["--sample", "10%"],
        "`--key`": ["--key", f"file:{key}"],
        "`--policy`: pseudonymise both": ["--policy", str(policy)],
    }
    with ways.server() as up, contextlib.ExitStack() as stack:
        with ways.on_core(ways.PROXY_CORE):
            alive = {
                name: stack.enter_context(ways.capture(up, folder / f"option{at}.parquet", *chosen))
                for at, (name, chosen) in enumerate(given.items())
            }
        for way in alive.values():
            way.free_children()
        with ways.on_core(ways.OTHER_CORE):
            found = costs_of(alive, turns)
    plain = found["no option"]
    for name in given:
        _, own, others = (median(column) for column in zip(*found[name], strict=True))
        ratios = [
            median(turn[at] / base[at] for turn, base in zip(found[name], plain, strict=True))
            for at in (1, 2)
        ]
        table.rows.append((name, f"{own:,.0f}", f"{ratios[0]:.2f}x", f"{others:,.0f}", f"{ratios[1]:.2f}x"))
    table.notes.append(
        "Medians of turns of a second: on a machine whose speed wanders, less than a fifth is no difference."
    )
    return table


SECTIONS: dict[str, Callable[[Path, int], Table]] = {
    made.__name__: made
    for made in (throughput, share, options, streams, stamps, memory, size, shards, elsewhere)
}


def main() -> None:
    """Measure what was asked for; print the tables and, if asked to, put them into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    for name in chosen.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            table = SECTIONS[name](Path(folder), chosen.turns)
        print(table.markdown(), flush=True)
        if chosen.write:
            write(name, table, f"python tests/benchmarks/capture/costs.py {' '.join(sys.argv[1:])}")


def write(name: str, table: Table, command: str) -> None:
    """Replace the section `name` of RESULTS.md, which holds the others as they are."""
    path = HERE / "RESULTS.md"
    text = path.read_text() if path.exists() else "# What a capture costs\n\nMade by `costs.py`, see there.\n"
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    where = f"{len(ways.CORES)} cores, Python {platform.python_version()}, {platform.machine()}"
    made = f"`{command}` · {datetime.now(UTC):%Y-%m-%d} · {where}"
    section = f"{begin}{table.markdown()}\n{made}\n{end}"
    if begin in text:
        before, _, rest = text.partition(begin)
        text = before + section + rest.partition(end)[2]
    else:
        text += "\n" + section
    path.write_text(text)


if __name__ == "__main__":
    main()
