"""The comparison of two runs of one schedule: pairs, effects, outcomes, and the one verdict over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from replay.analysis.bootstrap import stationary_multiplicities
from replay.analysis.effects import Estimate, estimates
from replay.analysis.metrics import Latencies
from replay.analysis.outcomes import cluster_warnings, outcome_changes, rose
from replay.analysis.pairing import BlockLength, Pairs, block_length, pair
from replay.analysis.reasons import reasons_of
from replay.analysis.run_table import RunTable
from replay.analysis.summary import summarise
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

FEWER_TOKENS = 0.01
"""A candidate that generates 1 % fewer tokens than the baseline does less work, and is faster for it."""


def compare(
    baseline: RunTable,
    candidate: RunTable,
    *,
    tolerance: float,
    rng: np.random.Generator,
    objectives: tuple[Objective, ...] = (),
    resamples: int = 2000,
    same_build: tuple[RunTable, RunTable] | None = None,
    noise_floor_ns: Mapping[FloorKey, float] | None = None,
    allow_invalid: bool = False,
) -> DiffResult:
    """Candidate against baseline; `tolerance` is a fraction of the baseline's quantile.

    The noise floor of an effect is what `noise_floor_ns` says, else what two runs of the `same_build` differ
    by, else an assumed one (see `verdicts.assumed_floor_ns`). Raises `RunInvalid` for a run that fails a
    validity check, unless `allow_invalid`, and `BadInput` for runs that can't be paired. `seed` of the
    result, drawn from `rng`, gives the same resamples again.
    """
    summaries = summarise(baseline, objectives), summarise(candidate, objectives)
    for summary in summaries:
        if not allow_invalid:
            require_valid(summary.label, summary.validity)
    seed = int(rng.integers(2**31))
    pairs, before, after = pair(baseline, candidate), Latencies(baseline), Latencies(candidate)
    length = block_length(pairs, before, after)
    found = _estimates(pairs, before, after, length, resamples, seed)
    floors = {**_floors(same_build, resamples, seed), **(noise_floor_ns or {})}
    effects = judge_effects(found, tolerance, floors)
    outcomes = outcome_changes(pairs, before, after)
    held_back = tuple(_held_back(pairs, before, after))
    headline = headline_of(effects)
    verdict = overall(effects, headline, outcomes, held_back=bool(held_back))
    return DiffResult(
        baseline=summaries[0],
        candidate=summaries[1],
        verdict=verdict,
        reasons=reasons_of(verdict, effects, headline, outcomes, held_back),
        effects=effects,
        outcome_changes=outcomes,
        pairs=len(pairs),
        unpaired_baseline=len(baseline) - len(pairs),
        unpaired_candidate=len(candidate) - len(pairs),
        tolerance=tolerance,
        block_s=length.cells * pairs.cell_ns / 1e9,
        resamples=resamples,
        seed=seed,
        warnings=(
            *_warnings(pairs, summaries, length, measured=bool(floors)),
            *cluster_warnings(pairs, before, after),
        ),
    )


def _estimates(
    pairs: Pairs, before: Latencies, after: Latencies, length: BlockLength, resamples: int, seed: int
) -> list[Estimate]:
    rng = np.random.default_rng(seed)
    multiplicity = stationary_multiplicities(pairs.cells, length.cells, resamples, rng)
    return estimates(pairs, before, after, multiplicity, length)


def _floors(same_build: tuple[RunTable, RunTable] | None, resamples: int, seed: int) -> dict[FloorKey, float]:
    if same_build is None:
        return {}
    pairs, before, after = pair(*same_build), Latencies(same_build[0]), Latencies(same_build[1])
    length = block_length(pairs, before, after)
    return measured_floors_ns(_estimates(pairs, before, after, length, resamples, seed))


def headline_of(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    """What equivalence is claimed of: all requests and each endpoint, from due, TTFT, TPOT and E2E.

    Of each the median and the highest quantile that can be judged.
    """
    chosen: dict[tuple[str, str, str], list[Effect]] = {}
    for effect in effects:
        if effect.group.kind in ("all", "endpoint") and effect.clock == "due" and effect.metric != "itl":
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
    outcomes: Sequence[OutcomeChange],
    *,
    held_back: bool,
) -> Verdict:
    """One verdict over all; an improvement is none when `held_back` by failures or fewer tokens."""
    verdicts = {effect.verdict for effect in effects} | {change.verdict for change in outcomes}
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
    both = before.ok[pairs.baseline] & after.ok[pairs.candidate]
    tokens = before.run.output_tokens[pairs.baseline][both], after.run.output_tokens[pairs.candidate][both]
    known = ~np.isnan(tokens[0]) & ~np.isnan(tokens[1])
    was, now = float(tokens[0][known].sum()), float(tokens[1][known].sum())
    if was and now < was * (1 - FEWER_TOKENS):
        yield f"the candidate generated {100 * (1 - now / was):.1f} % fewer output tokens for them"


def _warnings(
    pairs: Pairs, summaries: tuple[RunSummary, RunSummary], length: BlockLength, *, measured: bool
) -> Iterator[str]:
    for summary in summaries:
        if not summary.validity.valid:
            yield f"{summary.label or 'a run'} is INVALID: what follows was forced, and proves nothing"
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
