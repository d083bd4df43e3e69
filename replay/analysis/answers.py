"""What was answered, beside how fast: output tokens, finish reasons, throughput.

A build that says less is faster for it, and one that stops early too. Tokens and throughput carry verdicts:
less of them than the baseline, for certain and by more than the tolerance, is a regression. Other finish
reasons are a change for people to judge, under which no improvement and no equivalence is claimed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from replay.analysis.bootstrap import politis_white, stationary_multiplicities
from replay.analysis.change_values import AnswerChange
from replay.analysis.distributions import student_quantile, student_tails
from replay.analysis.effects import FEWEST_BLOCKS_SEEN, distinct_groups, standard_error
from replay.analysis.grouping import ALL
from replay.analysis.holm import ALPHA_BESIDE, holm
from replay.analysis.metrics import Latencies
from replay.analysis.outcomes import FAILURE_MARGIN, mcnemar_exact
from replay.analysis.pairing import Pairs, curtail
from replay.analysis.run_table import Floats, Ints
from replay.analysis.values import Group, Verdict

TOKENS = "output tokens"
ANSWERED_RATE = "answered/s"
SPOKEN_RATE = "output tokens/s"
FINISH = "finish reason "

FEWEST_ANSWERS = 20


@dataclasses.dataclass(frozen=True)
class _Sums:
    """A quantity summed per time cell, float64, in both arms."""

    group: Group
    measure: str
    pairs: int
    baseline: Floats
    candidate: Floats


@dataclasses.dataclass(frozen=True)
class _Total:
    """Σ of a quantity in both arms, with the standard error of the log-ratio, and that one's freedom."""

    group: Group
    measure: str
    pairs: int
    baseline: float
    candidate: float
    error: float
    freedom: float

    @property
    def log_ratio(self) -> float:
        return float(np.log(self.candidate / self.baseline)) if self.candidate > 0 else float("-inf")

    @property
    def p_value(self) -> float:
        """Two-sided, of no change; NaN where not judged."""
        if np.isnan(self.error):
            return float("nan")
        if self.error == 0.0:
            return 1.0 if self.log_ratio == 0.0 else 0.0
        return student_tails(self.log_ratio / self.error, self.freedom)


def answer_changes(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    *,
    tolerance: float,
    resamples: int,
    rng: np.random.Generator,
    noise: tuple[AnswerChange, ...] = (),
) -> tuple[AnswerChange, ...]:
    """Output tokens per distinct group, throughput over all, and finish reasons that occur.

    Totals are compared by the logarithm of their ratio, with the standard error of the stationary bootstrap
    over time cells, its block length that of the total's own differences per cell (lengths of answers don't
    hang together as their latencies do); p-values are Holm-adjusted over all totals. `noise` are the changes
    between two runs of one build: no change up to one of these is believed.
    """
    known = {(change.group, change.measure): abs(change.change_ratio) for change in noise}
    totals = [
        _total(sums, resamples, rng)
        for sums in (*_tokens(pairs, baseline, candidate), *_rates(pairs, baseline, candidate))
    ]
    family = holm(np.array([total.p_value for total in totals], dtype=np.float64), ALPHA_BESIDE)
    counted = [
        _judge_total(total, float(p), float(level), tolerance, known.get((total.group, total.measure)))
        for total, p, level in zip(totals, family.adjusted, family.level, strict=True)
    ]
    return (*counted, *_finish_reasons(pairs, baseline, candidate))


