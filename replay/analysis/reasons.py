"""The few sentences that say why a comparison ended as it did, the weightiest first.

Thirty effects become a handful: per group and metric the most telling quantile, endpoints before the whole,
and what follows from another effect says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from replay.analysis.change_values import AnswerChange, Location, TailChange
from replay.analysis.outcomes import FAILURE
from replay.analysis.values import Effect, Group, OutcomeChange, Verdict

MOST_REASONS = 6
_NAMES = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}


def reasons_of(
    verdict: Verdict,
    effects: Sequence[Effect],
    headline: Sequence[Effect],
    beside: Sequence[OutcomeChange | AnswerChange | TailChange],
    held_back: Sequence[str],
    locations: Sequence[Location] = (),
) -> tuple[str, ...]:
    """At most six sentences for the verdict; `held_back` says what forbade to call it an improvement."""
    outcomes = [change for change in beside if isinstance(change, OutcomeChange)]
    answers = [change for change in beside if isinstance(change, AnswerChange)]
    tails = [change for change in beside if isinstance(change, TailChange)]
    told = (
        *_outcome_sentences(outcomes, verdict),
        *_answer_sentences(answers, verdict),
        *held_back,
        *_effect_sentences(effects, verdict, locations),
        *_tail_sentences(tails, effects, verdict),
        *_undecided(headline, verdict),
    )
    return told[:MOST_REASONS]


def _outcome_sentences(outcomes: Sequence[OutcomeChange], verdict: Verdict) -> Iterator[str]:
    changed = [change for change in outcomes if change.verdict is verdict]
    if verdict not in (Verdict.REGRESSION, Verdict.IMPROVED):
        return
    endpoints = [change for change in changed if change.group.kind == "endpoint"]
    kept = endpoints or changed
    classes = [change for change in kept if change.kind != FAILURE]
    for change in sorted(classes or kept, key=lambda change: change.p_value):
        yield (
            f"{_who(change.group)}: {change.kind} {change.baseline_count} → {change.candidate_count} of "
            f"{change.pairs} requests (p {_p_value(change.p_value)})"
        )


def _answer_sentences(answers: Sequence[AnswerChange], verdict: Verdict) -> Iterator[str]:
    """What the candidate says less of: of tokens the largest loss of an endpoint, or else of all."""
    less = [change for change in answers if change.verdict is Verdict.REGRESSION]
    if verdict is not Verdict.REGRESSION:
        return
    for measure in dict.fromkeys(change.measure for change in less):
        alike = [change for change in less if change.measure == measure]
        endpoints = [change for change in alike if change.group.kind == "endpoint"]
        most = min(endpoints or alike, key=lambda change: change.change_ratio)
        yield (
            f"{_who(most.group)}: {measure} {most.baseline:,.0f} → {most.candidate:,.0f} "
            f"({_share(most.change_ratio)}, 95 % CI {_share(most.low_ratio)}…{_share(most.high_ratio)})"
        )


def _tail_sentences(
    tails: Sequence[TailChange], effects: Sequence[Effect], verdict: Verdict
) -> Iterator[str]:
    """Slowed requests, where the quantiles of the same group don't tell of them already."""
    if verdict not in (Verdict.REGRESSION, Verdict.IMPROVED):
        return
    told = {(effect.group, effect.metric) for effect in effects if effect.verdict is verdict}
    found = [change for change in tails if change.verdict is verdict]
    endpoints = [change for change in found if change.group.kind == "endpoint"] or found
    for change in endpoints:
        if (change.group, change.metric) not in told:
            yield (
                f"{_who(change.group)}: {_NAMES[change.metric]} half as long again in {change.slower:,} of "
                f"{change.pairs:,} requests, as much faster in {change.faster:,} (net 95 % CI "
                f"{_share(change.low_ratio)}…{_share(change.high_ratio)})"
            )


def _located(effect: Effect, locations: Sequence[Location]) -> str:
    """The two surest bands in which the effect's group changed more than elsewhere."""
    there = [
        location
        for location in locations
        if location.stands_out and location.parent == effect.group and location.metric == effect.metric
    ]
    surest: dict[str, Location] = {}
    for location in sorted(there, key=lambda one: one.p_value):
        surest.setdefault(location.dimension, location)
    return "".join(
        f"; most at {one.dimension} {one.band} ({_share(one.change_ratio)}, elsewhere "
        f"{_share(one.elsewhere_ratio)})"
        for one in list(surest.values())[:2]
    )


def _share(ratio: float) -> str:
    digits = 0 if abs(ratio) >= 0.1 else 1
    return f"{100 * ratio:+.{digits}f} %".replace("-", "−")


def _effect_sentences(
    effects: Sequence[Effect], verdict: Verdict, locations: Sequence[Location]
) -> Iterator[str]:
    if verdict not in (Verdict.REGRESSION, Verdict.IMPROVED):
        return
    telling = _telling([effect for effect in effects if effect.verdict is verdict])
    for effect in sorted(telling, key=lambda effect: (_follows(effect, telling) != "", -_certainty(effect))):
        where = _located(effect, locations) or _narrowed(effect, effects, verdict)
        yield _sentence(effect) + where + _follows(effect, telling)


