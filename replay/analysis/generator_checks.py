"""What a generator says of itself: was it out of breath, standing still, short of files, or dead?

Only its own samples are judged here; whether requests left on time, and what that means for a run, is
`validity`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from replay.analysis.run_table import RunTable
from replay.analysis.values import Check

CPU_BOUND = 0.70
WORST_LAG_NS = 50e6
GENERATOR_WANTS = {"out_of_files": "had no file descriptor left", "out_of_ports": "had no local port left"}
"""Errors by which this machine kept a request from being sent."""
UNSAID = "not judged: the tool that made the run does not say"
STALLED_SHARE = 0.01
WORTH_A_WORD_NS = 10e6
CPU_WAIT_SHARE = 0.05
CPU_SLOW_SHARE = 0.01


def cpu_check(run: RunTable) -> Check:
    """A generator that is out of breath is late in all it does."""
    shares = [share for worker in run.metadata.workers if (share := cpu_share(worker)) is not None]
    return Check(
        "generator CPU",
        passed=not shares or max(shares) < CPU_BOUND,
        found=f"{100 * max(shares):.0f} % of a core" if shares else "not judged: no CPU samples",
        wanted=f"below {100 * CPU_BOUND:.0f} % of a core for each worker",
        why="a busy generator stamps answers late, and blames the target for it; add --workers",
    )


def cpu_share(worker: Mapping[str, Any]) -> float | None:
    """The busiest share of a core that a worker took, 0 to 1; None without samples."""
    cpu, wall = worker.get("cpu_s"), worker.get("wall_s")
    if cpu is None or not wall:
        return None
    # The busiest seconds count where they are known: a mean over the run hides the peak.
    return max(float(cpu) / float(wall), float(worker.get("cpu_busiest_share", 0.0)))


def stalls_check(run: RunTable, bound_ns: float) -> Check:
    """A generator that stands still neither sends nor stamps: what comes meanwhile seems to come later."""
    found = [stall for worker in run.metadata.workers for stall in worker.get("stalls") or ()]
    share = max((_stalled_share(worker) for worker in run.metadata.workers), default=0.0)
    longest = max(found, key=lambda stall: stall[1], default=None)
    judged = any("stalls" in worker for worker in run.metadata.workers)
    text = "no stall of 5 ms or more" if judged else "not judged: no samples"
    if longest is not None:
        at_ns, length_ns, cause = longest
        text = f"{ms(length_ns)} at {at_ns / 1e9:.1f} s ({cause}), {100 * share:.1f} % of the time"
    return Check(
        "generator stalls",
        passed=(longest is None or longest[1] < bound_ns) and share < STALLED_SHARE,
        found=text,
        wanted=f"below {ms(bound_ns)} each, below {100 * STALLED_SHARE:.0f} % of the time",
        why="a generator that stands still stamps answers late, and blames the target for it",
    )


def _stalled_share(worker: Mapping[str, Any]) -> float:
    stalled, wall = worker.get("stalled_s"), worker.get("wall_s")
    return float(stalled) / float(wall) if stalled is not None and wall else 0.0


def resources_check(run: RunTable) -> Check:
    """Requests that this machine kept from being sent."""
    counts = {name: int(run.error.mask(name).sum()) for name in GENERATOR_WANTS}
    said = [f"{counts[name]} requests {text}" for name, text in GENERATOR_WANTS.items() if counts[name]]
    nothing = "no connection failed for want of files or ports"
    return Check(
        "generator resources",
        passed=not said,
        found="; ".join(said) or (UNSAID if run.metadata.made_by else nothing),
        wanted="a file descriptor and a local port for each connection",
        why="these requests were never sent, and not by the target's fault; raise `ulimit -n`, or widen "
        "net.ipv4.ip_local_port_range",
    )


def limit_check(run: RunTable) -> Check:
    """An in-flight limit that was reached closes the loop."""
    limit = run.metadata.in_flight_limit
    most = int(run.in_flight.max()) if len(run) else 0
    found = f"{most} in flight at most, limit {'none' if limit is None else limit}"
    return Check(
        "in-flight limit",
        passed=limit is None or most < limit,
        found=UNSAID if run.metadata.made_by else found,
        wanted="a limit that is never reached",
        why="at its limit the generator waits for answers: the loop is closed just when it matters",
    )


def workers_check(run: RunTable) -> Check:
    """A worker that died takes what it held along."""
    lost = int(run.error.mask("lost").sum())
    return Check(
        "workers alive",
        passed=lost == 0,
        found=UNSAID if run.metadata.made_by else f"{lost} requests lost",
        wanted="no request lost with a worker",
        why="what a dead worker held was neither sent on time nor measured",
    )


def generator_warnings(run: RunTable, bound_ns: float) -> Iterator[str]:
    """Doubts about single workers; `bound_ns` is the bound of lateness p99, which suits receiving too."""
    for worker in run.metadata.workers:
        lags, pauses = worker.get("loop_lag_ns") or (), worker.get("gc_pause_ns") or ()
        name = f"worker {worker.get('worker', '?')}"
        if len(lags) and (lag := _lag_p99(lags, int(worker.get("loop_lags") or len(lags)))) > max(
            bound_ns, 1e6
        ):
            yield f"{name}: event loop late by {ms(lag)} (p99): answers may be stamped as much too late"
        if len(pauses) and (pause := float(max(pauses))) > WORST_LAG_NS / 5:
            yield f"{name}: garbage collection paused it for {ms(pause)}"
        for at_ns, length_ns, cause in _longest_by_cause(worker.get("stalls") or ()):
            if length_ns >= WORTH_A_WORD_NS:
                yield (
                    f"{name}: stood still for {ms(length_ns)} at {at_ns / 1e9:.1f} s ({cause}): answers "
                    "that came then are stamped late"
                )
        waited, wall = worker.get("cpu_wait_s"), worker.get("wall_s")
        if waited and wall and waited / wall > CPU_WAIT_SHARE:
            yield f"{name}: waited for a CPU {100 * waited / wall:.1f} % of the time; others run on its core"
        if (slow := worker.get("cpu_slow_share") or 0.0) > CPU_SLOW_SHARE:
            yield (
                f"{name}: its CPU ran at less than half its speed {100 * slow:.1f} % of the time: something "
                "outside this system shares or slows it; sends and stamps were late by it"
            )


def _longest_by_cause(stalls: Iterable[Sequence[Any]]) -> Iterator[tuple[int, int, str]]:
    """Of each cause the longest stall (at ns, length ns, cause), longest first: none hides another cause."""
    told = set()
    for at_ns, length_ns, cause in sorted(stalls, key=lambda stall: -stall[1]):
        if cause not in told:
            told.add(cause)
            yield at_ns, length_ns, cause


def _lag_p99(worst: Sequence[float], of: int) -> float:
    """p99 of `of` samples, of which the worst ones are known; NaN where that many are not."""
    return float(sorted(worst, reverse=True)[of // 100]) if of // 100 < len(worst) else float("nan")


def ms(duration_ns: float) -> str:
    """A duration in ms with three digits."""
    milliseconds = duration_ns / 1e6
    digits = 0 if abs(milliseconds) >= 100 else 1 if abs(milliseconds) >= 10 else 2
    return f"{milliseconds:.{digits}f} ms"
