"""From a profile to requests: instants, sessions, lengths; and those as the rows of a trace.

Prompts are synthetic, words of exactly the wanted number (see `capture.importers.synthetic_prompt`), so a
generated trace is one like those that are imported from sources of lengths alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from capture.failures import BadInput
from capture.importers.pending_trace import PendingTrace, RowsDrawn
from capture.importers.synthetic_prompt import MOST_TOKENS, RULE, SyntheticPrompts
from capture.importers.synthetic_request import ChatRequests
from replay.transform.generated_prompts import PromptParts
from replay.transform.profile import PATHS, ClientClass, Profile, Quantiles
from replay.transform.session_starts import draw_starts

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MOST_REQUESTS: Final = 50_000_000
NOTE: Final = "generated from a profile: no request in it was ever sent, answers were never seen"
_BATCH: Final = 10_000
_REPEATS: Final = 4


@dataclasses.dataclass(frozen=True)
class Requests:
    """Arrays of one length, in order of arrival; −1 stands for what isn't known.

    `arrival_ns`, `end_ns` int64; `session` int64, `turn` int32; `of_class` int32 points into `labels`;
    `input_tokens`, `output_tokens` int64; `prefix` int64 says which shared beginning the prompt has.
    `text` int64 tells whose words follow it: equal ones begin alike; `repeated` float64 which share of a
    first turn's prompt is an earlier one's.
    """

    arrival_ns: Int64
    end_ns: Int64
    session: Int64
    turn: npt.NDArray[np.int32]
    of_class: npt.NDArray[np.int32]
    input_tokens: Int64
    output_tokens: Int64
    prefix: Int64
    text: Int64
    repeated: Float64
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.arrival_ns)


def generate(
    profile: Profile,
    rng: np.random.Generator,
    *,
    factor: float = 1.0,
    slice_ns: tuple[int, int] | None = None,
) -> Requests:
    """Requests of `profile` with `factor` times its users; of sessions that begin within `slice_ns`.

    What would arrive after the span (or the slice) is cut off, as the end of a capture does. Raises
    `BadInput` when there would be none, or more than `MOST_REQUESTS`.
    """
    expected = factor * profile.sessions * _mean_turns(profile)
    if slice_ns is not None:
        expected *= min(1.0, (slice_ns[1] - slice_ns[0]) / 1e9 / profile.span_s)
    if expected > MOST_REQUESTS:
        raise BadInput(
            f"generate: about {expected:,.0f} requests, at most {MOST_REQUESTS:,} wanted; take a part with "
            "--slice, or fewer users with --amplify 0.1"
        )
    labels = tuple(profile.classes)
    starts, classes = [], []
    for stream in profile.arrivals:
        at_ns = draw_starts(stream, rng, factor)
        parts = np.array([stream.mix.get(label, (0.0,)) for label in labels])
        bounds = np.cumsum(parts / parts.sum(axis=0), axis=0)
        part = np.minimum(at_ns / 1e9 / stream.span_s * parts.shape[1], parts.shape[1] - 1).astype(int)
        chosen = (rng.random(len(at_ns)) > bounds[:-1, part]).sum(axis=0)
        inside = slice(None)
        if slice_ns is not None:
            inside = slice(*np.searchsorted(at_ns, slice_ns))
        starts.append(at_ns[inside] - (slice_ns[0] if slice_ns else 0))
        classes.append(chosen[inside].astype(np.int32))
    start_ns, of_class = np.concatenate(starts), np.concatenate(classes)
    if not len(start_ns):
        raise BadInput(
            f"generate: no session begins (about {expected:.3g} expected); more of them with --amplify"
        )
    span_ns = round(profile.span_s * 1e9)
    end_ns = span_ns if slice_ns is None else min(slice_ns[1], span_ns) - slice_ns[0]
    return _requests(profile, labels, (start_ns, of_class), end_ns, rng)


def _mean_turns(profile: Profile) -> float:
    """The largest mean of turns over the classes: a bound."""
    return max(sum(turns * share for turns, share in one.turns.items()) for one in profile.classes.values())


def _requests(
    profile: Profile,
    labels: tuple[str, ...],
    starts: tuple[Int64, npt.NDArray[np.int32]],
    span_ns: int,
    rng: np.random.Generator,
) -> Requests:
    start_ns, of_class = starts
    pieces: list[dict[str, Any]] = []
    offset = 0
    for number, label in enumerate(labels):
        sessions = np.flatnonzero(of_class == number)
        pieces += _turns_of(profile.classes[label], sessions, start_ns[sessions], number, offset, rng)
        offset += len(profile.classes[label].prefixes)
    columns = {
        name: np.concatenate([np.broadcast_to(piece[name], len(piece["arrival_ns"])) for piece in pieces])
        for name in pieces[0]
    }
    order = np.lexsort((columns["session"], columns["arrival_ns"]))
    order = order[columns["arrival_ns"][order] < span_ns]
    columns = {name: values[order] for name, values in columns.items()}
    return Requests(
        **columns | {name: columns[name].astype(np.int32) for name in ("turn", "of_class")}, labels=labels
    )


def _turns_of(
    one: ClientClass, session: Int64, start_ns: Int64, number: int, offset: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """The turns of a class's sessions, all first ones, all second ones, …"""
    sizes = np.array(list(one.turns))
    shares = np.array(list(one.turns.values()))
    turns = rng.choice(sizes, len(session), p=shares / shares.sum())
    prefix = _prefixes(one, len(session), rng)
    asked_level, answer_level = _levels(one.rank_correlation, len(session), rng)
    open_now: dict[str, npt.NDArray[Any]] = {
        "session": session,
        "turns": turns,
        "prefix": np.where(prefix >= 0, prefix + offset, -1),
        "text": session.copy(),
        "repeated": _repeated(one, len(session), rng),
        "input_tokens": _tokens(one.input_tokens, asked_level),
        "arrival_ns": start_ns,
        **_answers(one, start_ns, answer_level),
    }
    for turn in range(int(turns.max(initial=0))):
        if turn:
            alive = open_now["turns"] > turn
            open_now = {name: values[alive] for name, values in open_now.items()}
            open_now |= _next_turn(one, open_now, turn, rng)
        columns = {name: values for name, values in open_now.items() if name != "turns"}
        yield columns | {"turn": turn, "of_class": number}