def _telling(found: Sequence[Effect]) -> list[Effect]:
    """Per group and metric the surest relative effect, from due if any; wholes only where no part is."""
    best: dict[tuple[Group, str], Effect] = {}
    for effect in found:
        key = (effect.group, effect.metric)
        held = best.get(key)
        if held is None or (effect.clock == "due", _certainty(effect)) > (
            held.clock == "due",
            _certainty(held),
        ):
            best[key] = effect
    parts = {metric for group, metric in best if group.kind == "endpoint"}
    return [
        effect for (group, metric), effect in best.items() if group.kind == "endpoint" or metric not in parts
    ]


def _certainty(effect: Effect) -> float:
    """The end of the interval nearest to zero, as a share of the baseline."""
    nearest = min(abs(effect.low_ns), abs(effect.high_ns))
    return nearest / abs(effect.baseline_ns) if effect.baseline_ns else 0.0


def _follows(effect: Effect, telling: Sequence[Effect]) -> str:
    """Says so where an E2E changes by about what TTFT changes, or where TPOT and ITL change too."""
    if effect.metric != "e2e":
        return ""
    whole = effect.group.kind == "all"  # a whole may follow from any of its parts
    causes = [other for other in telling if other.metric != "e2e" and (whole or other.group == effect.group)]
    names = list(dict.fromkeys(_NAMES[cause.metric] for cause in causes))
    if not causes:
        return ""
    if names == ["TTFT"] and abs(effect.effect_ns) > 1.5 * abs(causes[0].effect_ns) + effect.noise_floor_ns:
        return ""
    return f", following from {' and '.join(names)}"


def _narrowed(effect: Effect, effects: Sequence[Effect], verdict: Verdict) -> str:
    """Names the one model or phase, of several that are judged, that alone shows the effect; and whether that
    is all that is known, since others are undecided."""
    if effect.group.kind != "endpoint":
        return ""
    said = ""
    for kind in ("model", "phase"):
        alike = [e for e in effects if e.group.kind == kind and e.metric == effect.metric]
        changed = {e.group for e in alike if e.verdict is verdict}
        if len({e.group for e in alike}) >= 2 and len(changed) == 1:
            open_yet = {e.group for e in alike if e.verdict is Verdict.INCONCLUSIVE} - changed
            shown = "shown in" if open_yet else "only in"
            undecided = f" (undecided in {len(open_yet)} more)" if open_yet else ""
            said += f", {shown} {kind} {next(iter(changed)).name}{undecided}"
    return said


def _undecided(headline: Sequence[Effect], verdict: Verdict) -> Iterator[str]:
    """For a comparison without a clear change: what it could have seen, and what deciding would take."""
    if verdict is Verdict.EQUIVALENT:
        yield f"all {len(headline)} headline quantiles are the same within the tolerance"
    if verdict is not Verdict.INCONCLUSIVE:
        return
    seen = [effect for effect in headline if effect.minimum_detectable_ns == effect.minimum_detectable_ns]
    ends = [effect for effect in seen if effect.metric in ("ttft", "e2e") and effect.group.kind == "endpoint"]
    shown = ends or seen
    if not shown:
        yield "too few pairs to judge any quantile by; replay a longer stretch"
        return
    wide = "; ".join(
        f"{_who(e.group)} {_NAMES[e.metric]} {_percent(e.quantile)} {_visible(e)}"
        for e in shown
        if e.quantile == 0.5 and e.baseline_ns
    )
    yield f"no regression found, and none ruled out: it could not have seen less than {wide}"
    open_ends = [effect for effect in seen if effect.pairs_needed is not None]
    if open_ends:
        most = max(open_ends, key=lambda effect: effect.pairs_needed or 0)
        yield (
            f"inconclusive: need about {most.pairs_needed:,} more pairs to decide "
            f"{_who(most.group)} {_NAMES[most.metric]} {_percent(most.quantile)}"
        )


def _visible(effect: Effect) -> str:
    if np.isinf(effect.minimum_detectable_ns):
        return "none short of tenfold"
    share = 100 * effect.minimum_detectable_ns / effect.baseline_ns
    return f"{_ms(effect.minimum_detectable_ns)} ms ({share:.0f} %)"


def _sentence(effect: Effect) -> str:
    clock = " (service time)" if effect.clock == "sent" else ""
    share = f"{100 * effect.effect_ns / effect.baseline_ns:+.0f} %, " if effect.baseline_ns else ""
    return (
        f"{_who(effect.group)}: {_NAMES[effect.metric]}{clock} {_percent(effect.quantile)} "
        f"{_signed(effect.effect_ns)} ms ({share}95 % CI "
        f"{_signed(effect.low_ns)}…{_signed(effect.high_ns)} ms)"
    )


def _who(group: Group) -> str:
    if group.kind == "all":
        return "all requests"
    return group.name if group.kind == "endpoint" else f"{group.kind} {group.name}"


def _percent(quantile: float) -> str:
    return f"p{100 * quantile:g}"


def _p_value(p_value: float) -> str:
    return f"{p_value:.3f}" if p_value >= 0.001 else "< 0.001"


def _ms(duration_ns: float) -> str:
    milliseconds = abs(duration_ns) / 1e6
    return f"{milliseconds:.{0 if milliseconds >= 20 else 1 if milliseconds >= 2 else 2}f}"


def _signed(duration_ns: float) -> str:
    return ("−" if duration_ns < 0 else "+") + _ms(duration_ns)
