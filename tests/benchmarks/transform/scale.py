"""How fast and in how much memory a large trace is amplified: ours, a plain copy, DuckDB and Polars.

    python tests/benchmarks/transform/scale.py --rows 30000000 --factor 3.5

Each contender is a process of its own, timed from start to exit, with the peak of its resident memory. The
plain copy reads our schedule in batches and writes it again, encoded alike: what a transformation can at best
cost. DuckDB and Polars do the same: clone each request, shift clones by a uniform draw mirrored at zero,
number sessions by hash, sort by (due, row, copy), write all seven columns as Parquet with snappy (zstd made
both slower). Turns of a session are linked by ours alone: with `--turns` the others do less.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from capture.trace_format import METADATA_KEY, TRACE_SCHEMA, TraceMetadata

GROUP_ROWS = 1 << 18
JITTER_S = 1.0


def generate(path: Path, rows: int, per_s: float, turns: int, seed: int = 1) -> None:
    """A trace of `rows` requests with gamma gaps (CV 2) at `per_s`; `turns` > 1 gives chats of so many."""
    rng = np.random.default_rng(seed)
    metadata = {METADATA_KEY: TraceMetadata(0, "generated").to_json()}
    schema = TRACE_SCHEMA.with_metadata(metadata)
    at_ns = 0
    instants = ("arrival_ns", "end_ns", "request_body_ns")
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=["method", "scheme", "host", "path", "http_version", "outcome"],
        column_encoding=dict.fromkeys(instants, "DELTA_BINARY_PACKED"),
    ) as writer:
        for first in range(0, rows, GROUP_ROWS):
            n = min(GROUP_ROWS, rows - first)
            gaps = rng.gamma(0.25, 4e9 / per_s, n).astype(np.int64)
            arrival = at_ns + np.cumsum(gaps)
            at_ns = int(arrival[-1])
            writer.write_batch(_batch(rng, schema, first, arrival, turns), row_group_size=GROUP_ROWS)


def _batch(
    rng: np.random.Generator, schema: pa.Schema, first: int, arrival: np.ndarray, turns: int
) -> pa.RecordBatch:
    n = len(arrival)
    constant = {
        "turn": 0,
        "method": "POST",
        "scheme": "http",
        "host": "127.0.0.1:8000",
        "path": "/v1/completions",
        "http_version": "HTTP/1.1",
        "request_body": b"{}",
        "outcome": "complete",
        "status": 200,
        "response_bytes": 2,
        "stream": False,
        "request_bytes": 2,
        "input_tokens": 9,
        "output_tokens": 9,
    }
    lists = {"request_headers", "response_headers", "chunk_ns", "chunk_bytes"}
    columns = []
    for field in schema:
        if field.name in constant:
            column = pa.repeat(pa.scalar(constant[field.name], field.type), n)
        elif field.name in lists:
            offsets = pa.array(np.zeros(n + 1, np.int32))
            column = pa.ListArray.from_arrays(offsets, pa.array([], field.type.value_type))
        elif field.name == "arrival_ns":
            column = pa.array(arrival)
        elif field.name == "end_ns":
            column = pa.array(arrival + rng.integers(10_000_000, 2_000_000_000, n))
        elif field.name == "request_body_ns":
            column = pa.array(arrival + 1000)
        elif field.name == "request_id":
            column = _numbered("r", np.arange(first, first + n))
        elif field.name == "session_id" and turns > 1:
            # A turn's session is one of those under way: those begun in the last 200,000 requests.
            session = np.maximum(np.arange(first, first + n) - rng.integers(0, 200_000, n), 0) // turns
            column = _numbered("session-", session, digits=24)
        else:
            column = pa.nulls(n, field.type)
        columns.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _numbered(prefix: str, numbers: np.ndarray, digits: int = 0) -> pa.Array:
    """Names, such as r17, without a Python object for each."""
    return pc.binary_join_element_wise(
        prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), digits, "0"), ""
    )


def copy(source: Path, output: Path) -> None:
    """Read a schedule in batches, write it again, encoded alike."""
    from replay.transform.schedule_format import ENCODING

    file = pq.ParquetFile(source)
    with pq.ParquetWriter(output, file.schema_arrow, **ENCODING) as writer:
        for batch in file.iter_batches(batch_size=1 << 20):
            writer.write_batch(batch)


def ours(source: Path, output: Path, factor: float, method: str = "jitter") -> None:
    """`peaktape transform`, as a user runs it, by the method that the others can do as well."""
    from replay.cli import main

    amplify = ["--amplify", str(factor), "--method", method, "--jitter", f"{JITTER_S}s"]
    sys.argv = ["peaktape", "transform", str(source), "-o", str(output), *amplify, "--seed", "1"]
    main()


def auto(source: Path, output: Path, factor: float) -> None:
    """`peaktape transform` by its default method: a pass to measure the arrivals, and fitted shifts."""
    ours(source, output, factor, "auto")


def duckdb(source: Path, output: Path, factor: float) -> None:
    """The same in SQL; all memory and processors of the machine are DuckDB's."""
    import duckdb as database

    connection = database.connect(config={"temp_directory": str(output.parent)})
    unit = "(hash(row, copy, 7) >> 11)::DOUBLE * pow(2, -53)"
    extra = f"CASE WHEN (hash(row, 3) >> 11)::DOUBLE * pow(2, -53) < {factor % 1} THEN 1 ELSE 0 END"
    moved = f"abs(due + round((2 * {unit} - 1) * {JITTER_S * 1e9})::BIGINT)"
    encoding = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION snappy, ROW_GROUP_SIZE 1048576"
    connection.execute(f"""
    COPY (
        WITH base AS (
            SELECT arrival_ns - (SELECT min(arrival_ns) FROM read_parquet('{source}')) AS due,
                   file_row_number AS row
            FROM read_parquet('{source}', file_row_number=true)
        ), numbered AS (
            SELECT due, row, unnest(range(0, {int(factor)} + {extra})) AS copy FROM base
        )
        SELECT CASE WHEN copy = 0 THEN due ELSE {moved} END AS due_ns,
               row, copy::INTEGER AS copy, (hash(row, copy) >> 1)::BIGINT AS session,
               (-1)::BIGINT AS after, 0::BIGINT AS think_ns, 0::TINYINT AS phase
        FROM numbered ORDER BY due_ns, row, copy
    ) TO '{output}' ({encoding})""")


