"""The server's own metrics: from samples to a few quantities over time, and which of them gave out first.

Within a source, requests that wait or run are summed over its label sets (engines, models), of KV caches and
memories the fullest counts, of GPUs and CPUs the mean. Counters become rates between two samples. A quantity
is saturated when three samples in a row are at its bound (after B. Gregg's USE method, ACM Queue 10 (2012),
12: utilisation, saturation, errors, of every resource). What was at its bound from the first sample on is not
listed: the load did not do that.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from replay.analysis.phases import Stretch, stretches
from replay.analysis.run_table import Bools, Floats, Ints, RunTable
from replay.analysis.timeline import duration_s
from replay.analysis.values import Peak, Saturation, ScrapedSource, ServerSeries, ServerSide
from replay.engine import server_metrics as known
from replay.engine.scrape_format import Scraped, Source

HOLD: Final = 3
FULL: Final = 0.95
BOUNDS: Final[Mapping[str, float]] = {
    known.WAITING: 1.0,
    known.SLOTS: 1.0,
    known.KV_CACHE: FULL,
    known.GPU: FULL,
    known.CPU: 0.9,
    known.MEMORY: FULL,
}
"""Where a quantity gives out. GPU memory has none: engines take it all when they start. Of requests that run
it is their own most, while others wait."""

UNITS: Final[Mapping[str, str]] = {
    known.WAITING: "requests",
    known.RUNNING: "requests",
    known.PREEMPTIONS: "per_s",
    **dict.fromkeys(
        (known.SLOTS, known.KV_CACHE, known.GPU, known.GPU_MEMORY, known.CPU, known.MEMORY), "share"
    ),
}
_MEANS: Final = (known.GPU, known.CPU)
_MAXIMA: Final = (known.KV_CACHE,)
_OWN: Final = (known.UP, known.DURATION)


@dataclasses.dataclass(frozen=True)
class _Samples:
    """The samples of one source as arrays of one length, in the order of time."""

    at_ns: npt.NDArray[np.int64]
    name: npt.NDArray[np.object_]
    labels: npt.NDArray[np.object_]
    type: npt.NDArray[np.object_]
    value: Floats

    def where(self, mask: Bools | Ints) -> _Samples:
        """The samples of a mask, or at places."""
        return _Samples(
            self.at_ns[mask], self.name[mask], self.labels[mask], self.type[mask], self.value[mask]
        )


Series = tuple[Floats, Floats]
"""Instants in ns and values, float64."""


def server_side(run: RunTable, peaks: Sequence[Peak]) -> ServerSide | None:
    """What the sampled endpoints said during a run; None where none was sampled."""
    scraped = run.scraped
    if scraped is None:
        return None
    length_s, pieces = duration_s(run), stretches(run)
    series: list[ServerSeries] = []
    for source in scraped.metadata.sources:
        for quantity, unit, (at_ns, values) in _series_of(_samples_of(scraped, source)):
            series.append(_summarised(source.name, quantity, unit, at_ns / 1e9, values, length_s, pieces))
    left = [peak.latency.left_at_s for peak in peaks if not np.isnan(peak.latency.left_at_s)]
    return ServerSide(
        every_s=scraped.metadata.every_s,
        resolution_s=scraped.metadata.every_s + (peaks[0].latency.window_s if peaks else 0.0),
        sources=tuple(_health(scraped, source, length_s) for source in scraped.metadata.sources),
        series=tuple(series),
        saturated=saturations(series, min(left, default=float("nan"))),
    )


def saturations(series: Sequence[ServerSeries], left_at_s: float) -> tuple[Saturation, ...]:
    """What reached its bound and stayed there, first one first; `left_at_s` is when answers became slow."""
    found = []
    for one in series:
        bound = _bound(one, series)
        if bound is None:
            continue
        at_s, full = np.array(one.at_s), np.array(one.values) >= bound - 1e-9
        first = _held(full)
        if first is None or full[: HOLD + 1].all():
            continue
        steps = np.diff(at_s, append=at_s[-1:])
        held_s = float(steps[full].sum())
        since_s = float(at_s[first])
        found.append(Saturation(one.source, one.quantity, bound, since_s, held_s, left_at_s - since_s))
    return tuple(sorted(found, key=lambda one: (one.since_s, one.source, one.quantity)))


def _bound(one: ServerSeries, series: Sequence[ServerSeries]) -> float | None:
    """Where a quantity gives out; of those that run, their most, if as many waited meanwhile."""
    if one.quantity != known.RUNNING:
        return BOUNDS.get(one.quantity)
    for other in series:
        if (other.source, other.quantity) == (one.source, known.WAITING) and other.at_s == one.at_s:
            bound = FULL * one.largest
            waited = (np.array(other.values) >= 1) & (np.array(one.values) >= bound)
            return bound if one.largest > 0 and _held(waited) is not None else None
    return None


def _held(full: Bools) -> int | None:
    """The first of `HOLD` samples in a row that are at the bound."""
    if len(full) < HOLD:
        return None
    in_a_row = np.lib.stride_tricks.sliding_window_view(full, HOLD).all(axis=1)
    places = np.flatnonzero(in_a_row)
    return int(places[0]) if len(places) else None


def _summarised(
    source: str,
    quantity: str,
    unit: str,
    at_s: Floats,
    values: Floats,
    length_s: float,
    pieces: Sequence[Stretch],
) -> ServerSeries:
    during = (at_s >= 0) & (at_s <= length_s)
    by_phase: dict[str, list[float]] = {}
    for piece in pieces:
        inside = values[(at_s >= piece.start_s) & (at_s < piece.end_s)]
        by_phase.setdefault(piece.phase, []).extend(inside.tolist())
    return ServerSeries(
        source=source,
        quantity=quantity,
        unit=unit,
        at_s=tuple(at_s.tolist()),
        values=tuple(values.tolist()),
        mean=float(values[during].mean()) if during.any() else float("nan"),
        largest=float(values.max()),
        by_phase={phase: float(np.mean(found)) for phase, found in by_phase.items() if found},
    )


def _health(scraped: Scraped, source: Source, length_s: float) -> ScrapedSource:
    of_source = scraped.table.filter(pc.equal(scraped.table["source"], source.name))
    up = of_source.filter(pc.equal(of_source["name"], known.UP))
    took = of_source.filter(pc.equal(of_source["name"], known.DURATION))["value"]
    errors = [error for error in up["error"].to_pylist() if error]
    return ScrapedSource(
        name=source.name,
        url=source.url,
        due=int(length_s / scraped.metadata.every_s) + 1,
        asked=up.num_rows,
        answered=int(pc.sum(up["value"]).as_py() or 0),
        slowest_s=float(pc.max(took).as_py() or 0.0),
        last_error=errors[-1] if errors else "",
    )


def _samples_of(scraped: Scraped, source: Source) -> _Samples:
    table = scraped.table.filter(pc.equal(scraped.table["source"], source.name)).sort_by("at_ns")
    return _Samples(
        at_ns=table["at_ns"].to_numpy(),
        name=_words(table, "name"),
        labels=_words(table, "labels"),
        type=_words(table, "type"),
        value=np.asarray(table["value"].to_numpy(), dtype=np.float64),
    )


def _words(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    return np.asarray(table[name].cast(pa.string()).to_numpy(), dtype=np.object_)


def _series_of(samples: _Samples) -> Iterator[tuple[str, str, Series]]:
    """(quantity, unit, series) of every quantity that a source has, then of the metrics asked for by name."""
    for quantity in known.QUANTITIES:
        found = _quantity(quantity, _roles(samples, quantity))
        if found is not None and len(found[0]):
            yield quantity, UNITS[quantity], found
    for name in sorted(set(samples.name.tolist())):
        if name not in _OWN and not known.is_known(name):
            chosen = samples.where(np.asarray(samples.name == name))
            if chosen.type[0] == "counter":
                yield name, "per_s", _rates(chosen)
            else:
                yield name, "", _by_instant(chosen, np.add)


def _roles(samples: _Samples, quantity: str) -> dict[str, _Samples]:
    """The parts that a source has of a quantity; a plain value from the first entry that it has alone."""
    parts: dict[str, _Samples] = {}
    for entry in known.KNOWN:
        if entry.quantity != quantity or (entry.role in parts and entry.role != "idle"):
            continue
        mask = _matching(samples, entry)
        if mask.any():
            chosen = samples.where(mask)
            chosen = dataclasses.replace(chosen, value=chosen.value * entry.scale)
            parts[entry.role] = _joined(parts[entry.role], chosen) if entry.role in parts else chosen
    return parts


def _matching(samples: _Samples, entry: known.Known) -> Bools:
    names = {name: re.fullmatch(entry.name, name) is not None for name in set(samples.name.tolist())}
    mask = np.array([names[name] for name in samples.name], dtype=np.bool_)
    for key, value in entry.labels.items():
        wanted = f'{key}="{value}"'
        told = {labels: wanted in labels.split(",") for labels in set(samples.labels.tolist())}
        mask &= np.array([told[labels] for labels in samples.labels], dtype=np.bool_)
    return mask


def _joined(one: _Samples, other: _Samples) -> _Samples:
    order = np.argsort(np.concatenate([one.at_ns, other.at_ns]), kind="stable")
    return _Samples(
        at_ns=np.concatenate([one.at_ns, other.at_ns]),
        name=np.concatenate([one.name, other.name]),
        labels=np.concatenate([one.labels, other.labels]),
        type=np.concatenate([one.type, other.type]),
        value=np.concatenate([one.value, other.value]),
    ).where(order)


def _quantity(quantity: str, roles: Mapping[str, _Samples]) -> Series | None:
    """A quantity's series from the parts that a source has of it."""
    if "value" in roles:
        if quantity in _MEANS:
            return _means(roles["value"])
        return _by_instant(roles["value"], np.maximum if quantity in _MAXIMA else np.add)
    if "counter" in roles:
        return _rates(roles["counter"])
    if "idle" in roles and "time" in roles:
        return _utilisation(roles["idle"], roles["time"])
    parts = {role: _by_labels(found) for role, found in roles.items()}
    if len(parts.keys() & {"used", "free", "total"}) < 2:
        return None
    return _fullest(parts)


