"""What a comparison could see, from two runs of one build, before there is a candidate to judge."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from replay.analysis.values import DiffResult, Effect
from replay.report.change_wording import TAIL_TITLE, tail_name, telling_tails
from replay.report.figures import (
    format_bound,
    format_change_ratio,
    format_count,
    format_ns,
    format_ratio,
    relative,
)
from replay.report.telling import by_group, headline_effects
from replay.report.terminal_parts import blank, bullets, headline_text, indented, note, plain_table
from replay.report.wording import Headline, diff_doubts, effect_name, group_name, has_interval


def power_report(same: DiffResult) -> RenderableType:
    """Of the headline quantiles: what one build differs by from itself, and the smallest change to be seen.

    `same` compares two runs of one build, judged by the noise floor that they give.
    """
    subject = f"by a diff of runs like {same.baseline.label}, {format_count(same.pairs)} pairs"
    parts: list[RenderableType] = [headline_text(Headline("equivalent", "≈", "Visible", subject)), blank()]
    table = plain_table(header=True)
    table.add_column("")
    for title in ("value", "noise floor", "smallest visible change"):
        table.add_column(title, justify="right", no_wrap=True)
    for group, members in by_group(headline_effects(same.effects)):
        table.add_row(Text(group_name(group), style="bold"), "", "", "")
        for effect in members:
            table.add_row(Text(f" {effect_name(effect)}"), format_ns(effect.baseline_ns), *_shares(effect))
    if same.tails:
        table.add_row(Text(TAIL_TITLE, style="bold"), "", "", "")
        for change in telling_tails(same.tails):
            visible = f"{format_ratio(change.minimum_detectable_ratio)} of them"
            table.add_row(Text(f" {tail_name(change)}"), "", format_ratio(abs(change.net_ratio)), visible)
    parts.append(indented(table))
    told = (
        f"A true change of this size is called a regression four times in five, at a tolerance of "
        f"{format_bound(same.tolerance)}, corrected for {format_count(_judged(same))} effects; smaller ones "
        "less often. Longer or repeated runs see smaller changes."
    )
    parts.append(note(told))
    parts += [blank(), *bullets(diff_doubts(same)[2:])]
    return Group(*parts)


def _judged(same: DiffResult) -> int:
    return sum(has_interval(effect) for effect in same.effects)


def _shares(effect: Effect) -> tuple[str, str]:
    floor = format_change_ratio(relative(effect.noise_floor_ns, effect.baseline_ns)).lstrip("+")
    if not has_interval(effect):
        return floor, f"too few pairs: about {format_count(effect.pairs_needed or 0)} more wanted"
    return floor, format_change_ratio(relative(effect.minimum_detectable_ns, effect.baseline_ns))