def _next_turn(
    one: ClientClass, before: Mapping[str, npt.NDArray[Any]], turn: int, rng: np.random.Generator
) -> dict[str, Int64]:
    """What a turn has of its own, by the one before it."""
    size = len(before["session"])
    keeps = rng.random(size) < one.keeps_history
    grown = one.growth_tokens.at(rng.random(size)) if one.growth_tokens else np.zeros(size)
    think_s = one.think_s.at(rng.random(size)) if one.think_s else np.zeros(size)
    ended = np.where(before["end_ns"] >= 0, before["end_ns"], before["arrival_ns"])
    arrival_ns = np.maximum(before["arrival_ns"], ended + np.rint(think_s * 1e9).astype(np.int64))
    return {
        "text": np.where(keeps, before["text"], before["session"] + turn * _FRESH),
        "input_tokens": np.clip(np.rint(before["input_tokens"] + grown), 1, MOST_TOKENS).astype(np.int64),
        "arrival_ns": arrival_ns,
        **_answers(one, arrival_ns, rng.random(size)),
    }


def _answers(one: ClientClass, arrival_ns: Int64, level: Float64) -> dict[str, Int64]:
    """Length and end of the answers of one rank, `level`: a longer one takes longer."""
    unknown = np.full(len(arrival_ns), -1, np.int64)
    took_ns = np.rint(np.maximum(one.answer_s.at(level), 0) * 1e9).astype(np.int64) if one.answer_s else None
    return {
        "output_tokens": _tokens(one.output_tokens, level, 0) if one.output_tokens else unknown,
        "end_ns": unknown if took_ns is None else arrival_ns + took_ns,
    }