def _fullest(parts: Mapping[str, Mapping[tuple[int, str], float]]) -> Series:
    """The largest share in use at each instant, of two of: used, free, total."""
    fullest: dict[int, float] = {}
    used, free, total = (parts.get(role, {}) for role in ("used", "free", "total"))
    for key in used or free:
        whole = total[key] if key in total else used.get(key, 0.0) + free.get(key, 0.0)
        taken = used[key] if key in used else whole - free[key]
        if whole > 0:
            fullest[key[0]] = max(taken / whole, fullest.get(key[0], 0.0))
    at_ns = sorted(fullest)
    return np.array(at_ns, dtype=np.float64), np.array([fullest[instant] for instant in at_ns])


def _by_labels(samples: _Samples) -> dict[tuple[int, str], float]:
    keys = zip(samples.at_ns.tolist(), samples.labels.tolist(), strict=True)
    return dict(zip(keys, samples.value.tolist(), strict=True))


def _by_instant(samples: _Samples, combine: np.ufunc) -> Series:
    at_ns, first = np.unique(samples.at_ns, return_index=True)
    return at_ns.astype(np.float64), np.asarray(combine.reduceat(samples.value, first))


def _means(samples: _Samples) -> Series:
    at_ns, first, count = np.unique(samples.at_ns, return_index=True, return_counts=True)
    return at_ns.astype(np.float64), np.add.reduceat(samples.value, first) / count


def _rates(samples: _Samples) -> Series:
    """Growth per second between two samples, at the later one; a counter that fell has begun anew."""
    at_ns, total = _by_instant(samples, np.add)
    grown = np.diff(total)
    grown = np.where(grown < 0, total[1:], grown)
    return at_ns[1:], grown / (np.diff(at_ns) / 1e9)


def _utilisation(idle: _Samples, everything: _Samples) -> Series:
    """1 − idle over all CPU time, of what passed between two samples."""
    at_ns, total = _by_instant(everything, np.add)
    idle_at, idle_total = _by_instant(idle, np.add)
    kept = np.isin(at_ns, idle_at)
    passed, idled = np.diff(total[kept]), np.diff(idle_total[np.isin(idle_at, at_ns)])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(1 - idled / passed, 0.0, 1.0)
    good = passed > 0
    return at_ns[kept][1:][good], share[good]
