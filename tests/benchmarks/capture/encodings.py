"""Bytes that a chunk's stamp takes on disk, by form and encoding, on made streams and on given traces.

    python tests/benchmarks/capture/encodings.py [TRACE…] [--write]

Each is written as a trace's column is: zstd level 3, row groups of 1,000 rows. The entropy of the gaps in µs
(as draws of their own) says what no encoding that looks at one gap at a time can go below. `--write` puts the
table into RESULTS.md beside this file. Not a test: nothing is asserted.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from costs import Table, write  # noqa: E402

from capture.trace_reader import open_trace  # noqa: E402
from capture.trace_writer import ROW_GROUP_ROWS  # noqa: E402

Int64 = npt.NDArray[np.int64]
Streams = list[tuple[int, Int64]]
"""Of each row the first byte's instant and its chunks', ns."""

SAMPLE = HERE.parents[2] / "samples" / "demo-traffic.parquet"
ROWS = 2000
MADE: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.float64]]] = {
    "made: each 20 ms, ± 0.3 ms": lambda chance, n: chance.normal(20e6, 0.3e6, n).clip(0),
    "made: 25 ms ± 10 %, 3 % stalls of 120 ms": lambda chance, n: (
        chance.lognormal(np.log(25e6), 0.1, n) + (chance.random(n) < 0.03) * chance.exponential(120e6, n)
    ),
    "made: 35 ms, CV 0.5": lambda chance, n: chance.gamma(4, 35e6 / 4, n),
    "made: over the internet, 1 of 5 bunched": lambda chance, n: np.where(
        chance.random(n) < 0.2, chance.exponential(0.2e6, n), chance.exponential(40e6, n)
    ),
}


def made(gaps_of: Callable[[np.random.Generator, int], npt.NDArray[np.float64]]) -> Streams:
    """Answers of 120 chunks on average."""
    chance = np.random.default_rng(1)
    begins = np.sort(chance.integers(0, ROWS * 50_000_000, ROWS))
    streams = []
    for begin in begins.tolist():
        gaps = gaps_of(chance, int(chance.geometric(1 / 120)))
        gaps[0] = chance.integers(20_000, 3_000_000)
        streams.append((begin, begin + np.cumsum(gaps).astype(np.int64)))
    return streams


def recorded(trace: str) -> Streams:
    """A trace's own."""
    opened = open_trace(trace)
    columns = (opened.column(name).to_pylist() for name in ("first_byte_ns", "arrival_ns", "chunk_ns"))
    return [
        (arrival if begin is None else begin, np.array(chunks, np.int64))
        for begin, arrival, chunks in zip(*columns, strict=True)
    ]


def forms(streams: Streams) -> Iterator[tuple[str, str, pa.Array]]:
    """What is stored, the encoding (or a dictionary), and the lists."""
    us = [(chunks - begin + 500) // 1000 for begin, chunks in streams]
    gaps = [np.diff(row, prepend=0) for row in us]
    absolute = pa.array([chunks for _, chunks in streams], pa.list_(pa.int64()))
    since = pa.array(us, pa.list_(pa.int64()))
    of_gaps = pa.array(gaps, pa.list_(pa.int64()))
    yield "instants, ns", "DELTA_BINARY_PACKED", absolute
    yield "µs since first byte", "DELTA_BINARY_PACKED", since
    yield "gaps, µs", "PLAIN", of_gaps
    yield "gaps, µs", "dictionary", of_gaps
    yield "gaps, µs", "DELTA_BINARY_PACKED", of_gaps
    yield "gaps, µs, as doubles", "BYTE_STREAM_SPLIT", of_gaps.cast(pa.list_(pa.float64()))
    yield "gaps, µs", "BYTE_STREAM_SPLIT", of_gaps
    ten = [np.diff(row // 10, prepend=0) for row in us]
    yield "gaps, 10 µs", "DELTA_BINARY_PACKED", pa.array(ten, pa.list_(pa.int64()))


def stored_bytes(lists: pa.Array, encoding: str) -> int:
    """The column's size in a file."""
    options: dict[str, Any] = {"use_dictionary": True}
    if encoding != "dictionary":
        options = {"use_dictionary": False, "column_encoding": {"x.list.element": encoding}}
    file = io.BytesIO()
    pq.write_table(
        pa.table({"x": lists}),
        file,
        compression="zstd",
        compression_level=3,
        row_group_size=ROW_GROUP_ROWS,
        write_batch_size=64,
        **options,
    )
    found = pq.ParquetFile(file).metadata
    return sum(found.row_group(i).column(0).total_compressed_size for i in range(found.num_row_groups))


def entropy_bytes(streams: Streams) -> float:
    """Of the gaps in µs as they are distributed, in bytes a gap."""
    gaps = np.concatenate([np.diff((chunks - begin + 500) // 1000, prepend=0) for begin, chunks in streams])
    counts = np.unique(gaps, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum() / 8)


def main() -> None:
    """Print the table and, if asked to, put it into RESULTS.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", nargs="*", default=[str(SAMPLE)])
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    sources = {Path(trace).name: recorded(trace) for trace in chosen.traces}
    sources |= {name: made(gaps_of) for name, gaps_of in MADE.items()}
    table = Table("Bytes a chunk stamp, by form and encoding", ("streams", "stamps", "entropy"))
    for name, streams in sources.items():
        count = sum(len(chunks) for _, chunks in streams)
        sizes = {f"{form}, {how}": stored_bytes(lists, how) / count for form, how, lists in forms(streams)}
        table.columns = (*table.columns[:3], *sizes)
        cells = (f"{size:.2f}" for size in sizes.values())
        table.rows.append((name, f"{count:,}", f"{entropy_bytes(streams):.2f}", *cells))
    table.notes.append(
        "A trace has gaps in steps of 10 µs under DELTA_BINARY_PACKED; format 1 had instants in ns. Gaps in "
        "µs under BYTE_STREAM_SPLIT are as small, but few readers know that encoding of whole numbers yet "
        "(DuckDB 1 does not)."
    )
    print(table.markdown())
    if chosen.write:
        write("encodings", table, f"python tests/benchmarks/capture/encodings.py {' '.join(sys.argv[1:])}")


if __name__ == "__main__":
    main()
