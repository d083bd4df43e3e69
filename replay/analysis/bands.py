"""Into which bands the pairs of a group fall, per dimension in which a regression may be located.

A band must not depend on which run is which: a request with a long answer in the baseline has, by chance
alone, a shorter one in the candidate (regression to the mean), and a band of such requests would show a
change between two runs of one build. So bands are made of facts of the schedule, or symmetrically of both
runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from replay.analysis.pairing import Pairs
from replay.analysis.run_table import Bools, Floats, Ints, Labels, RunTable

FEWEST_IN_BAND = 30
LEAST_SHARE = 0.05
MOST_BANDS = 5
MOST_LABELS = 12


@dataclasses.dataclass(frozen=True)
class Banding:
    """One dimension: the band of each pair (int64, −1 for none) and the bands' names, two or more."""

    dimension: str
    band: Ints
    names: tuple[str, ...]


def bandings(pairs: Pairs, baseline: RunTable, candidate: RunTable, members: Bools) -> Iterator[Banding]:
    """Every dimension in which `members` (bool per pair) fall into two bands or more of 30 pairs or more."""
    for dimension, labels in (
        ("endpoint", baseline.endpoint),
        ("model", baseline.model),
        ("phase", baseline.phase),
    ):
        yield from _by_label(dimension, labels, pairs.baseline, members)
    prompt = _mean(baseline.input_tokens[pairs.baseline], candidate.input_tokens[pairs.candidate])
    if np.isfinite(prompt[members]).any():
        yield from _by_size("prompt length", prompt, members, "tokens")
    else:
        sent = (baseline.bytes_out[pairs.baseline] + candidate.bytes_out[pairs.candidate]) / 2.0
        yield from _by_size("request size", sent, members, "bytes")
    output = _mean(baseline.output_tokens[pairs.baseline], candidate.output_tokens[pairs.candidate])
    yield from _by_size("output length", output, members, "tokens")
    yield from _by_size("session turn", turns(baseline)[pairs.baseline].astype(np.float64), members, "")
    if baseline.connection_known and candidate.connection_known:
        yield from _by_connection(pairs, baseline, candidate, members)


def turns(run: RunTable) -> Ints:
    """Which turn of its session each request is, from 1, by due instant: int64 per row."""
    order = np.lexsort((run.due_ns, run.copy, run.session))
    session, copy = run.session[order], run.copy[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (session[1:] != session[:-1]) | (copy[1:] != copy[:-1])
    place = np.arange(len(order))
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = place - np.maximum.accumulate(np.where(first, place, 0)) + 1
    return turn


def _mean(one: Floats, other: Floats) -> Floats:
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, (one + other) / 2.0))


def _by_label(dimension: str, labels: Labels, rows: Ints, members: Bools) -> Iterator[Banding]:
    codes = np.where(members, labels.codes[rows], -1)
    counts = np.bincount(codes[codes >= 0], minlength=len(labels.names))
    kept = [code for code in np.argsort(-counts, kind="stable") if counts[code] >= FEWEST_IN_BAND]
    if len(kept) < 2:
        return
    kept = kept[:MOST_LABELS]
    place = np.full(len(labels.names) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    yield Banding(dimension, place[codes], tuple(labels.names[code] for code in kept))


def _by_size(dimension: str, size: Floats, members: Bools, unit: str) -> Iterator[Banding]:
    """Bands between powers of two, neighbours merged until none is small and there are five at most."""
    known = members & np.isfinite(size)
    if np.count_nonzero(known) < 2 * FEWEST_IN_BAND:
        return
    power = np.full(len(size), -1, dtype=np.int64)
    power[known] = np.floor(np.log2(np.maximum(size[known], 1.0))).astype(np.int64)
    counts = np.bincount(power[known])
    firsts = _merged(counts, max(FEWEST_IN_BAND, LEAST_SHARE * counts.sum()))
    if len(firsts) < 2:
        return
    band = np.where(known, np.searchsorted(firsts, power, side="right") - 1, -1)
    yield Banding(dimension, band, tuple(_between(firsts, index, unit) for index in range(len(firsts))))


def _merged(counts: Ints, least: float) -> list[int]:
    """Where each band of powers begins: the smallest band joins its smaller neighbour, as long as it must."""
    firsts = [0, *range(1, len(counts))]
    sizes = [int(count) for count in counts]
    while len(sizes) > 1 and (min(sizes) < least or len(sizes) > MOST_BANDS):
        smallest = sizes.index(min(sizes))
        left = smallest > 0 and (smallest == len(sizes) - 1 or sizes[smallest - 1] <= sizes[smallest + 1])
        into = smallest - 1 if left else smallest
        sizes[into : into + 2] = [sizes[into] + sizes[into + 1]]
        del firsts[into + 1]
    return firsts


def _between(firsts: list[int], index: int, unit: str) -> str:
    words = f" {unit}" if unit else ""
    low = 2 ** firsts[index]
    if index == len(firsts) - 1:
        return f"{low:,}{words} and more"
    high = 2 ** firsts[index + 1]
    if index == 0:
        return f"below {high:,}{words}" if high > 2 else f"1{words}"
    return f"{low:,}–{high - 1:,}{words}" if high - 1 > low else f"{low:,}{words}"


def _by_connection(
    pairs: Pairs, baseline: RunTable, candidate: RunTable, members: Bools
) -> Iterator[Banding]:
    new = (~baseline.connection_reused[pairs.baseline]).astype(np.int64)
    new += ~candidate.connection_reused[pairs.candidate]
    names = ("reused in both runs", "new in one run", "new in both runs")
    counts = np.bincount(new[members], minlength=3)
    kept = np.flatnonzero(counts >= FEWEST_IN_BAND)
    if len(kept) < 2:
        return
    place = np.full(3, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    yield Banding("connection", np.where(members, place[new], -1), tuple(names[code] for code in kept))
