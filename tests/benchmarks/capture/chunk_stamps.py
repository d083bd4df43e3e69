"""How far recorded stamps of a stream's chunks lie from their sending; and how late clients had them.

    python tests/benchmarks/capture/chunk_stamps.py [--streams 20,200] [--turns 3] [--write]

A server says in each chunk when it wrote it. What a trace holds of it is when the proxy's kernel had it; a
client behind the proxy has it once the proxy has worked for all that came before, and one without a proxy as
soon as its own loop looks. Proxy and recorder have a core, client and server the other. Not a test: nothing
is asserted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import costs  # noqa: E402
import load  # noqa: E402
import ways  # noqa: E402

from capture.trace_reader import open_trace  # noqa: E402

CHUNKS, GAP_MS = 60, 50.0
SETTLE_S = 2.0


def recorded_errors(trace: Path, zero_ns: int) -> load.Int64:
    """Of each chunk of a trace: its stamp − the sending of the last event in it, ns."""
    found = []
    for batch in open_trace(trace).iter_batches():
        rows = pa.Table.from_batches([batch]).select(["response_body", "chunk_ns", "chunk_bytes"]).to_pylist()
        for row in rows:
            ends = np.cumsum(row["chunk_bytes"])
            for end, at_ns in zip(ends, row["chunk_ns"], strict=True):
                last = row["response_body"][:end].rstrip().rpartition(b"data: ")[2]
                found.append(at_ns + zero_ns - int(last))
    return np.array(found, np.int64)


def table_of(streams: list[int], turns: int) -> costs.Table:
    """A line for each number of streams at once."""
    table = costs.Table(
        f"Stamps of a stream's chunks, one each {GAP_MS:g} ms: − their sending",
        ("streams at once", "what", "chunks", "p50 ms", "p99 ms", "max ms"),
    )
    for count in streams:
        with tempfile.TemporaryDirectory() as name, ways.server() as up:
            trace = Path(name) / "chunks.parquet"
            direct, through = [], []
            with ways.on_core(ways.PROXY_CORE), ways.capture(up, trace) as way, ways.on_core(ways.OTHER_CORE):
                marker = Path(f"{trace}.segments/.capture.json")
                zero_ns = json.loads(marker.read_text())["zero_ns"]
                for _ in range(turns):
                    direct.append(load.stream_delays(up, count, CHUNKS, GAP_MS))
                    through.append(load.stream_delays(way.port, count, CHUNKS, GAP_MS))
                time.sleep(SETTLE_S)
            found = {
                "recorded": recorded_errors(trace, zero_ns),
                "at a client, through the proxy": np.concatenate(through),
                "at a client, without one": np.concatenate(direct),
            }
        for what, each in found.items():
            p50, p99 = np.quantile(each, [0.5, 0.99]) / 1e6
            table.rows.append(
                (str(count), what, f"{len(each):,}", f"{p50:.3f}", f"{p99:.2f}", f"{each.max() / 1e6:.1f}")
            )
    table.notes.append(
        "A trace keeps stamps in steps of 10 µs. Chunks that one read of the proxy brings are one, with the "
        "stamp of the last."
    )
    return table


def main() -> None:
    """Measure; print the table and, if asked to, put it into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", default="20,200")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    table = table_of([int(count) for count in chosen.streams.split(",")], chosen.turns)
    print(table.markdown())
    if chosen.write:
        command = f"python tests/benchmarks/capture/chunk_stamps.py {' '.join(sys.argv[1:])}"
        costs.write("chunk stamps", table, command)


if __name__ == "__main__":
    main()
