"""What requests are like beside their instants: sessions, think times, lengths, prefix reuse. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.arrival_facts import Distribution, distribution_of
from replay.transform.gaps import BLOCK_ROWS
from replay.transform.prompt_blocks import UInt64

Int64 = npt.NDArray[np.int64]

MOST_TURNS: Final = 10
LENGTHS: Final = {
    "input_tokens": "prompt tokens",
    "output_tokens": "answer tokens",
    "body_bytes": "request bytes",
}
"""Lengths by their column, and what they are."""


@dataclasses.dataclass(frozen=True)
class SessionFacts:
    """`by_turns[k]` sessions have k turns, the last one counting all longer ones. `think_s` runs from the end
    of an answer, where that is known, to the next turn's arrival."""

    sessions: int
    several_turns: int
    longest: int
    by_turns: Mapping[int, int]
    think_s: Distribution | None


@dataclasses.dataclass(frozen=True)
class PrefixReuse:
    """The share of prompts' blocks that an endless prefix cache would hold, over `prompts` prompts."""

    share: float
    prompts: int
    blocks: int


@dataclasses.dataclass(frozen=True)
class ContentFacts:
    """Sessions, lengths by column name (only known ones count), and prefix reuse (None without prompts)."""

    sessions: SessionFacts
    lengths: Mapping[str, Distribution]
    prefix: PrefixReuse | None


def session_facts(session: Int64, think_s: npt.NDArray[np.float64], one_in: int = 1) -> SessionFacts:
    """Facts of sessions from a number per request, int64[n], and the think times between their turns.

    Of sessions of which only one in `one_in` is there, counts are estimates: so many times those found.
    """
    ordered = np.sort(session)
    firsts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    turns = np.diff(firsts, prepend=0, append=len(ordered)) if len(ordered) else firsts
    counts = np.bincount(np.minimum(turns, MOST_TURNS))
    return SessionFacts(
        sessions=len(turns) * one_in,
        several_turns=int((turns > 1).sum()) * one_in,
        longest=int(turns.max(initial=0)),
        by_turns={number: int(count) * one_in for number, count in enumerate(counts) if count},
        think_s=distribution_of(think_s),
    )


def sampling_notes(one_in: int) -> tuple[str, ...]:
    """What is to be said where only one session in `one_in` was looked at; nothing where all were."""
    if one_in == 1:
        return ()
    return (
        f"sessions, turns and think times are those of one session in {one_in}, the longest is the longest "
        "of these: there are too many to hold all",
    )


def lone_facts(requests: int) -> SessionFacts:
    """Facts of so many requests, at least one, of which none belongs with another."""
    return SessionFacts(sessions=requests, several_turns=0, longest=1, by_turns={1: requests}, think_s=None)


def think_times_s(arrival_ns: Int64, end_ns: Int64, session: Int64) -> npt.NDArray[np.float64]:
    """The time from each answer's end (its arrival, where the end isn't known) to its session's next arrival.

    Turns that overlap have none; float64, one per later turn that has one.
    """
    order = np.argsort(session, kind="stable")
    pieces = [np.empty(0)]
    for first in range(0, len(order) - 1, BLOCK_ROWS):
        some = order[first : first + BLOCK_ROWS + 1]
        whose = session[some]
        later = np.flatnonzero(whose[1:] == whose[:-1]) + 1
        row, before = some[later], some[later - 1]
        ended = np.where(end_ns[before] >= 0, end_ns[before], arrival_ns[before])
        think_ns = arrival_ns[row] - ended
        pieces.append(think_ns[think_ns >= 0] / 1e9)
    return np.concatenate(pieces)


def prefix_reuse(chains: Iterable[UInt64]) -> PrefixReuse | None:
    """Reuse over requests with these chains (see `prompt_blocks`), in whatever order: a block that was seen
    before is one that isn't the first of its kind. None where no prompt fills a block."""
    held = list(chains)
    blocks = sum(map(len, held))
    if not blocks:
        return None
    distinct = len(np.unique(np.concatenate(held)))
    return PrefixReuse(1 - distinct / blocks, len(held), blocks)
