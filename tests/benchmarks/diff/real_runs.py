"""Verdicts on real vLLM runs: `python tests/benchmarks/diff/real_runs.py FOLDER -o FILE`.

FOLDER holds the CSV files of AIBrix's regression benchmark (vllm-project/aibrix, Apache-2.0), one per variant
and rate. Requests are paired by user and question. The variants differ in their router, so the truth is not
known: shown is what each judge says, the run against itself, and whether a judge contradicts itself when both
arms change places.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1] / "analysis")]

from aibrix_runs import read_results  # noqa: E402
from alarms import mann_whitney, single_requests, threshold  # noqa: E402

from capture.failures import BadInput  # noqa: E402
from replay.analysis.diff import compare  # noqa: E402
from replay.analysis.metrics import Latencies  # noqa: E402
from replay.analysis.pairing import Pairs, pair  # noqa: E402
from replay.analysis.run_table import RunTable  # noqa: E402

HEAD = (
    "| requests/s | baseline → candidate | pairs | peaktape | the other way round | bootstrap of requests, "
    "both ways | Mann–Whitney, both ways | threshold 5 %, both ways |\n|---|---|---|---|---|---|---|---|"
)


def verdict(before: RunTable, after: RunTable) -> str:
    rng = np.random.default_rng(0)
    return compare(before, after, tolerance=0.05, rng=rng, allow_invalid=True).verdict.value


def both(judge: object, before: RunTable, after: RunTable) -> str:
    said = [judge(before, after), judge(after, before)]  # type: ignore[operator]
    return ", ".join("regression" if one else "–" for one in said)


def paired(pairs: Pairs, before: RunTable, after: RunTable) -> str:
    ratio = Latencies(after).e2e_ns("due")[pairs.candidate] / Latencies(before).e2e_ns("due")[pairs.baseline]
    return f"{100 * (np.exp(np.nanmedian(np.log(ratio))) - 1):+.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rates", nargs="*", default=["0.9", "2.1", "2.9", "4.1"])
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    lines = [HEAD]
    for rate in given.rates:
        arms = {
            path.name.removesuffix(f"_output_{rate}.csv"): path
            for path in sorted(given.folder.glob(f"*_output_{rate}.csv"))
        }
        baseline = read_results(arms["naive"], "naive")
        for name, path in arms.items():
            candidate = read_results(path, name)
            try:
                pairs = pair(baseline, candidate)
            except BadInput as failure:
                lines.append(f"| {rate} | naive → {name} | – | refused: {failure} | | | | |")
                continue
            typical = paired(pairs, baseline, candidate)
            lines.append(
                f"| {rate} | naive → {name} (median pair {typical}) | {len(pairs)} "
                f"| {verdict(baseline, candidate)} | {verdict(candidate, baseline)} "
                f"| {both(lambda a, b: single_requests(a, b, 0), baseline, candidate)} "
                f"| {both(mann_whitney, baseline, candidate)} | {both(threshold, baseline, candidate)} |"
            )
            print(lines[-1], flush=True)
    if given.output:
        given.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
