"""How often `ab` calls a change of the error rate, looking after every pair: `python looks.py -o FILE`.

Both builds fail alike first (every call is a false alarm), then the candidate fails more. Errors come one by
one, or the rate wanders from run to run, or in incidents that hit some runs. Beside: the interval for normal
differences of run rates alone, as `ab` took it before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from replay.analysis.interleaved import ERRORS_TOLERATED, Count, error_rate_interval
from replay.analysis.sequential import anytime_interval

type Errors = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
"""Counts of failed requests per pair of runs (columns) and arm (rows)."""


def alone(scheduled: int, rate: float, more: float = 1.0) -> Errors:
    return lambda rng, shape: rng.binomial(scheduled, rate * np.array([[1.0], [more]]), shape)


def wandering(scheduled: int, rate: float) -> Errors:
    """The rate of a run is Beta-distributed with a deviation as large as its mean."""
    a = 1.0 - 2.0 * rate
    return lambda rng, shape: rng.binomial(scheduled, rng.beta(a, a * (1.0 - rate) / rate, shape))


def incidents(scheduled: int, share: float, failing: float) -> Errors:
    """In a `share` of the runs `failing` of the requests fail, else none."""
    return lambda rng, shape: rng.binomial(scheduled, np.where(rng.random(shape) < share, failing, 0.0))


def exactly(share: float, failed: int) -> Errors:
    """In a `share` of the runs the same number fails, as when each restart cuts off what is in flight."""
    return lambda rng, shape: np.where(rng.random(shape) < share, failed, 0)


ALIKE: dict[str, tuple[int, Errors]] = {
    "0.1 % of 100": (100, alone(100, 0.001)),
    "0.3 % of 100": (100, alone(100, 0.003)),
    "1 % of 100": (100, alone(100, 0.01)),
    "5 % of 100": (100, alone(100, 0.05)),
    "0.1 % of 1,000": (1000, alone(1000, 0.001)),
    "1 % of 1,000": (1000, alone(1000, 0.01)),
    "1 % of 1,000, wandering by as much": (1000, wandering(1000, 0.01)),
    "30 % of 1,000 in one run of five": (1000, incidents(1000, 0.2, 0.3)),
    "exactly 8 of 1,000 in every other run": (1000, exactly(0.5, 8)),
}
WORSE: dict[str, tuple[int, Errors]] = {
    "1 → 3 % of 1,000": (1000, alone(1000, 0.01, 3.0)),
    "1 → 10 % of 100": (100, alone(100, 0.01, 10.0)),
    "0.1 → 2 % of 1,000": (1000, alone(1000, 0.001, 20.0)),
}


def first_call(failed: np.ndarray, scheduled: int, alpha: float) -> tuple[int | None, int | None]:
    """The pair after which a change is called, by `ab` and by the normal interval alone."""
    arms: list[list[Count]] = [[(int(count), scheduled) for count in arm] for arm in failed]
    ours = normal = None
    for n in range(2, failed.shape[1] + 1):
        if ours is None:
            mean, low, high = error_rate_interval(arms[0][:n], arms[1][:n], alpha)
            ours = n if (low > 0.0 or high < 0.0) and abs(mean) > ERRORS_TOLERATED else None
        if normal is None:
            mean, low, high = anytime_interval((failed[1, :n] - failed[0, :n]) / scheduled, alpha)
            normal = n if (low > 0.0 or high < 0.0) and abs(mean) > ERRORS_TOLERATED else None
    return ours, normal


def row(name: str, scheduled: int, errors: Errors, given: argparse.Namespace) -> str:
    rng = np.random.default_rng([given.seed, sum(map(ord, name))])
    found = [first_call(errors(rng, (2, given.pairs)), scheduled, given.alpha) for _ in range(given.times)]
    cells = []
    for judge in range(2):
        called = [n for each in found if (n := each[judge]) is not None]
        after = f", after {np.median(called):.0f} pairs" if called else ""
        cells.append(f"{100 * len(called) / len(found):.3g} %{after}")
    return f"| {name} | {len(found)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=12, help="looks, from the second pair on")
    parser.add_argument("--alpha", type=float, default=0.05, help="as if errors were all that is judged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    lines = ["| errors of a run | times | `ab` | normal interval alone |", "|---|---|---|---|"]
    for cases in (ALIKE, WORSE):
        for name, (scheduled, errors) in cases.items():
            lines.append(row(name, scheduled, errors, given))
            print(lines[-1], flush=True)
    if given.output:
        given.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
