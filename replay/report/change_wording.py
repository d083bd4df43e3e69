"""Words and figures for where an effect is, what answers say, and which requests changed most.

The terminal and the page share them; how they are laid out is not decided here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from replay.analysis.change_values import (
    SLOWED,
    AnswerChange,
    BodyChange,
    ChangedRequest,
    Location,
    RequestTimeline,
    TailChange,
)
from replay.analysis.time_values import ShownRequest
from replay.analysis.vocabulary import Group, Verdict
from replay.report.figures import (
    MISSING,
    format_change_ns,
    format_change_ratio,
    format_count,
    format_interval_ratio,
    format_ns,
    format_number,
    format_p_value,
    format_ratio,
)
from replay.report.wording import EFFECT_WORDS, SYMBOLS, group_name, metric_name

FIELDS_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class ChangeRow:
    """A change in print: of what, its verdict (a tone, and symbol and word for it), its figures, its p."""

    name: str
    tone: str
    word: str
    cells: tuple[str, ...]
    p_value: str


@dataclasses.dataclass(frozen=True)
class Place:
    """One group and metric whose effect was located: the dimensions that tell, and those that don't."""

    title: str
    bands: tuple[Location, ...]
    alike: tuple[str, ...]


def places(locations: Sequence[Location]) -> tuple[Place, ...]:
    """Per group and metric the bands of each dimension in which one stands out, and the others' names."""
    found: dict[tuple[Group, str], list[Location]] = {}
    for location in locations:
        found.setdefault((location.parent, location.metric), []).append(location)
    return tuple(_place(parent, metric, members) for (parent, metric), members in found.items())


def _place(parent: Group, metric: str, members: list[Location]) -> Place:
    telling = {location.dimension for location in members if location.stands_out}
    alike = dict.fromkeys(one.dimension for one in members if one.dimension not in telling)
    return Place(
        title=f"{group_name(parent)}, {metric_name(metric)}: {figure_words(members[0].figure)}",
        bands=tuple(location for location in members if location.dimension in telling),
        alike=tuple(alike),
    )


def figure_words(figure: str) -> str:
    """What is shown per band, in words."""
    if figure == SLOWED:
        return "share of requests slowed by half or more, less those as much faster"
    return "typical change of a request"


def alike_note(place: Place) -> str:
    """Which dimensions make no difference, "" where all do."""
    if not place.alike:
        return ""
    listed = ", ".join(place.alike)
    return (
        f"No band stands out by {listed}."
        if place.bands
        else f"No band stands out, by {listed}: all changed alike."
    )


def band_cells(location: Location) -> tuple[str, str, str, str, str]:
    """Pairs, change, interval, change elsewhere, and whether it stands out, in print."""
    return (
        format_count(location.pairs),
        format_change_ratio(location.change_ratio),
        format_interval_ratio(location.low_ratio, location.high_ratio),
        format_change_ratio(location.elsewhere_ratio),
        "◀ stands out" if location.stands_out else "",
    )


TAIL_TITLE = "Requests that take half as long again"


def telling_tails(changes: Sequence[TailChange]) -> tuple[TailChange, ...]:
    """Per endpoint (or over all) TTFT, or E2E where there is none; and what is decided."""
    decided = (Verdict.REGRESSION, Verdict.IMPROVED)
    streams = {change.group for change in changes if change.metric == "ttft"}
    wide = {change.group.kind for change in changes} - {"model", "phase"}
    return tuple(
        change
        for change in changes
        if change.verdict in decided
        or (
            change.group.kind == ("endpoint" if "endpoint" in wide else "all")
            and (change.metric == "ttft" or change.group not in streams)
        )
    )


def tail_name(change: TailChange) -> str:
    """A tail change's group and metric."""
    return f"{group_name(change.group)}: {metric_name(change.metric)}"


def tail_row(change: TailChange) -> ChangeRow:
    """Slower, as much faster, the net share with its interval, and the smallest visible one."""
    cells = (
        f"{format_count(change.slower)} of {format_count(change.pairs)}",
        format_count(change.faster),
        format_change_ratio(change.net_ratio),
        format_interval_ratio(change.low_ratio, change.high_ratio),
        format_ratio(change.minimum_detectable_ratio),
    )
    word = f"{SYMBOLS[change.verdict]} {EFFECT_WORDS[change.verdict]}"
    return ChangeRow(tail_name(change), change.verdict.value, word, cells, format_p_value(change.p_value))


TAIL_HEADINGS = ("slower", "faster", "net", "95 % CI", "visible")


