"""Hold-outs of amplification on real traces, as RESULTS.md has them; run it as a script, without arguments.

Needs the public traces beside the checkout (see tests/importers/real_files.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[3])]

from replay.transform.amplification.amplify import Amplify  # noqa: E402
from replay.transform.amplification.holdout import hold_out  # noqa: E402
from replay.transform.amplification.settling import settled  # noqa: E402
from replay.transform.burst_curve import WINDOWS_S, dispersion_curve, target_dispersion  # noqa: E402
from replay.transform.draws import key_of  # noqa: E402
from replay.transform.rows import Rows  # noqa: E402
from tests.transform.test_holdout import azure_conversations, nasa_hosts  # noqa: E402

FACTORS = (1.5, 2, 4, 10, 20)
METHODS = ("jitter", "tied", "speed", "superposition", "traceupscaler", "resample")
THINNINGS = 12
MARKS = {"within": "", "within chance": " ~", "off": " **off**"}


def main() -> None:
    """Print one table per trace."""
    for name, rows in (("Azure conversations", azure_conversations()), ("NASA hosts", nasa_hosts())):
        print(f"\n{name}\n")
        print_hold_outs(rows, [("auto", factor) for factor in FACTORS] + [(method, 4) for method in METHODS])
        print_thinned(rows, (0.3, 0.05))


def print_thinned(rows: Rows, factors: Iterable[float], draws_of: int = 40) -> None:
    """Factors below 1: the dispersion of so many draws against C + f (IDC − C), and its standard error."""
    print("\n| factor |", " | ".join(f"dispersion, {window_s:g}s" for window_s in WINDOWS_S), "|")
    print("|---" * (len(WINDOWS_S) + 1) + "|")
    rng = np.random.default_rng(0)
    span_ns = int(rows.due_ns[-1])
    for factor in factors:
        target = target_dispersion(rows.due_ns, rows.session, factor)
        curves = []
        for _ in range(draws_of):
            (step,) = settled([Amplify(factor, key_of(rng))], lambda: [rows], span_ns, len(rows))
            curves.append(dispersion_curve(step.apply(rows).due_ns) / target)
        error = np.std(curves, axis=0, ddof=1) / np.sqrt(draws_of)
        cells = (
            f"{ratio:.2f} ± {one:.2f}" for ratio, one in zip(np.mean(curves, axis=0), error, strict=True)
        )
        print(f"| {factor:g} |", " | ".join(cells), "|", flush=True)


def print_hold_outs(rows: Rows, tried: Iterable[tuple[str, float]], seed: int = 0) -> None:
    """One line per method and factor."""
    for nth, (method, factor) in enumerate(tried):
        found = hold_out(rows, factor, method, THINNINGS, seed)
        if not nth:
            print("| method, factor |", " | ".join(one.name for one in found.compared), "|")
            print("|---" * (len(found.compared) + 1) + "|")
        cells = (f"{one.ratio:.2f} ± {one.error:.2f}{MARKS[one.verdict]}" for one in found.compared)
        print(f"| {method} {factor:g} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
