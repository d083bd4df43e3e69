"""How long a diff of large runs takes: `python tests/benchmarks/diff/million.py -o FILE`.

The whole command as a user runs it, `peaktape diff A B`, bootstrap of 2,000 resamples included, from Parquet
files to the printed verdict, on one core: CPU seconds, wall seconds and the largest resident set of the
process. Then the same with `--json --html PAGE`, which finds distributions and shift functions, too. Beside
it, what only reading the same two files takes (`pyarrow.parquet.read_table`).
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from large_runs import write_run  # noqa: E402

READ = "import sys, pyarrow.parquet as pq\nfor path in sys.argv[1:]: pq.read_table(path, use_threads=False)"


def measured(*command: str) -> tuple[float, float, float]:
    """CPU s, wall s and the largest resident set in GiB of a command on the one core 0."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1", "NO_COLOR": "1"}
    began_s = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | one,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        raise RuntimeError(f"{command}: exit code {child.returncode}")
    return used.ru_utime + used.ru_stime, time.monotonic() - began_s, used.ru_maxrss / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--reads", type=float, default=24.0, help="reads of a stream, on average")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    lines = [
        "| requests × 2 arms | stream reads × 2 | says | CPU s | wall s | largest resident GiB "
        "| of reading alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for requests in given.requests:
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / f"{arm}.parquet") for arm in ("a", "b")]
            for path, label, slower in zip(paths, ("build-a", "build-b"), (1.0, 1.03), strict=True):
                seed = [1, ord(label[-1])]
                write_run(
                    Path(path), label, requests, given.reads, np.random.default_rng(seed), slower=slower
                )
            reading = min(measured("-c", READ, *paths) for _ in range(given.times))
            reads = round(0.55 * requests * given.reads / 1e6, 1)
            page = ("--json", "--html", str(Path(folder) / "diff.html"), "--overwrite")
            for says, options in (("the verdict", ()), ("page and JSON", page)):
                command = ("-m", "replay.cli", "diff", *paths, *options)
                cpu, wall, size = min(measured(*command) for _ in range(given.times))
                lines.append(
                    f"| {requests:,} | {reads:g} million | {says} | {cpu:.1f} | {wall:.1f} | {size:.2f} | "
                    f"{cpu / reading[0]:.1f}x |"
                )
                print(lines[-1], flush=True)
    machine = f"{platform.machine()}, Python {platform.python_version()}, best of {given.times}"
    text = "\n".join([*lines, "", f"`python tests/benchmarks/diff/million.py` · one core of {machine}"])
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
