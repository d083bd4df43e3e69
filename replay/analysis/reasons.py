"""The few sentences that say why a comparison ended as it did, the weightiest first.

Thirty effects become a handful: per group and metric the most telling quantile, endpoints before the whole,
and what follows from another effect says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from replay.analysis.outcomes import FAILURE
from replay.analysis.values import Effect, Group, OutcomeChange, Verdict

MOST_REASONS = 6
_NAMES = {"ttft": "TTFT", "itl": "ITL", "tpot": "TPOT", "e2e": "E2E"}


def reasons_of(
    verdict: Verdict,
    effects: Sequence[Effect],
    headline: Sequence[Effect],
    outcomes: Sequence[OutcomeChange],
    held_back: Sequence[str],
) -> tuple[str, ...]:
    """At most six sentences for the verdict; `held_back` says what forbade to call it an improvement."""
    told = (
        *_outcome_sentences(outcomes, verdict),
        *held_back,
        *_effect_sentences(effects, verdict),
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


def _effect_sentences(effects: Sequence[Effect], verdict: Verdict) -> Iterator[str]:
    if verdict not in (Verdict.REGRESSION, Verdict.IMPROVED):
        return
    telling = _telling([effect for effect in effects if effect.verdict is verdict])
    for effect in sorted(telling, key=lambda effect: (_follows(effect, telling) != "", -_certainty(effect))):
        yield _sentence(effect) + _narrowed(effect, effects, verdict) + _follows(effect, telling)


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
    """Names the one model or phase, of several that are judged, that alone shows the effect."""
    if effect.group.kind != "endpoint":
        return ""
    said = ""
    for kind in ("model", "phase"):
        alike = [e for e in effects if e.group.kind == kind and e.metric == effect.metric]
        changed = {e.group for e in alike if e.verdict is verdict}
        if len({e.group for e in alike}) >= 2 and len(changed) == 1:
            said += f", only in {kind} {next(iter(changed)).name}"
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
        f"{_who(e.group)} {_NAMES[e.metric]} {_percent(e.quantile)} "
        f"{_ms(e.minimum_detectable_ns)} ms ({100 * e.minimum_detectable_ns / e.baseline_ns:.0f} %)"
        for e in shown
        if e.quantile == 0.5 and e.baseline_ns
    )
    yield f"no regression found; the smallest change it would have seen: {wide}"
    open_ends = [effect for effect in seen if effect.pairs_needed is not None]
    if open_ends:
        most = max(open_ends, key=lambda effect: effect.pairs_needed or 0)
        yield (
            f"inconclusive: need about {most.pairs_needed:,} more pairs to decide "
            f"{_who(most.group)} {_NAMES[most.metric]} {_percent(most.quantile)}"
        )


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
