"""Whether a run may carry a verdict: did it send what was scheduled, when it was due, open loop?

Each check says what was found, what was wanted, and why it matters. A check whose data are missing or too
few passes with `found` "not judged: …", and the doubt is repeated among the warnings where the user can do
something about it. How arrivals are compared stands in `arrivals`, what the generator says of itself in
`generator_checks`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from capture.failures import RunInvalid
from replay.analysis.arrivals import (
    IDC_BOUND,
    IDC_SLACK,
    coupling,
    dispersion,
    gap_distance,
)
from replay.analysis.generator_checks import (
    cpu_check,
    cpu_share,
    generator_warnings,
    limit_check,
    ms,
    resources_check,
    stalls_check,
    workers_check,
)
from replay.analysis.run_table import Bools, RunTable
from replay.analysis.values import Check, Validity
from replay.engine.run_format import CLOSED

ACHIEVED_BOUND = 0.99
LATENESS_P99_NS = 1e6
LATENESS_SHARE = 0.01
LATENESS_P99_FLOOR_NS = 0.25e6
LATENESS_MAX_NS = 50e6
FEWEST_FOR_ARRIVALS = 30

GAP_SLACK = 0.75
"""Gaps may differ by this part of the bound of lateness p99: two requests late at random within the bound
seldom differ by more, while every second request late by the whole bound does."""

TARGET_FAULTS = ("dns", "connect_refused", "connect_timeout", "connect_failed", "tls", "reset", "timeout")
"""Errors by which the target kept a request from being sent: the generator tried, so they count as load. Of
the last two only where nothing was sent: it accepted, and closed at once or did nothing more."""

FAILS_AGAIN = frozenset({"generator CPU", "generator resources", "in-flight limit"})
"""Checks whose cause is how the generator is set up, and not what else its machine did just then."""

WALL_STEP_NS = 100e6
SLOW_WRITE_S = 1.0


NO_DUE = "not judged: the run states no due times"


def judge(run: RunTable) -> Validity:
    """Every check of the run. It is valid if all pass; `warnings` are doubts that do not invalidate it.

    Of a run without due instants nothing can be said about when requests left: it is not `judged`.
    """
    checks = (
        _whole(run),
        _achieved(run),
        *(_of_due(run) if run.due_stated else map(_without_due, _of_due(run))),
        cpu_check(run),
        stalls_check(run, lateness_bounds_ns(run)[1]),
        resources_check(run),
        limit_check(run),
        workers_check(run),
    )
    valid = all(check.passed for check in checks)
    return Validity(valid, checks, tuple(_warnings(run)), judged=run.due_stated)


def _of_due(run: RunTable) -> tuple[Check, ...]:
    """What is judged by due instants."""
    return (_late_p99(run), _late_max(run), _open_loop(run), _gaps(run), _burstiness(run))


def _without_due(check: Check) -> Check:
    return dataclasses.replace(check, passed=True, found=NO_DUE)


def require_valid(label: str, validity: Validity) -> None:
    """Raise `RunInvalid` naming the failed checks of the run `label`, unless there are none."""
    failed = [f"{check.name}: {check.found} found, {check.wanted} wanted" for check in validity.checks]
    failed = [text for text, check in zip(failed, validity.checks, strict=True) if not check.passed]
    if not validity.valid:
        raise RunInvalid(
            f"{label or 'run'} is INVALID, no verdict: {'; '.join(failed)}; replay it again on a quieter or "
            "larger generator"
        )


def failed_checks(validity: Validity) -> str:
    """The names of the checks that failed, with commas; empty for a valid run."""
    return ", ".join(check.name for check in validity.checks if not check.passed)


def may_pass_next_time(validity: Validity) -> bool:
    """Whether an invalid run may be valid when replayed again: false where what failed would fail again."""
    failed = {check.name for check in validity.checks if not check.passed}
    return bool(failed) and failed.isdisjoint(FAILS_AGAIN)


def lateness_bounds_ns(run: RunTable) -> tuple[float, float]:
    """Bounds of the p99 and of the largest lateness in ns: stated by the user, else by the rule.

    The rule: p99 at most 1 % of the median latency (E2E from due, where there is one), so that lateness stays
    far below what is measured, within 0.25 ms, which is what the timers of a busy machine allow, and 1 ms;
    50 ms at most for any request.
    """
    stated = run.metadata.bounds
    latency = np.where(run.ok, run.end_ns - run.due_ns, np.nan)
    median = float(np.nanmedian(latency)) if np.any(run.ok) else np.inf
    rule = float(np.clip(LATENESS_SHARE * median, LATENESS_P99_FLOOR_NS, LATENESS_P99_NS))
    return (
        float(stated.get("lateness_p99_ns", rule)),
        float(stated.get("lateness_max_ns", LATENESS_MAX_NS)),
    )


def _whole(run: RunTable) -> Check:
    missing = run.metadata.scheduled - len(run)
    found = "stopped early" if run.metadata.partial else "whole"
    if missing:
        found = f"{len(run)} rows of {run.metadata.scheduled} scheduled requests"
    return Check(
        "whole",
        passed=not run.metadata.partial and missing == 0,
        found=found,
        wanted="a replay that ran to its end",
        why="a part of the schedule is another load than the schedule",
    )


def _achieved(run: RunTable) -> Check:
    owed = ~_excused(run)
    tried = run.sent | np.isin(run.error.codes, _codes(run, TARGET_FAULTS))
    wanted, done = int(owed.sum()), int((owed & tried).sum())
    share = done / wanted if wanted else 0.0
    found = f"{done} of {wanted} requests sent ({100 * share:.1f} %)"
    return Check(
        "achieved load",
        passed=share >= ACHIEVED_BOUND,
        found=found if run.due_stated else f"{NO_DUE}; {found}",
        wanted="at least 99 %",
        why="the target was asked for less than the schedule holds",
    )


def _excused(run: RunTable) -> Bools:
    """Later turns whose predecessor failed: in partly-open mode they never became due."""
    if run.metadata.mode == "open" or run.metadata.partial:
        return np.zeros(len(run), dtype=np.bool_)
    return ~run.sent & run.error.mask("not_sent")


def _codes(run: RunTable, names: tuple[str, ...]) -> list[int]:
    return [code for code, name in enumerate(run.error.names) if name in names]


def _late_p99(run: RunTable) -> Check:
    bound = lateness_bounds_ns(run)[0]
    late = np.abs(run.lateness_ns[run.sent])
    found = float(np.quantile(late, 0.99)) if len(late) else float("nan")
    stated = " (as asked for)" if "lateness_p99_ns" in run.metadata.bounds else ""
    return Check(
        "lateness p99",
        passed=len(late) == 0 or found <= bound,
        found=ms(found) + _waited(run, bound) if len(late) else "not judged: nothing was sent",
        wanted=f"at most {ms(bound)}{stated}",
        why="requests that leave late are another load, and hide what a user would have waited",
    )


def _waited(run: RunTable, bound: float) -> str:
    """How many of the late requests had no connection when they were due: a hint at the cause."""
    late = run.sent & (run.lateness_ns > bound)
    unconnected = late & (run.connected_ns > run.due_ns)
    if late.sum() < 1 or unconnected.sum() < 0.5 * late.sum():
        return ""
    return f" ({int(unconnected.sum())} of {int(late.sum())} late ones waited for a connection)"


def _late_max(run: RunTable) -> Check:
    bound = lateness_bounds_ns(run)[1]
    late = np.abs(run.lateness_ns[run.sent])
    stated = " (as asked for)" if "lateness_max_ns" in run.metadata.bounds else ""
    return Check(
        "lateness max",
        passed=len(late) == 0 or float(late.max()) < bound,
        found=ms(float(late.max())) if len(late) else "not judged: nothing was sent",
        wanted=f"below {ms(bound)}{stated}",
        why="a single long stall of the generator bunches requests that were apart",
    )


def _open_loop(run: RunTable) -> Check:
    late, in_flight = run.lateness_ns[run.sent], run.in_flight[run.sent]
    material_ns = lateness_bounds_ns(run)[0] / 2.0
    found = coupling(late, in_flight)
    judged = found is not None
    text = "not judged: too few requests, or always the same number in flight"
    if found is not None:
        text = f"Spearman {found.rank_correlation:+.2f}, {ms(found.rise_ns)} later when most are in flight"
    return Check(
        "open loop",
        passed=not judged or not (found is not None and found.is_material(material_ns)),
        found=text,
        wanted=f"Spearman below +0.30, or less than {ms(material_ns)} later",
        why="lateness that grows with the requests in flight means that the target slowed the generator down",
    )


def _gaps(run: RunTable) -> Check:
    due, sent = run.due_ns[run.sent], run.sent_ns[run.sent]
    slack_ns = GAP_SLACK * lateness_bounds_ns(run)[0]
    judged = len(due) >= FEWEST_FOR_ARRIVALS
    distance, critical = gap_distance(due, sent, slack_ns) if judged else (float("nan"), float("nan"))
    return Check(
        "inter-arrival times",
        passed=not judged or distance <= critical,
        found=f"Kolmogorov-Smirnov distance {distance:.3f}"
        if judged
        else "not judged: fewer than 30 requests",
        wanted=f"at most {critical:.3f} beyond {ms(slack_ns)}" if judged else "planned as achieved",
        why="the gaps between requests make the bursts; the achieved ones must be the planned ones",
    )


def _burstiness(run: RunTable) -> Check:
    windows = list(dispersion(run.due_ns[run.sent], run.sent_ns[run.sent]))
    judged = [w for w in windows if w.judged]
    far = [w for w in judged if not w.close]
    said = "; ".join(f"{w.planned:.2f} → {w.achieved:.2f} at {w.window_s:g} s" for w in judged)
    skipped = ", ".join(f"{w.window_s:g} s" for w in windows if not w.judged)
    found = "; ".join(
        filter(None, [said, f"not judged at {skipped}: the run is too short" if skipped else ""])
    )
    return Check(
        "burstiness",
        passed=not far,
        found=found,
        wanted=f"index of dispersion within {100 * IDC_BOUND:.0f} % or {IDC_SLACK:g}",
        why="smoothed or bunched bursts load the target differently at the same mean rate",
    )


def _warnings(run: RunTable) -> Iterator[str]:
    bound = lateness_bounds_ns(run)[0]
    yield from _made_by_others(run)
    if len(run) < FEWEST_FOR_ARRIVALS:
        yield f"only {len(run)} requests: too few to judge arrivals by"
    sampled = any(cpu_share(worker) is not None for worker in run.metadata.workers)
    if not sampled and not run.metadata.made_by:
        yield "generator CPU not judged: the run holds no samples"
    excused = int(_excused(run).sum())
    if excused:
        yield f"{excused} later turns were never due: their session's predecessor failed"
    faults = int((np.isin(run.error.codes, _codes(run, TARGET_FAULTS)) & ~run.sent).sum())
    if faults:
        yield f"{faults} requests found no connection to the target"
    yield from generator_warnings(run, bound)
    yield from _about_the_run(run)


def _made_by_others(run: RunTable) -> Iterator[str]:
    """What a run of another tool can't say."""
    if run.metadata.made_by and not run.due_stated:
        yield (
            "no due times: coordinated omission can't be excluded; latencies are from sent, and what a "
            "request waited to be sent is in none of them"
        )
    if run.metadata.mode == CLOSED:
        yield "closed loop: a slower server is asked less, so that its queue and its tail look shorter"
    yield from run.metadata.notes


def _about_the_run(run: RunTable) -> Iterator[str]:
    step_ns = run.metadata.wall_step_ns
    if abs(step_ns) >= WALL_STEP_NS:
        yield (
            f"the wall clock was stepped by {step_ns / 1e9:+.3f} s during the run: harmless here, where all "
            "instants are monotonic; but logs of other machines don't line up by it"
        )
    if run.metadata.longest_write_s >= SLOW_WRITE_S:
        yield (
            f"writing results took {run.metadata.longest_write_s:.1f} s at one time: harmless to pacing, "
            "since rows wait in memory; choose a faster disk for long runs"
        )
