"""The comparison of two runs of one schedule: pairs, effects, outcomes, and the one verdict over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from capture.failures import NothingCompared
from replay.analysis.answers import FINISH, answer_changes
from replay.analysis.body_fields import WHOLE
from replay.analysis.bootstrap import stationary_multiplicities
from replay.analysis.change_values import AnswerChange, BodyChange, TailChange
from replay.analysis.changed_requests import changed_requests
from replay.analysis.distribution_values import ShiftFunction
from replay.analysis.effects import Estimate, comparisons, estimates, group_estimates, in_order
from replay.analysis.locating import locate
from replay.analysis.metrics import Latencies
from replay.analysis.outcomes import cluster_warnings, outcome_changes, rose
from replay.analysis.pairing import BlockLength, Pairs, block_length, pair, pairing_doubts
from replay.analysis.reasons import reasons_of
from replay.analysis.run_table import RunTable
from replay.analysis.shift_function import shift_function
from replay.analysis.slowed import tail_changes
from replay.analysis.summary import summarise
from replay.analysis.timeline import bucket_width_s, duration_s
from replay.analysis.validity import require_valid
from replay.analysis.values import (
    DiffResult,
    Effect,
    Objective,
    OutcomeChange,
    RunSummary,
    Verdict,
)
from replay.analysis.verdicts import FloorKey, judge_effects, measured_floors_ns
from replay.analysis.vocabulary import headline_clock, is_headline
from replay.analysis.waterfall import paired_waterfall

FEWER_TOKENS = 0.01
"""A candidate that generates 1 % fewer tokens than the baseline does less work, and is faster for it."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """What two runs of one build differ by: noise floors of effects in ns, changes of answers, of tails."""

    floors_ns: Mapping[FloorKey, float] = dataclasses.field(default_factory=dict)
    answers: tuple[AnswerChange, ...] = ()
    tails: tuple[TailChange, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """Two runs, paired, and the resamples of time blocks that all intervals of their comparison are of."""

    pairs: Pairs
    before: Latencies
    after: Latencies
    multiplicities: npt.NDArray[np.float32]
    length: BlockLength
    resamples: int
    seed: int

    @classmethod
    def of(cls, before: Latencies, after: Latencies, resamples: int, seed: int) -> _Drawn:
        """Raises `BadInput` for runs that can't be paired."""
        pairs = pair(before.run, after.run)
        length = block_length(pairs, before, after)
        rng = np.random.default_rng(seed)
        drawn = stationary_multiplicities(pairs.cells, length.cells, resamples, rng)
        return cls(pairs, before, after, drawn, length, resamples, seed)

    def estimates(self) -> list[Estimate]:
        return estimates(self.pairs, self.before, self.after, self.multiplicities, self.length)

    def estimates_and_shifts(self, *, distributed: bool) -> tuple[list[Estimate], tuple[ShiftFunction, ...]]:
        """Both in one pass over the comparisons: choosing values costs as much as looking at them."""
        estimated: list[Estimate] = []
        shifts: list[ShiftFunction] = []
        clock = "due" if self.before.run.due_stated and self.after.run.due_stated else "sent"
        for one in comparisons(self.pairs, self.before, self.after):
            estimated += group_estimates(self.pairs, one, self.multiplicities, self.length)
            if distributed and is_headline(one, clock):
                shift = shift_function(self.pairs, one, self.multiplicities, self.length)
                shifts += [shift] if shift is not None else []
        return in_order(estimated), tuple(shifts)

    def answers(self, tolerance: float, noise: tuple[AnswerChange, ...] = ()) -> tuple[AnswerChange, ...]:
        """What is answered otherwise, beyond the `noise` of two runs of one build."""
        return answer_changes(
            self.pairs,
            self.before,
            self.after,
            tolerance=tolerance,
            resamples=self.resamples,
            rng=np.random.default_rng([self.seed, 1]),
            noise=noise,
        )

    def tails(self, noise: tuple[TailChange, ...] = ()) -> tuple[TailChange, ...]:
        """How many requests were slowed by half, beyond the `noise` of two runs of one build."""
        return tail_changes(
            self.pairs,
            self.before,
            self.after,
            resamples=self.resamples,
            rng=np.random.default_rng([self.seed, 2]),
            noise=noise,
            shortest=self.length.cells,
        )


def measure_noise(first: RunTable, second: RunTable, *, tolerance: float, resamples: int, seed: int) -> Noise:
    """The noise between two runs of one build; arguments as `compare`'s. Raises `BadInput` as that does."""
    drawn = _Drawn.of(Latencies(first), Latencies(second), resamples, seed)
    return Noise(measured_floors_ns(drawn.estimates()), drawn.answers(tolerance), drawn.tails())


