"""Steps that must see the arrivals first: a pass over them, with all steps before applied, settles each."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from replay.transform.amplification.amplify import Amplify
from replay.transform.amplification.choice import Measured
from replay.transform.amplification.methods import NO_LATE_SESSIONS
from replay.transform.pipeline import ahead
from replay.transform.rows import Rows, Step
from replay.transform.steps import Slice

_TURN_S: Final = 2e-4
"""For how long one thread may keep the interpreter from another: by default 25 times that."""


def settled(
    steps: Sequence[Step | Amplify],
    batches: Callable[[], Iterable[Rows]],
    span_ns: int,
    rows: int,
    tick_ns: int = 1,
) -> tuple[Step, ...]:
    """`steps` with every `Amplify` settled for the arrivals that reach it.

    `batches` gives the trace's rows anew each time; `span_ns` is the last of their due instants, `rows` how
    many there are, `tick_ns` the step of the clock that stamped them.
    """
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Amplify):
            step = _settled(step, found, batches(), span_ns, rows, tick_ns)
        found.append(step)
    return tuple(found)


def _settled(
    step: Amplify, before: Sequence[Step], batches: Iterable[Rows], span_ns: int, rows: int, tick_ns: int
) -> Step:
    for earlier in before:
        if isinstance(earlier, Slice):
            span_ns = min(span_ns, earlier.to_ns)
        span_ns = earlier.at(span_ns) + earlier.spread_ns
    expected = rows * math.prod(earlier.most_copies for earlier in before)
    if not step.needs_arrivals:
        return step.settled(Measured(max(span_ns, 0), expected, None, NO_LATE_SESSIONS, None))
    # What the fit needs takes longer to import than a million arrivals to read: both at once.
    threading.Thread(target=_import_for_the_fit, daemon=True).start()
    measuring = step.measuring(span_ns, expected, tick_ns)
    with _in_short_turns():
        for batch in ahead(iter(batches)):
            reached = batch
            for earlier in before:
                reached = earlier.apply(reached)
            measuring.add(reached)
    return step.settled(measuring.measured())


def _import_for_the_fit() -> None:
    for name in ("scipy.fft", "scipy.optimize"):
        importlib.import_module(name)


@contextlib.contextmanager
def _in_short_turns() -> Iterator[None]:
    """Threads that ask for the interpreter, after each of numpy's calls, get it at once."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual_s)
