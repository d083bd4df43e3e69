"""From a trace to its profile: what traffic is like, in figures that are no single request's.

What `profile` says of `at_least` is kept here: a quantile is the mean of so many neighbouring values, a class
has three times as many sessions, a rate stands for as many starts. The arrival process is found in
`arrival_fit`, the rows are read in `fitted_rows`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.trace_reader import Trace
from replay.transform.arrival_fit import fit_arrivals, pooled
from replay.transform.clock_doubts import all_doubts
from replay.transform.fitted_rows import ClassKey, Rows, read_rows
from replay.transform.profile import ClientClass, Profile, Quantiles, SharedPrefix
from replay.transform.prompt_blocks import BLOCK_BYTES

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LEVELS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45),
    *(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
)
_CLASS_TIMES: Final = 3
_MOST_PARTS: Final = 24
_MOST_PREFIXES: Final = 50


def fit(
    trace: Trace,
    at_least: int,
    rng: np.random.Generator,
    *,
    names: bool = True,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Profile:
    """The profile of `trace`; models get made-up names unless `names`.

    `on_rows` hears how many rows are read.

    Raises `BadInput` where fewer than 3 × `at_least` sessions have a prompt.
    """
    rows = read_rows(trace, on_rows)
    notes = [f"left out: {_told(count, at_least)} {what}" for what, count in rows.left_out.items()]
    first = np.flatnonzero(rows.follows < 0)
    class_of, keys, merged = _classes(rows, first, _CLASS_TIMES * at_least)
    if not len(first):
        raise BadInput(
            f"{trace.name}: no request with a prompt found, a trace with bodies wanted (a log has none): "
            "capture for a while, or write a profile by hand, with the rates that `peaktape inspect` shows"
        )
    if not keys:
        raise BadInput(
            f"{trace.name}: {len(first):,} sessions with a prompt found, at least {_CLASS_TIMES * at_least} "
            "of one kind wanted; capture more, or lower --at-least"
        )
    if merged:
        notes.append(
            f"{_told(merged, at_least)} sessions of small classes count as the largest class of their kind"
        )
    start_ns = rows.arrival_ns[first]
    span_s = max(float(rows.span_ns) / 1e9, 1e-3)
    arrivals = fit_arrivals(start_ns, span_s, at_least, rng)
    labels = {key: f"class-{number}" for number, key in enumerate(keys, start=1)}
    arrivals = dataclasses.replace(arrivals, mix=_mix(start_ns, class_of[first], labels, span_s, at_least))
    classes = {
        labels[key]: _client_class(rows, class_of == number, key, at_least) for number, key in enumerate(keys)
    }
    if not names:
        made_up = {model: f"model-{i}" for i, model in enumerate(dict.fromkeys(k.model for k in keys), 1)}
        classes = {
            label: dataclasses.replace(one, model=made_up[one.model]) for label, one in classes.items()
        }
    if rows.estimated:
        notes.append(
            f"prompt lengths of {_told(rows.estimated, at_least)} requests are estimates from their sizes"
        )
    notes += all_doubts(trace.arrival_ns, trace.metadata.clock_tick_ns, trace.metadata.recorded_ns)
    return Profile((arrivals,), classes, trace.metadata.source.partition(" ")[0], at_least, tuple(notes))


def _told(count: int, at_least: int) -> str:
    return f"{count:,}" if count >= at_least else f"fewer than {at_least}"


def quantiles_of(values: Float64, at_least: int) -> Quantiles | None:
    """The quantiles that `at_least` values lie beyond on either side, each the mean of `at_least` neighbours.

    The ends are placed so that what lies beyond the outermost quantiles keeps its mean. Three digits each;
    None under `at_least` values, the mean alone under twice as many.
    """
    n = len(values)
    if n < at_least:
        return None
    ordered = np.sort(values)
    levels = [level for level in LEVELS if n * min(level, 1 - level) >= at_least]
    if len(levels) < 2:
        return Quantiles((0.5,), (_rounded(float(ordered.mean()), 3),))
    centre = np.array(levels) * (n - 1)
    low = np.clip(np.rint(centre - (at_least - 1) / 2).astype(int), 0, n - at_least)
    cumulated = np.concatenate(([0.0], np.cumsum(ordered)))
    means = (cumulated[low + at_least] - cumulated[low]) / at_least
    below, above = ordered[: round(levels[0] * n)].mean(), ordered[round(levels[-1] * n) :].mean()
    lowest = min(max(2 * below - means[0], min(0.0, below)), means[0])
    ends = (lowest, *means, max(2 * above - means[-1], means[-1]))
    return Quantiles((0.0, *levels, 1.0), tuple(_rounded(float(value), 3) for value in ends))


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _classes(rows: Rows, first: Int64, least: int) -> tuple[Int64, list[ClassKey], int]:
    """A class number per row (−1 none), the classes' keys, largest first, and how many sessions moved."""
    counts = Counter(rows.key_of[row] for row in rows.key_index[first].tolist())
    kept = [key for key, count in counts.most_common() if count >= least]
    kinds = Counter[str]()
    for key, count in counts.items():
        kinds[key.kind] += count
    for kind, count in kinds.items():  # a kind whose classes are all small is one class
        if count >= least and not any(key.kind == kind for key in kept):
            kept.append(max((key for key in counts if key.kind == kind), key=lambda key: counts[key]))
    number_of = {key: number for number, key in enumerate(kept)}
    largest: dict[str, int] = {}
    for key in kept:
        largest.setdefault(key.kind, number_of[key])
    table = np.array([number_of.get(key, largest.get(key.kind, -1)) for key in rows.key_of], np.int64)
    merged = sum(count for key, count in counts.items() if key not in number_of and key.kind in largest)
    # A session is of one class, that of its first turn.
    return table[rows.key_index[rows.first_of]], kept, merged


