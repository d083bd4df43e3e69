"""How steady are the cores that everything runs on?

Before all: some seconds of arithmetic on each, nothing else. And while each sender runs, the same piece of
work again and again on its core, as long as nobody else wants it; the server tells the same of its own. So it
is known in which tenths of a second the machine was as fast as ever.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from loads import Instants
from processes import SENDER_CORE, SERVER_CORE, on_core
from server import compiled

SECONDS = 3
EVERY_US = 2000
BLOCK_NS = 100_000_000
SLOW_RATIO = 2.5
"""Two hardware threads of one core make each other slower by up to 2; that is no bout."""

Speed = tuple[Instants, Instants]
"""Instants, and how long the same piece of work took then, in ns."""


@contextlib.contextmanager
def watching(programs: Path, path: Path) -> Iterator[int]:
    """Watch the senders' core while the block runs, from a process whose number it gets (0: none can be).

    `read_speed(path)` afterwards.
    """
    program = compiled("cpu_speed", programs)
    if program is None:
        yield 0
        return
    with on_core(SENDER_CORE):
        child = subprocess.Popen([program, str(EVERY_US), str(path)], stdin=subprocess.PIPE)
    assert child.stdin is not None
    try:
        yield child.pid
    finally:
        child.stdin.close()
        child.wait(10)


def read_speed(path: Path) -> Speed:
    """What a watch left; nothing without a compiler."""
    rows = np.fromfile(path, dtype=np.int64) if path.exists() else np.zeros(0, dtype=np.int64)
    at_ns, took_ns = rows.reshape(-1, 2).T
    return at_ns, took_ns


def in_steady_blocks(at_ns: Instants, watched: Sequence[Speed]) -> npt.NDArray[np.bool_]:
    """Which of these instants lie in blocks of `BLOCK_NS` in which no piece of work was slow on any core.

    Slow: more than `SLOW_RATIO` times its median. It takes evidence: a block in which nothing was watched,
    because a sender wanted the core all the time, counts as steady.
    """
    slow_blocks = [at[took > SLOW_RATIO * np.median(took)] // BLOCK_NS for at, took in watched if len(took)]
    return ~np.isin(at_ns // BLOCK_NS, np.concatenate([np.zeros(0, dtype=np.int64), *slow_blocks]))


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
