"""Pairs of the same scheduled request in two runs, and the time cells that both runs share.

Which requests belong together is decided here; what their differences mean is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from capture.failures import BadInput
from replay.analysis.bootstrap import politis_white
from replay.analysis.metrics import Latencies
from replay.analysis.run_table import Floats, Ints, RunTable

FEWEST_PAIRS = 20
FEWEST_SHARED = 0.5
"""Two runs that share fewer requests than this part of the shorter one did not replay the same thing."""

FEWEST_ALIKE = 0.95
"""Of the pairs that other tools' runs make, so many prompts must be of one length in both."""

PAIRS_A_CELL = 5
FEWEST_CELLS, MOST_CELLS = 8, 400
MOST_SHORTFALL = 0.6
FEWEST_BLOCKS = 8
"""Mean blocks longer than 1/8 of the run would leave too few of them to judge anything by."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Rows of the same request in both runs (int64, one entry a pair, in the baseline's order of due).

    `cell` int64 is the time cell of each pair, from 0 to `cells` − 1, each `cell_ns` wide.
    """

    baseline: Ints
    candidate: Ints
    cell: Ints
    cells: int
    cell_ns: float

    def __len__(self) -> int:
        return len(self.baseline)


def pair(baseline: RunTable, candidate: RunTable) -> Pairs:
    """Pairs by (request_id, copy); raises `BadInput` for other schedules or modes, or few in common.

    Runs that other tools made have no schedule: their fingerprint is of the load that was asked for, and
    that they hold the same prompts is told from the prompts' lengths.
    """
    found, wanted = candidate.metadata.schedule_fingerprint, baseline.metadata.schedule_fingerprint
    if found != wanted:
        _refuse_other_loads(baseline, candidate)
        raise BadInput(
            f"runs of different schedules: {_label(candidate)} replayed {found[:12]}, {wanted[:12]} of "
            f"{_label(baseline)} wanted; replay the same schedule file against both builds"
        )
    if candidate.metadata.mode != baseline.metadata.mode:
        raise BadInput(
            f"runs of different modes: {_label(candidate)} was replayed {candidate.metadata.mode}, "
            f"{baseline.metadata.mode} of {_label(baseline)} wanted: the load differs; replay both alike"
        )
    for run in (baseline, candidate):
        _refuse_duplicates(run)
    place = pc.index_in(candidate.request_key, value_set=baseline.request_key)
    at_baseline = place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    shared = np.flatnonzero(at_baseline >= 0)
    if baseline.metadata.made_by or candidate.metadata.made_by:
        _refuse_other_prompts(baseline, candidate, at_baseline[shared], shared)
    fewer = min(len(baseline), len(candidate))
    if len(shared) < max(FEWEST_PAIRS, FEWEST_SHARED * fewer):
        raise BadInput(
            f"{_label(baseline)} and {_label(candidate)}: {len(shared)} requests in common found of {fewer}, "
            f"at least {FEWEST_PAIRS} and half of them wanted; replay the whole schedule against both builds"
        )
    rows = at_baseline[shared]
    # Open loop: both are due at once. Partly open: due instants are live, and their mean favours neither.
    due_ns = (baseline.due_ns[rows] + candidate.due_ns[shared]) / 2.0
    order = np.argsort(due_ns, kind="stable")
    cell, cells, cell_ns = time_cells(due_ns[order])
    return Pairs(rows[order], shared[order], cell, cells, cell_ns)


def _refuse_other_loads(baseline: RunTable, candidate: RunTable) -> None:
    made_by = [run.metadata.made_by or "peaktape replay" for run in (baseline, candidate)]
    if made_by == ["peaktape replay"] * 2:
        return
    loads = [", ".join(run.metadata.steps) or "unstated" for run in (baseline, candidate)]
    if made_by[0] != made_by[1]:
        loads = made_by
    raise BadInput(
        f"runs of different loads: {_label(candidate)} is of {loads[1]}, {loads[0]} of {_label(baseline)} "
        "wanted; run the same tool with the same load, data and seed against both builds"
    )


def _refuse_other_prompts(baseline: RunTable, candidate: RunTable, before: Ints, after: Ints) -> None:
    """Refuse pairs whose prompts differ in length: they are not the same requests."""
    lengths = baseline.input_tokens[before], candidate.input_tokens[after]
    known = baseline.ok[before] & candidate.ok[after] & ~np.isnan(lengths[0]) & ~np.isnan(lengths[1])
    same = int(np.count_nonzero(lengths[0][known] == lengths[1][known]))
    if same < FEWEST_ALIKE * np.count_nonzero(known):
        raise BadInput(
            f"{_label(baseline)} and {_label(candidate)}: {same} of {np.count_nonzero(known)} prompts of "
            f"equal length found, {100 * FEWEST_ALIKE:.0f} % wanted: these are not the same requests; run "
            "both with the same data and seed"
        )