def polars(source: Path, output: Path, factor: float) -> None:
    """The same in Polars' streaming engine; all memory and processors of the machine are Polars'."""
    import polars as pl

    unit = (pl.struct("row", "copy").hash(7) // 2**11).cast(pl.Float64) * 2.0**-53
    shift = ((2 * unit - 1) * (JITTER_S * 1e9)).round().cast(pl.Int64)
    extra = ((pl.col("row").hash(3) // 2**11).cast(pl.Float64) * 2.0**-53 < factor % 1).cast(pl.Int64)
    frame = pl.scan_parquet(source).select("arrival_ns").with_row_index("row")
    first = pl.scan_parquet(source).select(pl.col("arrival_ns").min()).collect().item()
    frame = (
        frame.select((pl.col("arrival_ns") - first).alias("due"), pl.col("row").cast(pl.Int64))
        .with_columns(pl.int_ranges(0, int(factor) + extra).alias("copy"))
        .explode("copy")
        .filter(pl.col("copy").is_not_null())
        .select(
            pl.when(pl.col("copy") == 0)
            .then(pl.col("due"))
            .otherwise((pl.col("due") + shift).abs())
            .alias("due_ns"),
            "row",
            pl.col("copy").cast(pl.Int32),
            (pl.struct("row", "copy").hash(1) // 2).cast(pl.Int64).alias("session"),
            pl.lit(-1, pl.Int64).alias("after"),
            pl.lit(0, pl.Int64).alias("think_ns"),
            pl.lit(0, pl.Int8).alias("phase"),
        )
        .sort("due_ns", "row", "copy")
    )
    frame.sink_parquet(output, compression="snappy", row_group_size=1 << 20, engine="streaming")


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in GiB of this file run as a process; raises where it fails."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: ended with {process.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, cpu_s, usage.ru_maxrss / 2**20


def main() -> None:
    """Generate, run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000, help="requests of the trace")
    parser.add_argument("--factor", type=float, default=3.5)
    parser.add_argument("--per-s", type=float, default=2000.0, help="requests/s of the trace")
    parser.add_argument("--turns", type=int, default=1, help="turns of a session; 1: no sessions")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; the median counts")
    parser.add_argument("--folder", type=Path, default=Path("peaktape-scale"), help="where files go")
    parser.add_argument("--only", help="comma-separated: ours,copy,duckdb,polars,auto")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        one(*chosen.run)
        return
    chosen.folder.mkdir(parents=True, exist_ok=True)
    trace = chosen.folder / f"trace-{chosen.rows}-{chosen.per_s:g}-{chosen.turns}.parquet"
    if not trace.exists():
        print(f"generating {trace}", flush=True)
        generate(trace, chosen.rows, chosen.per_s, chosen.turns)
    measure(chosen, trace)


def measure(chosen: argparse.Namespace, trace: Path) -> None:
    """Rounds over the contenders, in turn, and their medians."""
    schedule = chosen.folder / "ours.parquet"
    names = chosen.only.split(",") if chosen.only else ["ours", "copy", "duckdb", "polars", "auto"]
    for name in [name for name in names if name in ("duckdb", "polars")]:
        if importlib.util.find_spec(name) is None:
            print(f"{name}: skipped, not installed (uv pip install {name})")
            names.remove(name)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(chosen.repeat):
        for name in names:
            source = schedule if name == "copy" else trace
            output = schedule if name == "ours" else chosen.folder / f"{name}.parquet"
            output.unlink(missing_ok=True)
            found[name].append(timed(["--run", name, str(source), str(output), str(chosen.factor)]))
            print(f"  {name}: {found[name][-1][0]:.1f} s, CPU {found[name][-1][1]:.1f} s", flush=True)
            if name != "ours":
                output.unlink(missing_ok=True)
    rows = pq.read_metadata(schedule).num_rows
    print(
        f"{chosen.rows:,} requests, {chosen.turns} turn(s) a session, x {chosen.factor:g} = {rows:,} rows\n"
    )
    print("| | s | million rows/s | of the copy | CPU s | of the copy's CPU | peak GiB |")
    print("|---|---|---|---|---|---|---|")
    medians = {name: np.median(runs, axis=0) for name, runs in found.items()}
    for name, (wall_s, cpu_s, _) in medians.items():
        copied = medians.get("copy", np.full(3, np.nan))
        peak = max(run[2] for run in found[name])
        print(
            f"| {name} | {wall_s:.1f} | {rows / wall_s / 1e6:.2f} | {copied[0] / wall_s:.2f} | {cpu_s:.1f} "
            f"| {copied[1] / cpu_s:.2f} | {peak:.2f} |"
        )


def one(name: str, source: str, output: str, factor: str) -> None:
    """One contender, in this process."""
    if name == "copy":
        copy(Path(source), Path(output))
    else:
        {"ours": ours, "auto": auto, "duckdb": duckdb, "polars": polars}[name](
            Path(source), Path(output), float(factor)
        )


if __name__ == "__main__":
    main()