def _mix(
    start_ns: Int64, class_of: Int64, labels: Mapping[ClassKey, str], span_s: float, at_least: int
) -> dict[str, tuple[float, ...]]:
    parts = int(np.clip(len(start_ns) // (20 * at_least * len(labels)), 1, _MOST_PARTS))
    part = np.minimum(start_ns / 1e9 / span_s * parts, parts - 1).astype(int)
    counts = np.array(
        [
            pooled(np.bincount(part[class_of == number], minlength=parts).astype(float), at_least)
            for number in range(len(labels))
        ]
    )
    counts[:, counts.sum(axis=0) == 0] = counts.sum(axis=1, keepdims=True)  # nothing began: the usual mix
    total = counts.sum(axis=0)
    return {
        label: tuple(_rounded(float(share), 3) for share in row / total)
        for label, row in zip(labels.values(), counts, strict=True)
    }


def _client_class(rows: Rows, inside: npt.NDArray[np.bool_], key: ClassKey, at_least: int) -> ClientClass:
    first = inside & (rows.follows < 0)
    later = inside & (rows.follows >= 0)
    asked, answered = rows.input_tokens, rows.output_tokens
    previous = rows.follows
    ended = later & (rows.end_ns[previous] >= 0)
    multi = later.sum() >= at_least
    think = (rows.arrival_ns - np.where(ended, rows.end_ns[previous], rows.arrival_ns[previous])) / 1e9
    think_s = quantiles_of(think[ended if ended.sum() >= at_least else later], at_least) if multi else None
    done = inside & (rows.end_ns >= 0)
    both = inside & (answered >= 0)
    inputs = quantiles_of(asked[first].astype(float), at_least)
    known = rows.history_known & later
    return ClientClass(
        kind=key.kind,
        model=key.model,
        stream=key.stream,
        input_tokens=inputs or Quantiles((0.5,), (1.0,)),
        output_tokens=quantiles_of(answered[inside & (answered >= 0)].astype(float), at_least),
        rank_correlation=_rank_correlation(asked[both], answered[both]),
        turns=_turns(rows, first, think_s, at_least) if multi else {1: 1.0},
        growth_tokens=quantiles_of((asked - asked[previous])[later].astype(float), at_least)
        if multi
        else None,
        keeps_history=_rounded(float(rows.history_kept[known].mean()), 3) if known.sum() >= at_least else 0.0,
        answer_s=quantiles_of((rows.end_ns - rows.arrival_ns)[done] / 1e9, at_least) if multi else None,
        think_s=think_s,
        **_shared(rows, first, at_least),
    )


def _rank_correlation(asked: Int64, answered: Int64) -> float:
    from scipy.stats import spearmanr

    if len(asked) < 30 or np.ptp(asked) == 0 or np.ptp(answered) == 0:
        return 0.0
    return _rounded(float(spearmanr(asked, answered).statistic), 2)


def _turns(
    rows: Rows, first: npt.NDArray[np.bool_], think_s: Quantiles | None, at_least: int
) -> dict[int, float]:
    """Share of sessions by turns, those that the trace's end may have cut short counted as such.

    Kaplan and Meier (JASA 1958), over turns: of the sessions that had a k-th turn and time for another, the
    share that had none ends with k. The longest ones are put together until there are `at_least`.
    """
    sizes = np.bincount(rows.first_of, minlength=len(rows.follows))[first]
    last_ns = np.zeros(len(rows.follows), np.int64)
    np.maximum.at(last_ns, rows.first_of, np.maximum(rows.arrival_ns, rows.end_ns))
    patience_ns = 0.0 if think_s is None else max(0.0, float(think_s.at(np.array(0.95)))) * 1e9
    cut = last_ns[first] > rows.span_ns - patience_ns
    longest = int(sizes.max())
    ended = np.bincount(sizes[~cut], minlength=longest + 1)[1:]
    left = np.bincount(sizes[cut], minlength=longest + 1)[1:]
    reached = np.cumsum((ended + left)[::-1])[::-1]
    hazard = ended / np.maximum(reached - left, 1)
    hazard[-1] = 1.0
    survived = np.concatenate(([1.0], np.cumprod(1 - hazard)[:-1]))
    return _grouped_turns(survived * hazard, len(sizes), at_least)


def _grouped_turns(share: Float64, sessions: int, at_least: int) -> dict[int, float]:
    """`share[k]` of sessions have k + 1 turns; what fewer than `at_least` have is joined, longest first."""
    shares: dict[int, float] = {}
    held: list[int] = []
    for k in range(len(share) - 1, -1, -1):
        if share[k] > 0:
            held.append(k)
        if held and share[held].sum() * sessions >= at_least:
            turns = round(float(np.average(np.array(held) + 1, weights=share[held])))
            shares[turns] = shares.get(turns, 0.0) + float(share[held].sum())
            held = []
    if held:
        shares[1] = shares.get(1, 0.0) + float(share[held].sum())
    return {turns: _rounded(found, 3) for turns, found in sorted(shares.items())}


def _shared(rows: Rows, first: npt.NDArray[np.bool_], at_least: int) -> dict[str, Any]:
    """`prefixes`, `repeats` and `repeated` of a class: which first prompts begin alike, and how far.

    A beginning that `at_least` sessions share is a prefix; a session counts for its longest one. What a
    prompt has in common with an earlier one beyond that is repeated. What is shared ends somewhere in the
    block after the last shared one: half a block is added.
    """
    held = [row for row in np.flatnonzero(first).tolist() if row in rows.chains]
    chains = [rows.chains[row] for row in held]
    if not sum(map(len, chains)):
        return {}
    flat = np.concatenate(chains)
    values, first_at, counts = np.unique(flat, return_index=True, return_counts=True)
    common = values[counts >= at_least]
    start = 0
    deepest: Counter[tuple[int, int]] = Counter()
    repeated = []
    for row, chain in zip(held, chains, strict=True):
        shared = int(np.isin(chain, common).sum())  # chains are nested: what is common comes first
        if shared:
            deepest[int(chain[shared - 1]), shared] += 1
        earlier = int((first_at[np.searchsorted(values, chain)] < start).sum())
        if earlier > shared:
            repeated.append(min(1.0, (earlier + 0.5) * BLOCK_BYTES / max(int(rows.prompt_bytes[row]), 1)))
        start += len(chain)
    prefixes = tuple(
        SharedPrefix(_rounded(count / len(chains), 3), max(1, round((depth + 0.5) * rows.tokens_a_block)))
        for (_, depth), count in deepest.most_common(_MOST_PREFIXES)
        if count >= at_least
    )
    spread = quantiles_of(np.array(repeated), at_least)
    if spread is None:
        return {"prefixes": prefixes}
    spread = dataclasses.replace(spread, values=tuple(min(value, 1.0) for value in spread.values))
    return {"prefixes": prefixes, "repeats": _rounded(len(repeated) / len(chains), 3), "repeated": spread}
