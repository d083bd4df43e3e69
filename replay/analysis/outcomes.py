"""Requests that one build answers and the other fails: paired changes of failure rates.

A build that answers faster because it fails is no improvement, so this is judged beside every latency.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from replay.analysis.distributions import normal_quantile, sign_test
from replay.analysis.effects import distinct_groups
from replay.analysis.holm import ALPHA, ALPHA_BESIDE, holm
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import Pairs
from replay.analysis.run_table import Bools, RunTable
from replay.analysis.values import Group, OutcomeChange, Verdict

FAILURE = "failure"
"""The kind that covers all: no whole answer with a status of 2xx."""

ABORTED = "aborted"
"""The error of a recorded hang-up: the client's own doing, no failure."""

FAILURE_MARGIN = 0.01
"""Failure rates closer than a point of 100, for certain, count as equal."""


def outcome_changes(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> tuple[OutcomeChange, ...]:
    """Per distinct group all failures, then each kind that occurs: `4xx`, `5xx`, and the kinds of error.

    p-values are of McNemar's exact test on the discordant pairs (Q. McNemar, Psychometrika 12 (1947), 153),
    Holm-adjusted over all of them. It takes pairs as independent of each other: failures that come in one
    burst are fewer than they look.
    """
    everything = np.ones(len(pairs), dtype=np.bool_)
    found: list[tuple[Group, str, Bools, Bools]] = []
    before, after = _kinds(baseline, pairs.baseline), _kinds(candidate, pairs.candidate)
    nothing = np.zeros(len(pairs), dtype=np.bool_)
    for group, mask in distinct_groups(pairs, baseline, everything):
        for kind in dict.fromkeys([FAILURE, *sorted({*before, *after})]):
            one, other = before.get(kind, nothing)[mask], after.get(kind, nothing)[mask]
            if kind == FAILURE or one.any() or other.any():
                found.append((group, kind, one, other))
    raw = np.array([mcnemar_exact(one, other) for _, _, one, other in found])
    adjusted = holm(raw, ALPHA_BESIDE).adjusted
    return tuple(
        OutcomeChange(
            group=group,
            kind=kind,
            baseline_count=int(one.sum()),
            candidate_count=int(other.sum()),
            pairs=len(one),
            p_value=float(p),
            verdict=_verdict(one, other, float(p)),
        )
        for (group, kind, one, other), p in zip(found, adjusted, strict=True)
    )


def _kinds(latencies: Latencies, rows: np.ndarray) -> dict[str, Bools]:
    """Which pairs show each kind of failure in this run."""
    run: RunTable = latencies.run
    no_error = run.error.codes < 0
    kinds = {
        FAILURE: run.failed,
        "3xx": no_error & (run.status >= 300) & (run.status < 400) & (run.status != 304),
        "4xx": no_error & (run.status >= 400) & (run.status < 500),
        "5xx": no_error & (run.status >= 500),
        **{name: run.error.mask(name) for name in run.error.names if name != ABORTED},
    }
    return {kind: mask[rows] for kind, mask in kinds.items() if mask.any() or kind == FAILURE}


def mcnemar_exact(before: Bools, after: Bools) -> float:
    """Two-sided exact p-value that as many pairs change one way as the other; 1 when none changes."""
    worse, better = int((after & ~before).sum()), int((before & ~after).sum())
    return sign_test(worse, better)


def _verdict(before: Bools, after: Bools, p_value: float) -> Verdict:
    """By the adjusted p-value; else equivalent if the difference is certainly within the margin.

    The interval of the paired difference is A. Agresti and Y. Min's: Statistics in Medicine 24 (2005), 729.
    """
    worse, better = int((after & ~before).sum()), int((before & ~after).sum())
    if p_value < ALPHA_BESIDE:
        return Verdict.REGRESSION if worse > better else Verdict.IMPROVED
    n = len(before) + 2
    b, c = worse + 0.5, better + 0.5
    half = normal_quantile(1 - ALPHA / 2) * np.sqrt(b + c - (b - c) ** 2 / n) / n
    inside = abs(b - c) / n + half <= FAILURE_MARGIN
    return Verdict.EQUIVALENT if inside or worse + better == 0 else Verdict.INCONCLUSIVE


def rose(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> bool:
    """Whether failures rose, by a test so lenient (p < 0.2, unadjusted) that doubt counts."""
    before, after = baseline.run.failed[pairs.baseline], candidate.run.failed[pairs.candidate]
    return bool(after.sum() > before.sum()) and mcnemar_exact(before, after) < 0.2


def cluster_warnings(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[str]:
    """A doubt where five or more new failures fell into less than a tenth of the run's time."""
    before, after = baseline.run.failed[pairs.baseline], candidate.run.failed[pairs.candidate]
    cells = pairs.cell[after & ~before]
    if len(cells) >= 5 and np.ptp(cells) + 1 <= 0.1 * pairs.cells:
        seconds = (np.ptp(cells) + 1) * pairs.cell_ns / 1e9
        yield (
            f"all {len(cells)} new failures fell within {seconds:.1f} s: one incident, perhaps, and not the "
            "build; replay the candidate again"
        )