def _tokens(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[_Sums]:
    """Tokens of the answers that state them in both runs, by the cell of their due instant."""
    before = baseline.run.output_tokens[pairs.baseline]
    after = candidate.run.output_tokens[pairs.candidate]
    stated = baseline.ok[pairs.baseline] & candidate.ok[pairs.candidate]
    stated &= ~np.isnan(before) & ~np.isnan(after)
    for group, mask in distinct_groups(pairs, baseline, stated):
        one, other = (
            np.bincount(pairs.cell[mask], weights=tokens[mask], minlength=pairs.cells)
            for tokens in (before, after)
        )
        yield _Sums(group, TOKENS, int(np.count_nonzero(mask)), one, other)


def _rates(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[_Sums]:
    """What was answered while requests were due, by the cell of the answer's end.

    In an open loop a slower build answers as many, later: so counting begins where 95 % of the slower arm's
    first requests have had their time, and ends with the last due instant, after which both catch up. Only
    a build that does not keep up answers fewer in between.
    """
    waits = [arm.ordered("e2e", "due").values_ns for arm in (baseline, candidate)]
    slowest_ns = max((float(wait[int(0.95 * len(wait))]) for wait in waits if len(wait)), default=0.0)
    first = int(slowest_ns / pairs.cell_ns) + 1
    if first > pairs.cells / 2:
        return
    span_s = (pairs.cells - first) * pairs.cell_ns / 1e9
    start_ns = min(_first_due(baseline, pairs.baseline), _first_due(candidate, pairs.candidate))
    for measure in (ANSWERED_RATE, SPOKEN_RATE):
        one, other = (
            _ended(arm, rows, pairs, start_ns, spoken=measure == SPOKEN_RATE)[first:] / span_s
            for arm, rows in ((baseline, pairs.baseline), (candidate, pairs.candidate))
        )
        if one.any() and other.any():
            yield _Sums(ALL, measure, len(pairs), one, other)


def _first_due(arm: Latencies, rows: Ints) -> float:
    return float(arm.run.due_ns[rows].min())


def _ended(arm: Latencies, rows: Ints, pairs: Pairs, start_ns: float, *, spoken: bool) -> Floats:
    """Answers, or their tokens, per cell in which they ended; what ended after the last cell is left out."""
    place = (arm.run.end_ns[rows] - start_ns) / pairs.cell_ns
    inside = arm.ok[rows] & (place >= 0) & (place < pairs.cells)
    worth = np.nan_to_num(arm.run.output_tokens[rows]) if spoken else np.ones(len(rows))
    return np.bincount(place[inside].astype(np.int64), weights=worth[inside], minlength=pairs.cells)


def _total(sums: _Sums, resamples: int, rng: np.random.Generator) -> _Total:
    both = np.column_stack([sums.baseline, sums.candidate])
    length = curtail(politis_white(sums.candidate - sums.baseline), len(both))
    drawn = stationary_multiplicities(len(both), length.cells, resamples, rng).astype(np.float64) @ both
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(drawn[:, 1] / drawn[:, 0])
    ratio[~np.isfinite(ratio)] = np.nan
    blocks = min(len(both) / length.cells, float(np.count_nonzero(both.any(axis=1))))
    judged = blocks >= FEWEST_BLOCKS_SEEN and sums.pairs >= FEWEST_ANSWERS
    return _Total(
        group=sums.group,
        measure=sums.measure,
        pairs=sums.pairs,
        baseline=float(sums.baseline.sum()),
        candidate=float(sums.candidate.sum()),
        error=standard_error(ratio, blocks, length.shortfall) if judged else float("nan"),
        freedom=max(blocks - 1.0, 1.0),
    )


def _judge_total(
    total: _Total, p_value: float, level: float, tolerance: float, noise: float | None
) -> AnswerChange:
    margin = max(tolerance, noise or 0.0)
    change = float(np.expm1(total.log_ratio)) if total.baseline > 0 else float("nan")
    half = student_quantile(1.0 - level / 2.0, total.freedom) * total.error
    low, high = float(np.expm1(total.log_ratio - half)), float(np.expm1(total.log_ratio + half))
    changed = bool(p_value < ALPHA_BESIDE and abs(change) > margin)
    verdict = Verdict.INCONCLUSIVE
    if changed and change < 0:
        verdict = Verdict.REGRESSION
    elif low >= -tolerance and high <= tolerance:
        verdict = Verdict.EQUIVALENT
    return AnswerChange(
        group=total.group,
        measure=total.measure,
        baseline=total.baseline,
        candidate=total.candidate,
        change_ratio=change,
        low_ratio=low,
        high_ratio=high,
        noise_ratio=float("nan") if noise is None else noise,
        pairs=total.pairs,
        p_value=p_value,
        changed=changed,
        verdict=verdict,
    )


def _finish_reasons(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterator[AnswerChange]:
    """How many answers ended for each reason, of those that were whole in both runs; McNemar, Holm."""
    one, other = baseline.run.finish_reason, candidate.run.finish_reason
    whole = baseline.ok[pairs.baseline] & candidate.ok[pairs.candidate]
    stated = whole & ((one.codes[pairs.baseline] >= 0) | (other.codes[pairs.candidate] >= 0))
    n = int(np.count_nonzero(stated))
    if n < FEWEST_ANSWERS:
        return
    names = sorted({*one.names, *other.names})
    masks = [
        (one.mask(name)[pairs.baseline][stated], other.mask(name)[pairs.candidate][stated]) for name in names
    ]
    adjusted = holm(np.array([mcnemar_exact(*mask) for mask in masks]), ALPHA_BESIDE).adjusted
    for name, (before, after), p in zip(names, masks, adjusted, strict=True):
        was, now = int(before.sum()), int(after.sum())
        if not was and not now:
            continue
        changed = bool(p < ALPHA_BESIDE and abs(now - was) / n > FAILURE_MARGIN)
        yield AnswerChange(
            group=ALL,
            measure=f"{FINISH}{name}",
            baseline=float(was),
            candidate=float(now),
            change_ratio=now / was - 1.0 if was else float("inf"),
            low_ratio=float("nan"),
            high_ratio=float("nan"),
            noise_ratio=float("nan"),
            pairs=n,
            p_value=float(p),
            changed=changed,
            verdict=Verdict.INCONCLUSIVE if changed or p < ALPHA_BESIDE else Verdict.EQUIVALENT,
        )
