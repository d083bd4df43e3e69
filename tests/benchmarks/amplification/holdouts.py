"""Hold-outs of amplification on real traces, as RESULTS.md has them; run it as a script, without arguments.

Needs the public traces beside the checkout (see tests/importers/real_files.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3])]

from replay.transform.amplification.holdout import hold_out  # noqa: E402
from tests.transform.test_holdout import azure_conversations, nasa_hosts  # noqa: E402

FACTORS = (1.5, 2, 4, 10, 20)
METHODS = ("auto", "jitter", "tied", "speed", "superposition", "traceupscaler", "resample")
THINNINGS = 12
MARKS = {"within": "", "within chance": " ~", "off": " **off**"}


def main() -> None:
    """Print one table per trace."""
    for name, rows in (("Azure conversations", azure_conversations()), ("NASA hosts", nasa_hosts())):
        print(f"\n{name}\n")
        for method, factors in ((one, FACTORS if one == "auto" else (4,)) for one in METHODS):
            for factor in factors:
                found = hold_out(rows, factor, method, THINNINGS, seed=0)
                if method == "auto" and factor == FACTORS[0]:
                    print("| method, factor |", " | ".join(one.name for one in found.compared), "|")
                    print("|---" * (len(found.compared) + 1) + "|")
                cells = (f"{one.ratio:.2f} ± {one.error:.2f}{MARKS[one.verdict]}" for one in found.compared)
                print(f"| {method} {factor:g} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
