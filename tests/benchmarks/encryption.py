"""What `--key` costs: `python tests/benchmarks/encryption.py`, each step plain and encrypted in turn.

Rows are chats of 11 KB with answers in 100 chunks. Times are CPU of this process, medians of nine turns; the
ratio is encrypted to plain in the same run. The files lie in the system's temporary folder. The sort spool of
importers is always encrypted: there, plain is the same cipher left out.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from capture.compaction import rows_in
from capture.encryption_keys import Keys
from capture.importers.sorted_spool import SortedSpool
from capture.importers.synthetic_prompt import WORDS
from capture.journal import Kind
from capture.journal_folder import JournalFolder, journals_in
from capture.row_frames import row_frame
from capture.sealing import opened_frames
from capture.trace_format import TRACE_SCHEMA, TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace

ROWS = 2_000
TURNS = 9
CHUNKS = 100
KEYS = Keys.of("env:K", {"K": "5a" * 32})


class Plain:
    """A cipher that does nothing."""

    def encrypt(self, _nonce: bytes, data: bytes, _more: bytes | None) -> bytes:
        return data

    decrypt = encrypt


def rows() -> list[dict[str, Any]]:
    """Chats whose turns share what was said before, as a server sees them."""
    chance, made, said = random.Random(1), list[dict[str, Any]](), ""
    for number in range(ROWS):
        said = said[-10_000:] if number % 10 else ""
        said += " ".join(chance.choices(WORDS, k=200 if number % 10 else 1_800))
        answer = " ".join(chance.choices(WORDS, k=CHUNKS)).encode()
        arrival_ns = number * 1_000_000
        stamps = [arrival_ns + 50_000_000 + at * 10_000_000 + chance.randrange(10**6) for at in range(CHUNKS)]
        row = dict.fromkeys(TRACE_SCHEMA.names)
        made.append(
            row
            | {
                "request_id": f"r{number}",
                "turn": 0,
                "arrival_ns": arrival_ns,
                "method": "POST",
                "scheme": "http",
                "host": "h:80",
                "path": "/v1/chat/completions",
                "http_version": "HTTP/1.1",
                "request_headers": [
                    ("content-type", "application/json"),
                    ("user-agent", "OpenAI/Python 1.60"),
                ],
                "request_body": json.dumps({"messages": [{"role": "user", "content": said}]}).encode(),
                "request_body_ns": arrival_ns,
                "outcome": "complete",
                "status": 200,
                "response_headers": [("content-type", "text/event-stream")],
                "response_body": answer,
                "response_bytes": len(answer),
                "first_byte_ns": stamps[0],
                "chunk_ns": stamps,
                "chunk_bytes": [len(answer) // CHUNKS] * CHUNKS,
                "end_ns": stamps[-1],
                "stream": True,
            }
        )
    return made


def cpu_s(work: Callable[[], object]) -> float:
    began_ns = time.process_time_ns()
    work()
    return (time.process_time_ns() - began_ns) / 1e9


def journaled(folder: Path, frames: list[list[Any]], keys: Keys | None) -> None:
    """A journal file of all rows, appended to some at a time, as the intake does."""
    for path in journals_in(folder):
        path.unlink()
    journal = JournalFolder(folder, keys)
    journal.begin([])
    for start in range(0, len(frames), 20):
        journal.append([part for frame in frames[start : start + 20] for part in frame])
    journal.close()


def sorted_through_disk(items: list[dict[str, Any]], *, plain: bool) -> None:
    spool = SortedSpool(held_bytes=4 << 20)
    if plain:
        spool._cipher = Plain()  # type: ignore[assignment]
    for at, item in enumerate(items):
        spool.add(-at, item, 12_000)
    for _ in spool:
        continue


def main() -> None:
    made = rows()
    batches = [batch_of(made[start : start + 200]) for start in range(0, ROWS, 200)]
    frames = [row_frame(Kind.END, row) for row in made]
    body_bytes = sum(len(row["request_body"]) + len(row["response_body"]) for row in made)
    size = f"{body_bytes / ROWS / 1000:.1f} KB of bodies each"
    print(f"{ROWS:,} rows, {size}; {TURNS} turns; pyarrow {pa.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = {keys: folder / f"{keys is None}.parquet" for keys in (None, KEYS)}
        journal = {keys: folder / f"journal-{keys is None}" for keys in (None, KEYS)}
        for place in journal.values():
            place.mkdir()

        def read_journal(keys: Keys | None) -> None:
            for path in journals_in(journal[keys]):
                for _ in rows_in(opened_frames(path.read_bytes(), keys, str(path))):
                    continue

        def write(keys: Keys | None) -> None:
            write_trace(trace[keys], batches, TraceMetadata(0, "benchmark"), overwrite=True, keys=keys)

        def read(keys: Keys | None) -> None:
            for _ in open_trace(trace[keys], keys).iter_batches():
                continue

        steps: dict[str, Callable[[Keys | None], object]] = {
            "write a trace": write,
            "read a trace": read,
            "append to the journal": lambda keys: journaled(journal[keys], frames, keys),
            "read the journal": read_journal,
            "importers' sort spool": lambda keys: sorted_through_disk(made, plain=keys is None),
        }
        print(f"\n{'µs of CPU per row':24s}{'plain':>8s}{'encrypted':>11s}{'ratio':>7s}{'from … to':>15s}")
        for what, work in steps.items():
            took = [{keys: cpu_s(lambda: work(keys)) for keys in (None, KEYS)} for _ in range(TURNS)]  # noqa: B023
            plain, secret = (statistics.median(turn[keys] for turn in took) for keys in (None, KEYS))
            ratios = sorted(turn[KEYS] / turn[None] for turn in took)
            shown = f"{ratios[0]:.2f} … {ratios[-1]:.2f}"
            each = [f"{value / ROWS * 1e6:.1f}" for value in (plain, secret)]
            print(f"{what:24s}{each[0]:>8s}{each[1]:>11s}{statistics.median(ratios):>7.2f}{shown:>15s}")
        sizes = {keys: path.stat().st_size for keys, path in trace.items()}
        ratio = sizes[KEYS] / sizes[None]
        print(f"\ntrace: {sizes[None]:,} bytes plain, {sizes[KEYS]:,} encrypted ({ratio:.3f})")


if __name__ == "__main__":
    main()