_FRESH: Final = 1 << 40
"""Added to a session's number for words that it had not before."""


def _levels(rank_correlation: float, size: int, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Two uniform draws with Spearman's correlation ρ: a Gaussian copula, r = 2·sin(π·ρ/6)."""
    r = 2 * np.sin(np.pi * rank_correlation / 6)
    one, other = rng.standard_normal((2, size))
    return ndtr(one), ndtr(r * one + np.sqrt(1 - r * r) * other)


def _tokens(quantiles: Quantiles, level: Float64, least: int = 1) -> Int64:
    return np.clip(np.rint(quantiles.at(level)), least, MOST_TOKENS).astype(np.int64)


def _prefixes(one: ClientClass, size: int, rng: np.random.Generator) -> Int64:
    """Which of the class's shared beginnings each session has, −1 none."""
    bounds = np.cumsum([prefix.share for prefix in one.prefixes])
    most = max(1.0, float(bounds[-1])) if len(bounds) else 1.0
    which = np.searchsorted(bounds, rng.random(size) * most, "right")
    return np.where(which < len(bounds), which, -1)


def _repeated(one: ClientClass, size: int, rng: np.random.Generator) -> Float64:
    """Which share of each first prompt repeats an earlier one, 0 where it doesn't."""
    if one.repeated is None:
        return np.zeros(size)
    return np.where(rng.random(size) < one.repeats, one.repeated.at(rng.random(size)), 0.0)


def pending_trace(
    place: Path,
    profile: Profile,
    requests: Requests,
    seed: int,
    *,
    model: str | None = None,
    ignore_eos: bool = False,
) -> PendingTrace:
    """The requests as a trace that is yet to be written; rows are made on demand."""
    bodies = {
        label: ChatRequests(model or one.model, one.stream, ignore_eos, PATHS[one.kind])
        for label, one in profile.classes.items()
    }
    lengths = [prefix.tokens for one in profile.classes.values() for prefix in one.prefixes]
    parts = PromptParts(lengths, np.random.default_rng([seed, _REPEATS]))
    drawn = RowsDrawn(len(requests))
    return PendingTrace(
        place=place,
        source="generate",
        wall_zero_ns=0,
        rows=_rows(requests, bodies, parts, SyntheticPrompts(seed), drawn),
        fraction_read=drawn.fraction,
        notes=(NOTE, RULE, *(f"profile: {note}" for note in profile.notes)),
    )


def _rows(
    requests: Requests,
    bodies: Mapping[str, ChatRequests],
    parts: PromptParts,
    prompts: SyntheticPrompts,
    drawn: RowsDrawn,
) -> Iterator[dict[str, Any]]:
    several = np.zeros(int(requests.session.max()) + 1, np.bool_)
    several[requests.session[requests.turn > 0]] = True
    names = [field.name for field in dataclasses.fields(requests) if field.name != "labels"]
    for start in range(0, len(requests), _BATCH):
        columns = [getattr(requests, name)[start : start + _BATCH].tolist() for name in names]
        for at, values in enumerate(zip(*columns, strict=True), start=start + 1):
            arrival, end, session, turn, of_class, asked, answered, prefix, text, repeated = values
            if turn:
                words = parts.later(session, prefix, text, asked)
            else:
                goes_on = bool(several[session])
                words = parts.first(of_class, session, prefix, asked, repeated, goes_on=goes_on)
            row = bodies[requests.labels[of_class]].row(
                f"generated-{at}",
                arrival,
                prompts.of_parts(words),
                input_tokens=asked,
                output_tokens=None if answered < 0 else answered,
            )
            if several[session]:
                row |= {"session_id": f"session-{session}", "turn": turn}
            if end >= 0:
                row["end_ns"] = end
            drawn.rows = at
            yield row
