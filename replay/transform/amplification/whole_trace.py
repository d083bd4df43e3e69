"""Methods of amplification that look at all rows at once, for those who want theirs; in memory only.

Each is a `Step` with `whole_trace` set: it must be given a trace's rows in one batch. None of them keeps the
burst curve in general; what each makes of it is in its docstring, and `holdout` shows by how much.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.quantities import check_factor
from replay.transform.draws import uniform
from replay.transform.rows import Rows, Step
from replay.transform.steps import clone_rows, moved

Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _WholeTrace(Step):
    """What these methods have in common: a factor, a key to draw by, the time's end."""

    factor: float
    key: np.uint64
    span_ns: int
    copies_before: int = 1

    whole_trace = True

    def __post_init__(self) -> None:
        check_factor(self.factor, "amplify")

    @property
    def spread_ns(self) -> int:  # type: ignore[override]
        """A row may go anywhere."""
        return self.span_ns

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """⌈factor⌉."""
        return math.ceil(self.factor)

    @property
    def rows_a_row(self) -> float:  # type: ignore[override]
        """The factor; 1 where no request is copied."""
        return self.factor if self.most_copies > 1 else 1.0


@dataclasses.dataclass(frozen=True)
class Superposition(_WholeTrace):
    """The trace and copies of it, each begun at another instant and turned around the trace's end.

    The copies are as good as independent, so IDC'(w) = IDC(w): the rate curve is averaged away. Sessions stay
    whole; one that begins near the end may go on after it.
    """

    def apply(self, rows: Rows) -> Rows:
        """The rows and their clones; all clones of one number are moved by the same time."""
        whole = math.floor(self.factor)
        copies = np.full(len(rows), whole, np.int64)
        if whole != self.factor:
            copies += uniform(self.key, rows.session, 0) < self.factor - whole
        cloned, nth = clone_rows(rows, copies, self.copies_before)
        offsets = uniform(self.key, np.zeros(self.most_copies, np.int64), np.arange(self.most_copies))
        offset_ns = np.rint(offsets * self.span_ns).astype(np.int64)
        offset_ns[0] = 0
        start_ns = (cloned.start_ns + offset_ns[nth]) % (self.span_ns + 1)
        shift = start_ns - cloned.start_ns
        return dataclasses.replace(cloned, due_ns=cloned.due_ns + shift, start_ns=start_ns)

    def __str__(self) -> str:
        return f"amplify {self.factor:g} (superposition: whole copies begun at other instants)"


@dataclasses.dataclass(frozen=True)
class TraceUpscaler(_WholeTrace):
    """Instants repeated ⌊factor⌋ times, and once more by chance, and given to the requests in order.

    As many requests as before, in 1/factor of the time: the first part's instants with the whole's requests
    (S. M. Sajal, T. Zhu, B. Urgaonkar, S. Sen: TraceUpscaler. EuroSys 2024). Arrivals tie, so that
    IDC'(w) = factor · IDC(w); sessions lose their think times, since instants and requests are taken apart.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor < 1:
            raise BadInput(f"--amplify: {self.factor:g} found, 1 or more wanted with --method traceupscaler")

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """No request is copied."""
        return 1

    def at(self, due_ns: int) -> int:
        """Somewhere before."""
        return round(due_ns / self.factor)

    def apply(self, rows: Rows) -> Rows:
        """The rows, each at an instant of the first part."""
        order = np.lexsort((rows.copy, rows.row, rows.due_ns))
        ordered = rows.take(order)
        whole = math.floor(self.factor)
        place = np.arange(len(rows), dtype=np.int64)
        times = whole + (uniform(self.key, place, 0) < self.factor - whole).astype(np.int64)
        due_ns = np.repeat(ordered.due_ns, times)[: len(rows)]
        none = np.full(len(rows), -1, np.int64)
        return dataclasses.replace(
            ordered, due_ns=due_ns, start_ns=due_ns.copy(), follows=none, think_ns=np.zeros_like(none)
        )

    def __str__(self) -> str:
        return f"amplify {self.factor:g} (TraceUpscaler: instants repeated, requests in order)"


@dataclasses.dataclass(frozen=True)
class Resampling(_WholeTrace):
    """Clients drawn with replacement, `factor` of each on average, and begun where others may have begun.

    A session is a client: it keeps its requests and their distances. Its start is drawn from all sessions'
    starts, smoothed between neighbours, so that the rate curve stays, with more chance in it:
    IDC'(w) ≈ 1 + factor · IDC(w) for sessions of one request and windows that hold many of them. Sessions
    that begin near the end may go on after it. No original stays where it was.
    """

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """A bound that a Poisson number of copies passes once in 10¹² sessions, and is cut to."""
        from scipy import stats

        return int(stats.poisson.isf(1e-12, self.factor)) + 1

    def apply(self, rows: Rows) -> Rows:
        """The clones, a row's one after the other."""
        from scipy import stats

        drawn = stats.poisson.ppf(uniform(self.key, rows.session, 0), self.factor)
        copies = np.clip(drawn, 0, self.most_copies).astype(np.int64)
        cloned, nth = clone_rows(rows, copies, self.copies_before)
        _, first = np.unique(rows.session, return_index=True)
        starts = np.sort(rows.start_ns[first])
        place = uniform(self.key, np.repeat(rows.session, copies), nth + 1) * max(len(starts) - 1, 0)
        begun = np.interp(place, np.arange(len(starts)), starts.astype(np.float64))
        shift = np.rint(begun).astype(np.int64) - cloned.start_ns
        return moved(cloned, shift)

    def __str__(self) -> str:
        return f"amplify {self.factor:g} (clients resampled, begun where others may have begun)"