def compare(
    baseline: RunTable,
    candidate: RunTable,
    *,
    tolerance: float,
    rng: np.random.Generator,
    objectives: tuple[Objective, ...] = (),
    resamples: int = 2000,
    same_build: tuple[RunTable, RunTable] | None = None,
    noise: Noise | None = None,
    bodies: tuple[BodyChange, ...] = (),
    allow_invalid: bool = False,
    distributed: bool = False,
) -> DiffResult:
    """Candidate against baseline; `tolerance` is a fraction of the baseline's quantile.

    The noise is what two runs of the `same_build` differ by, or `noise` if that was measured before, or else
    assumed (see `verdicts.assumed_floor_ns`). `bodies` is what `bodies.body_changes` found of the same runs.
    With `distributed`, what only pages and JSON show is found too: distributions of both runs, the shift
    functions between them, single requests. Raises `RunInvalid` for a run that fails a validity check, and
    `NothingCompared` where no request was answered well in both runs and new failures make no regression,
    unless `allow_invalid`; `BadInput` for runs that can't be paired. `seed` of the result, drawn from `rng`,
    gives the same resamples again.
    """
    before, after = Latencies(baseline), Latencies(candidate)
    bucket_s = max(bucket_width_s(duration_s(run), len(run)) for run in (baseline, candidate))
    summaries = (
        summarise(baseline, objectives, before, bucket_s, distributed=distributed),
        summarise(candidate, objectives, after, bucket_s, distributed=distributed),
    )
    for summary in summaries:
        if not allow_invalid:
            require_valid(summary.label, summary.validity)
    seed = int(rng.integers(2**31))
    drawn = _Drawn.of(before, after, resamples, seed)
    pairs = drawn.pairs
    if same_build is not None:
        noise = measure_noise(*same_build, tolerance=tolerance, resamples=resamples, seed=seed)
    noise = noise or Noise()
    estimated, shifts = drawn.estimates_and_shifts(distributed=distributed)
    effects = judge_effects(estimated, tolerance, noise.floors_ns)
    outcomes = outcome_changes(pairs, before, after)
    answers, tails = drawn.answers(tolerance, noise.answers), drawn.tails(noise.tails)
    locations = locate(pairs, before, after, effects, drawn.multiplicities, drawn.length)
    held_back = (*_held_back(pairs, before, after), *_otherwise_answered(answers, bodies))
    headline = headline_of(effects)
    verdict = overall(effects, headline, (*outcomes, *tails, *answers), held_back=bool(held_back))
    if not allow_invalid:
        _require_answers(pairs, before, after, verdict)
    return DiffResult(
        baseline=summaries[0],
        candidate=summaries[1],
        verdict=verdict,
        reasons=reasons_of(verdict, effects, headline, (*answers, *outcomes, *tails), held_back, locations),
        effects=effects,
        outcome_changes=outcomes,
        pairs=len(pairs),
        unpaired_baseline=len(baseline) - len(pairs),
        unpaired_candidate=len(candidate) - len(pairs),
        tolerance=tolerance,
        block_s=drawn.length.cells * pairs.cell_ns / 1e9,
        resamples=resamples,
        seed=seed,
        warnings=(
            *_warnings(pairs, summaries, drawn.length, measured=bool(noise.floors_ns)),
            *cluster_warnings(pairs, before, after),
            *pairing_doubts(pairs, baseline),
        ),
        locations=locations,
        tails=tails,
        changed_requests=changed_requests(pairs, before, after),
        answers=answers,
        bodies=bodies,
        waterfall=paired_waterfall(pairs, baseline, candidate, bucket_s) if distributed else None,
        shifts=shifts,
    )