def answer_row(change: AnswerChange) -> ChangeRow:
    """Base → candidate, the change, and its interval."""
    name = change.measure if change.group.kind == "all" else f"{group_name(change.group)}: {change.measure}"
    pair = " → ".join(
        format_count(int(value)) if value.is_integer() else format_number(value)
        for value in (float(change.baseline), float(change.candidate))
    )
    interval = format_interval_ratio(change.low_ratio, change.high_ratio)
    cells = (pair, format_change_ratio(change.change_ratio), interval)
    return ChangeRow(name, *_answer_word(change), cells, format_p_value(change.p_value))


ANSWER_HEADINGS = ("base → candidate", "change", "95 % CI")


def _answer_word(change: AnswerChange) -> tuple[str, str]:
    if change.verdict is Verdict.REGRESSION:
        return Verdict.REGRESSION.value, "− less"
    if change.changed:
        return Verdict.INCONCLUSIVE.value, "≠ changed"
    if change.verdict is Verdict.EQUIVALENT:
        return Verdict.EQUIVALENT.value, "~ no difference"
    return Verdict.INCONCLUSIVE.value, "? undecided"


def telling_answers(changes: Sequence[AnswerChange]) -> tuple[AnswerChange, ...]:
    """All over all requests or the widest group of a measure, and of others what changed."""
    seen: set[str] = set()
    kept = []
    for change in sorted(changes, key=lambda one: one.group.kind != "all"):
        if change.measure not in seen or change.changed:
            kept.append(change)
        seen.add(change.measure)
    return tuple(kept)


def body_row(change: BodyChange) -> ChangeRow:
    """How often a field differs between the builds, how often within one, and of how many requests."""
    noise = MISSING if math.isnan(change.noise_ratio) else format_ratio(change.noise_ratio)
    cells = (format_ratio(change.differing_ratio), noise, format_count(change.compared))
    return ChangeRow(change.path, *_body_word(change), cells, format_p_value(change.p_value))


def _body_word(change: BodyChange) -> tuple[str, str]:
    if change.changed:
        return Verdict.INCONCLUSIVE.value, "≠ changed"
    if math.isnan(change.noise_ratio):
        return Verdict.INCONCLUSIVE.value, "? noise unknown" if change.differing_ratio else "~ same"
    return Verdict.EQUIVALENT.value, "~ noise" if change.differing_ratio else "~ same"


def body_note(changes: Sequence[BodyChange]) -> str:
    """What limits the comparison of bodies."""
    more = f" {len(changes) - FIELDS_SHOWN} more fields are in --json." if len(changes) > FIELDS_SHOWN else ""
    if any(not math.isnan(change.noise_ratio) for change in changes):
        return f"Changed: differs more often than between two runs of one build.{more}"
    return f"Give --same-build two runs with bodies, and what differs by itself is told from changes.{more}"


def request_title(request: ChangedRequest | ShownRequest) -> str:
    """Which request it is, and what is known of it."""
    name = request.request_id if not request.copy else f"{request.request_id} copy {request.copy}"
    prompt = (
        "" if math.isnan(request.input_tokens) else f", {format_count(int(request.input_tokens))} tokens in"
    )
    model = f", {request.model}" if request.model else ""
    return f"{name}  {request.endpoint}{model}{prompt}"


def request_change(request: ChangedRequest) -> str:
    """How its E2E changed, or that it fails now."""
    return "fails now" if math.isnan(request.change_ns) else format_change_ns(request.change_ns)


def start_of(line: RequestTimeline) -> float:
    """The instant that a request is told from, in ns: due, or sent where no due instant is known."""
    return line.sent_ns if math.isnan(line.due_ns) else line.due_ns


def timeline_cells(line: RequestTimeline) -> tuple[str, ...]:
    """Due from the run's zero; sent, first byte, first token and end after it; what was answered.

    Where no due instant is known, sent stands from the run's zero, and the others after that.
    """
    start_ns, due_known = start_of(line), not math.isnan(line.due_ns)
    at = f"{start_ns / 1e9:.3f} s"
    after = [format_ns(instant - start_ns) for instant in (line.first_byte_ns, line.first_token_ns)]
    tokens = "" if math.isnan(line.output_tokens) else f", {format_count(int(line.output_tokens))} tokens"
    said = line.error or (str(line.status) if line.status else "no answer")
    return (
        *((at, format_ns(line.sent_ns - start_ns)) if due_known else (MISSING, at)),
        *after,
        format_ns(line.end_ns - start_ns),
        f"{said}{tokens}",
    )


TIMELINE_HEADINGS = ("due", "sent", "first byte", "first token", "end", "answer")
