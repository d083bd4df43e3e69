"""Which effects of a comparison are worth a reader's glance, and in what order.

Nothing is judged anew: the verdicts are analysis's; what is left out is counted by verdict.
"""

from __future__ import annotations

from collections import Counter

from replay.analysis.values import METRICS, Effect, Group, GroupSummary, OutcomeChange, Verdict
from replay.analysis.vocabulary import GROUP_KINDS, headline_clock, is_headline
from replay.report.figures import relative

_DECIDED = (Verdict.REGRESSION, Verdict.IMPROVED)


def telling_effects(effects: tuple[Effect, ...], limit: int = 24) -> tuple[Effect, ...]:
    """At most `limit` effects in reading order.

    Always the `headline_effects`; then regressions and improvements, largest first, of each metric the
    lowest and the highest quantile that moved. An effect from `sent` is left out when its twin from `due`
    says the same, a group when it holds the requests of an earlier one.
    """
    effects = without_twins(effects)
    always = list(headline_effects(effects))
    said = {(*_place(e), e.verdict) for e in effects if e.clock == "due"}
    moved = [
        effect
        for effect in effects
        if effect.verdict in _DECIDED
        and effect not in always
        and (effect.clock == "due" or (*_place(effect), effect.verdict) not in said)
    ]
    decided = _outermost(moved)
    decided.sort(key=lambda e: (e.verdict is not Verdict.REGRESSION, -abs(_size(e))))
    return in_reading_order(tuple((always + decided)[:limit]))


def headline_effects(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """p50 and p99 of every metric in the widest group that has it, and p50 of E2E per endpoint.

    From due, or from sent where no due instants are known.
    """
    clock = headline_clock(effects)
    widest: dict[str, Group] = {}
    for effect in in_reading_order(effects):
        widest.setdefault(effect.metric, effect.group)
    return tuple(
        effect
        for effect in in_reading_order(effects)
        if is_headline(effect, clock)
        and (
            (effect.group == widest[effect.metric] and effect.quantile in (0.5, 0.99))
            or (effect.group.kind == "endpoint" and effect.metric == "e2e" and effect.quantile == 0.5)
        )
    )


def most_changed_group(effects: tuple[Effect, ...]) -> Group | None:
    """The narrowest kind of group with the largest decided change: where a reader should look first."""
    decided = [effect for effect in effects if effect.verdict in _DECIDED and effect.group.kind != "phase"]
    if not decided:
        return None
    decided.sort(key=lambda e: (e.group.kind != "endpoint", -abs(_size(e))))
    return decided[0].group


def telling_changes(changes: tuple[OutcomeChange, ...]) -> tuple[OutcomeChange, ...]:
    """The changes of failure counts that differ at all, and always the failures over all requests."""
    return tuple(
        change
        for change in changes
        if change.baseline_count != change.candidate_count
        or (change.group.kind == "all" and change.kind == "failure")
    )


def without_twins(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """The effects in reading order, less those whose figures an earlier group has already: a model that is
    served by one endpoint only makes the same group twice."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for effect in in_reading_order(effects):
        figures = (effect.metric, effect.clock, effect.quantile, effect.pairs)
        key = (*figures, effect.baseline_ns, effect.candidate_ns)
        if key not in seen:
            kept.append(effect)
        seen.add(key)
    return tuple(kept)


def in_reading_order(effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """By group (all, endpoint, model, phase), metric, clock and quantile; unknown kinds last."""
    return tuple(
        sorted(
            effects,
            key=lambda e: (
                _rank(GROUP_KINDS, e.group.kind),
                e.group.name,
                _rank(METRICS, e.metric),
                e.clock != "due",
                e.quantile,
            ),
        )
    )


def by_group(effects: tuple[Effect, ...]) -> tuple[tuple[Group, tuple[Effect, ...]], ...]:
    """The effects of each group, in reading order."""
    found: dict[Group, list[Effect]] = {}
    for effect in in_reading_order(effects):
        found.setdefault(effect.group, []).append(effect)
    return tuple((group, tuple(members)) for group, members in found.items())


def left_out(effects: tuple[Effect, ...], shown: tuple[Effect, ...]) -> Counter[Verdict]:
    """How many effects of each verdict are not among `shown`."""
    return Counter(effect.verdict for effect in effects if effect not in shown)


def without_twin_groups(groups: tuple[GroupSummary, ...]) -> tuple[GroupSummary, ...]:
    """The groups, less those whose counts and metrics an earlier one has already."""
    kept: list[GroupSummary] = []
    for summary in groups:
        if not any(
            (g.scheduled, g.ok, g.metrics) == (summary.scheduled, summary.ok, summary.metrics) for g in kept
        ):
            kept.append(summary)
    return tuple(kept)


def _outermost(effects: list[Effect]) -> list[Effect]:
    families: dict[tuple[object, ...], list[Effect]] = {}
    for effect in effects:
        families.setdefault((effect.group, effect.metric, effect.clock), []).append(effect)
    found = []
    for family in families.values():
        family.sort(key=lambda e: e.quantile)
        found += family if len(family) < 3 else [family[0], family[-1]]
    return found


def _place(effect: Effect) -> tuple[object, ...]:
    return effect.group, effect.metric, effect.quantile


def _size(effect: Effect) -> float:
    size = relative(effect.effect_ns, effect.baseline_ns)
    return size if size == size else 0.0  # a NaN would break the order


def _rank(known: tuple[str, ...], name: str) -> int:
    return known.index(name) if name in known else len(known)
