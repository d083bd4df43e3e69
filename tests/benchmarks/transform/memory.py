"""How much memory each kind of transformation takes, and `inspect`: peaks at several sizes of a trace.

    python tests/benchmarks/transform/memory.py --rows 10000000,30000000

Each run is a process of its own, `peaktape` as a user runs it. What is bounded grows by a few bytes a row at
most; the last column says by how many from the smallest to the largest trace.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from scale import generate

KINDS = {
    "speed": "--speed 5",
    "amplify": "--amplify 1.05 --method jitter",
    "auto": "--amplify 1.05",
    "line": "--shape 'line points=0s:0.5/50%:1.5/100%:1'",
    "stairs": "--shape 'stairs from=1,to=2,steps=4'",
    "bursts": "--shape 'bursts cv=3'",
    "endpoint": "--spike at=50%,for=10%,x=3,endpoint=/v1/completions",
    "mix": "--mix x=1.2,min_input_tokens=5 --mix x=1.1,endpoint=/v1/*",
    "all": "--speed 5 --amplify 1.05 --spike at=50%,for=10%,x=3",
    "inspect": "",
    "pair": "--amplify 1.05 --method jitter",
}


def peak_gib(kind: str, trace: Path, output: Path) -> float:
    """The peak of resident memory in GiB of one run; raises where it fails."""
    output.unlink(missing_ok=True)
    command = ["transform", str(trace), "-o", str(output), *shlex.split(KINDS[kind])]
    if kind == "pair":
        arguments = [sys.executable, "-m", "replay.cli", *command]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        command = ["inspect", str(trace), str(output), "--no-plots"]
    elif kind == "inspect":
        command = ["inspect", str(trace), "--no-plots"]
    arguments = [sys.executable, "-m", "replay.cli", *command]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    output.unlink(missing_ok=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return usage.ru_maxrss / 2**20


def main() -> None:
    """Generate what is missing, run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", default="1000000,3000000", help="comma-separated sizes of the trace")
    parser.add_argument("--turns", type=int, default=1, help="turns of a session; 1: no sessions")
    parser.add_argument("--only", default=",".join(KINDS), help="comma-separated kinds")
    parser.add_argument("--folder", type=Path, default=Path("peaktape-scale"), help="where files go")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    sizes = [int(rows) for rows in chosen.rows.split(",")]
    traces = [chosen.folder / f"trace-{rows}-2000-{chosen.turns}.parquet" for rows in sizes]
    for rows, trace in zip(sizes, traces, strict=True):
        if not trace.exists():
            print(f"generating {trace}", flush=True)
            generate(trace, rows, 2000.0, chosen.turns)
    print(f"| GiB | {' | '.join(f'{rows:,} rows' for rows in sizes)} | bytes a row more |")
    print(f"|---|{'---|' * len(sizes)}---|")
    for kind in chosen.only.split(","):
        peaks = [peak_gib(kind, trace, chosen.folder / "memory.parquet") for trace in traces]
        slope = (peaks[-1] - peaks[0]) * 2**30 / max(1, sizes[-1] - sizes[0])
        print(f"| {kind} | {' | '.join(f'{peak:.2f}' for peak in peaks)} | {slope:.1f} |", flush=True)


if __name__ == "__main__":
    main()