def headline_of(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """What equivalence is claimed of: all requests and each endpoint, TTFT, TPOT and E2E, from due if known.

    Of each the median and the highest quantile that can be judged.
    """
    chosen: dict[tuple[str, str, str], list[Effect]] = {}
    clock = headline_clock(effects)
    for effect in effects:
        if effect.group.kind in ("all", "endpoint") and is_headline(effect, clock) and effect.metric != "itl":
            key = (effect.group.kind, effect.group.name, effect.metric)
            chosen.setdefault(key, []).append(effect)
    headline: list[Effect] = []
    for family in chosen.values():
        judged = [effect for effect in family if not np.isnan(effect.p_value)]
        headline += [judged[0], *judged[1:][-1:]] if judged else family[:1]
    return tuple(headline)


def overall(
    effects: Sequence[Effect],
    headline: Sequence[Effect],
    beside: Sequence[OutcomeChange | AnswerChange | TailChange],
    *,
    held_back: bool,
) -> Verdict:
    """One verdict over all; an improvement is none when `held_back` by failures or other answers.

    `beside` are failures, slowed requests and answers. Where an effect is located, or which requests changed
    most, is not asked: what is looked at after the verdict can't change it.
    """
    verdicts = {effect.verdict for effect in effects} | {change.verdict for change in beside}
    if Verdict.REGRESSION in verdicts:
        return Verdict.REGRESSION
    if Verdict.IMPROVED in verdicts:
        return Verdict.INCONCLUSIVE if held_back else Verdict.IMPROVED
    same = bool(headline) and all(effect.verdict is Verdict.EQUIVALENT for effect in headline)
    return Verdict.EQUIVALENT if same and not held_back else Verdict.INCONCLUSIVE


def _held_back(pairs: Pairs, before: Latencies, after: Latencies) -> Iterator[str]:
    """Why faster answers would be no improvement, or slower ones no surprise."""
    if rose(pairs, before, after):
        counts = before.run.failed[pairs.baseline].sum(), after.run.failed[pairs.candidate].sum()
        yield f"failures rose from {counts[0]} to {counts[1]} of {len(pairs)} requests"
    # The lenient half of what `answers` judges: fewer tokens hold back also where they are not certain.
    both = _both_ok(pairs, before, after)
    tokens = before.run.output_tokens[pairs.baseline][both], after.run.output_tokens[pairs.candidate][both]
    known = ~np.isnan(tokens[0]) & ~np.isnan(tokens[1])
    was, now = float(tokens[0][known].sum()), float(tokens[1][known].sum())
    if was and now < was * (1 - FEWER_TOKENS):
        yield f"the candidate generated {100 * (1 - now / was):.1f} % fewer output tokens for them"


def _both_ok(pairs: Pairs, before: Latencies, after: Latencies) -> npt.NDArray[np.bool_]:
    return np.asarray(before.ok[pairs.baseline] & after.ok[pairs.candidate])


def _require_answers(pairs: Pairs, before: Latencies, after: Latencies, verdict: Verdict) -> None:
    """A gate must not pass on latencies that nobody measured: a dead baseline clears no build.

    A candidate that answers nothing of what its baseline did is a regression, by its failures.
    """
    failed_anew = verdict is Verdict.REGRESSION and before.ok[pairs.baseline].any()
    if failed_anew or _both_ok(pairs, before, after).any():
        return
    counts = ", ".join(
        f"{int(arm.ok.sum()):,} of {len(arm.run):,} in {_label(arm)}" for arm in (before, after)
    )
    raise NothingCompared(
        f"no verdict: no request was answered well in both runs ({counts}), so no latency can be compared; "
        "see what failed with `peaktape report`, and replay both"
    )


def _label(latencies: Latencies) -> str:
    return latencies.run.metadata.label or "a run"


def _otherwise_answered(answers: Sequence[AnswerChange], bodies: Sequence[BodyChange]) -> Iterator[str]:
    """Certain changes of what is said: latencies of other answers are no like for like."""
    for change in answers:
        if change.changed and change.verdict is not Verdict.REGRESSION and change.measure.startswith(FINISH):
            yield (
                f"{change.measure} {change.baseline:,.0f} → {change.candidate:,.0f} of {change.pairs:,} "
                "answers"
            )
    fields = [change for change in bodies if change.changed]
    named = [change for change in fields if change.path != WHOLE] or fields
    if named:
        shown = ", ".join(
            f"{change.path} in {100 * change.differing_ratio:.0f} % of {change.compared:,} "
            f"(same build: {100 * change.noise_ratio:.0f} %)"
            for change in named[:3]
        )
        more = f" and {len(named) - 3} more fields" if len(named) > 3 else ""
        yield f"answers differ: {shown}{more}"


def _warnings(
    pairs: Pairs, summaries: tuple[RunSummary, RunSummary], length: BlockLength, *, measured: bool
) -> Iterator[str]:
    for summary in summaries:
        if not summary.validity.valid:
            yield f"{summary.label or 'a run'} is INVALID: what follows was forced, and proves nothing"
    targets = [urlsplit(summary.target).hostname for summary in summaries]
    if targets[0] != targets[1]:
        yield (
            f"replayed against different hosts ({targets[0]}, {targets[1]}): what these differ by is in "
            "every effect, and is not the build's"
        )
    senders = [summary.sender for summary in summaries]
    if senders[0] != senders[1]:
        yield (
            f"sent by different senders ({senders[0]}, {senders[1]}): what these differ by is in every "
            "effect; replay both with one --sender"
        )
    if length.curtailed:
        yield (
            "latencies hang together over more than an eighth of the run: intervals may be too narrow; "
            "replay a longer stretch"
        )
    if not measured:
        yield (
            "one run of each build: differences from run to run are assumed (2 ms + 2 %), not measured; "
            "give --same-build two runs of one build to measure them"
        )
    blocks = pairs.cells / length.cells
    if blocks < 20:
        yield f"about {blocks:.0f} independent stretches of time in {len(pairs)} pairs: intervals are wide"