def pairing_doubts(pairs: Pairs, baseline: RunTable) -> Iterator[str]:
    """Why the pairs may not be pairs: of runs that other tools made, requests are told apart by little."""
    if not baseline.metadata.made_by:
        return
    lengths = baseline.input_tokens[pairs.baseline]
    known = lengths[~np.isnan(lengths)]
    if len(known) and np.ptp(known) > 0:
        evidence = "request by request, their prompts are of one length"
    elif len(known):
        evidence = "that they hold the same prompts is taken on trust: all are of one length"
    else:
        evidence = "that they hold the same prompts is taken on trust: no lengths are known"
    yield f"runs of {baseline.metadata.made_by}, paired by the requests' place or content; {evidence}"


def _label(run: RunTable) -> str:
    return run.metadata.label or "a run without label"


def _refuse_duplicates(run: RunTable) -> None:
    distinct = pc.count_distinct(run.request_key).as_py() if isinstance(run.request_key, pa.Array) else 0
    if distinct != len(run):
        raise BadInput(
            f"{_label(run)}: {len(run)} rows hold {distinct} distinct (request_id, copy), one row each "
            "wanted; replay again"
        )


def time_cells(due_ns: Floats) -> tuple[Ints, int, float]:
    """Cell of each due instant (int64), number of cells (8–400, about 5 requests each), width in ns."""
    cells = int(np.clip(len(due_ns) // PAIRS_A_CELL, FEWEST_CELLS, MOST_CELLS))
    if len(due_ns) == 0:
        return np.empty(0, dtype=np.int64), cells, 1.0
    start, span = float(due_ns.min()), float(np.ptp(due_ns))
    width = max(span / cells, 1.0)
    return np.minimum(((due_ns - start) / width).astype(np.int64), cells - 1), cells, width


@dataclasses.dataclass(frozen=True)
class BlockLength:
    """The mean block in cells, and whether the data asked for a longer one than the run can give.

    `shortfall` is the part of a variance that blocks of this length miss, since what hangs together over
    more than a block is cut.
    """

    cells: float
    curtailed: bool
    shortfall: float


def block_length(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> BlockLength:
    """The longest of the block lengths that the paired log-ratios of E2E, TTFT and TPOT ask for."""
    asked = max(politis_white(series) for series in _series(pairs, baseline, candidate))
    return curtail(asked, pairs.cells)


def curtail(asked: float, cells: int) -> BlockLength:
    """The block length for a series of `cells` that asked for `asked`, with the variance that it misses.

    A block of b misses G/(g b) of the variance (Politis & White 2004, theorem 3.1), and their choice, which
    minimises the mean squared error and not the bias, has G/g = √(b³/n). Intervals would be too narrow by
    as much, so it is put back.
    """
    most = max(1.0, cells / FEWEST_BLOCKS)
    used = min(asked, most)
    return BlockLength(used, asked > most, min(np.sqrt(asked**3 / cells) / used, MOST_SHORTFALL))


def _series(pairs: Pairs, baseline: Latencies, candidate: Latencies) -> Iterable[Floats]:
    """Per metric the sum per cell of paired log-ratios, in robust units of their endpoint and clipped."""
    endpoint = baseline.run.endpoint.codes[pairs.baseline]
    for metric in ("e2e", "ttft", "tpot"):
        before = baseline.per_request_ns(metric, "due")[pairs.baseline]
        after = candidate.per_request_ns(metric, "due")[pairs.candidate]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(after / before)
        score = _scores(np.where(np.isfinite(ratio), ratio, np.nan), endpoint)
        yield np.bincount(pairs.cell, weights=score, minlength=pairs.cells)


def _scores(difference: Floats, endpoint: Ints) -> Floats:
    score = np.zeros(len(difference))
    for code in np.unique(endpoint):
        chosen = (endpoint == code) & ~np.isnan(difference)
        if np.count_nonzero(chosen) < FEWEST_PAIRS:
            continue
        centred = difference[chosen] - np.median(difference[chosen])
        scale = 1.4826 * float(np.median(np.abs(centred)))
        if scale > 0:
            clipped = np.clip(centred / scale, -4.0, 4.0)
            score[chosen] = clipped - clipped.mean()
    return score
