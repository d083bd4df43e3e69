"""How steady are the cores that everything runs on? Some seconds of arithmetic on each, nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

from processes import SENDER_CORE, SERVER_CORE, on_core
from server import compiled

SECONDS = 3


def steadiness(programs: Path) -> list[str]:
    """A line for the senders' core and one for the server's; none without a compiler."""
    program = compiled("cpu_speed", programs)
    if program is None:
        return []
    lines = []
    for name, core in (("the senders' core", SENDER_CORE), ("the server's core", SERVER_CORE)):
        with on_core(core):
            said = subprocess.run([program, str(SECONDS)], check=True, capture_output=True, text=True).stdout
        median, p99, slow, longest, own = map(float, said.split())
        lines.append(
            f"- {name}, {SECONDS} s of nothing but the same arithmetic again and again: "
            f"{median / 1e3:.1f} µs a piece, p99 {p99 / 1e3:.1f}; {slow:.1f} % of the time at less than half "
            f"that speed, {longest:.0f} ms at a stretch, the thread having the core for {own:.1f} %"
        )
    return lines
