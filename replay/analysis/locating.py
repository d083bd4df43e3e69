"""Where an effect is: which bands of requests changed more than the others beside them.

Two families, one behind the other. The first is that of all effects, from which alone the verdict comes.
Only where it found one (a gatekeeper: A. Dmitrienko, W. Offen, P. Westfall, Statistics in Medicine 22 (2003),
2387) are the bands of that group looked at, in one family of their own with Holm's procedure. So locating
can't raise the rate of false alarms of the verdict, whatever the number of bands; and where a regression is
real, the chance that any band is wrongly named is again at most 5 %. It is not one family with the effects,
since each band would then cost the verdict power.

What is tested is the difference between a band and the rest of its group, not the change of the band: when
all requests are slower, none stands out. The figure is a mean over pairs, so the resamples of all bands cost
a product of two matrices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from replay.analysis.bands import FEWEST_IN_BAND, bandings
from replay.analysis.change_values import SLOWED, TYPICAL, Location
from replay.analysis.distributions import student_quantile, student_tails
from replay.analysis.effects import FEWEST_BLOCKS_SEEN, standard_error
from replay.analysis.grouping import ALL
from replay.analysis.holm import ALPHA, holm
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import BlockLength, Pairs
from replay.analysis.run_table import Bools, Floats
from replay.analysis.slowed import SLOWED_BY
from replay.analysis.values import Effect, Group, Verdict
from replay.analysis.vocabulary import headline_clock, is_headline

TAIL_FROM = 0.9
"""Effects at this quantile and above alone are a tail's, which a mean of all pairs would hardly show."""

_DECIDED = (Verdict.REGRESSION, Verdict.IMPROVED)
_PER_REQUEST = {"ttft": "ttft", "tpot": "tpot", "itl": "tpot", "e2e": "e2e"}


@dataclasses.dataclass(frozen=True)
class _Found:
    """An effect to locate: the group, the metric, which figure shows it, and its sign."""

    parent: Group
    metric: str
    figure: str
    sign: int


@dataclasses.dataclass(frozen=True)
class _Band:
    found: _Found
    dimension: str
    name: str
    pairs: int
    mean: float
    error: float
    elsewhere: float
    contrast_error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided, that the band and the rest changed alike; NaN where not judged."""
        if not np.isfinite(self.contrast_error) or self.contrast_error == 0.0:
            return float("nan")
        t = abs(self.mean - self.elsewhere) / self.contrast_error
        return student_tails(t, self.freedom)


def locate(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    effects: Sequence[Effect],
    multiplicity: npt.NDArray[np.float32],
    length: BlockLength,
) -> tuple[Location, ...]:
    """Every band of every dimension, of each group and metric with a decided effect; () where there is none.

    `multiplicity` is float32, resamples × cells of `pairs`, the one that the effects came from.
    """
    bands = [
        band
        for found in _to_locate(effects)
        for band in _bands(pairs, baseline, candidate, found, multiplicity, length)
    ]
    adjusted = holm(np.array([band.p_value for band in bands], dtype=np.float64)).adjusted
    return tuple(_location(band, float(p), len(bands)) for band, p in zip(bands, adjusted, strict=True))


def _to_locate(effects: Sequence[Effect]) -> Iterator[_Found]:
    """Per endpoint, or else over all, the metrics with a decided effect; E2E only where no cause is known."""
    clock = headline_clock(effects)
    decided = [effect for effect in effects if effect.verdict in _DECIDED and is_headline(effect, clock)]
    endpoints = {effect.group for effect in decided if effect.group.kind == "endpoint"}
    for parent in sorted(endpoints, key=lambda group: group.name) or ([ALL] if decided else []):
        inside = [effect for effect in decided if effect.group == parent or parent == ALL]
        metrics = list(dict.fromkeys(_PER_REQUEST[effect.metric] for effect in inside))
        for metric in [name for name in metrics if name != "e2e"] or metrics:
            members = [effect for effect in inside if _PER_REQUEST[effect.metric] == metric]
            tail = all(effect.quantile >= TAIL_FROM for effect in members)
            widest = max(members, key=lambda effect: abs(effect.effect_ns / max(effect.baseline_ns, 1.0)))
            sign = 1 if widest.effect_ns > 0 else -1
            yield _Found(parent, metric, SLOWED if tail else TYPICAL, sign)


def _bands(
    pairs: Pairs,
    baseline: Latencies,
    candidate: Latencies,
    found: _Found,
    multiplicity: npt.NDArray[np.float32],
    length: BlockLength,
) -> Iterator[_Band]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(
            candidate.per_request_ns(found.metric, "due")[pairs.candidate]
            / baseline.per_request_ns(found.metric, "due")[pairs.baseline]
        )
    members = np.isfinite(ratio) & _members(pairs, baseline, found.parent)
    if np.count_nonzero(members) < 2 * FEWEST_IN_BAND:
        return
    value = np.where(members, ratio if found.figure == TYPICAL else _slowed(ratio), 0.0)
    for banding in bandings(pairs, baseline.run, candidate.run, members):
        for index, name in enumerate(banding.names):
            inside, others = banding.band == index, (banding.band >= 0) & (banding.band != index)
            one = _resampled_mean(pairs, value, inside, multiplicity)
            other = _resampled_mean(pairs, value, others, multiplicity)
            seen = np.count_nonzero(np.bincount(pairs.cell[inside], minlength=pairs.cells))
            blocks = min(pairs.cells / length.cells, float(seen))
            judged = blocks >= FEWEST_BLOCKS_SEEN
            yield _Band(
                found=found,
                dimension=banding.dimension,
                name=name,
                pairs=int(np.count_nonzero(inside)),
                mean=float(value[inside].mean()),
                error=standard_error(one, blocks, length.shortfall) if judged else float("nan"),
                elsewhere=float(value[others].mean()),
                contrast_error=standard_error(one - other, blocks, length.shortfall)
                if judged
                else float("nan"),
                freedom=max(blocks - 1.0, 1.0),
            )


def _members(pairs: Pairs, baseline: Latencies, parent: Group) -> Bools:
    if parent == ALL:
        return np.ones(len(pairs), dtype=np.bool_)
    return baseline.run.endpoint.mask(parent.name)[pairs.baseline]


def _slowed(log_ratio: Floats) -> Floats:
    """1 for a pair that took half as long again, −1 for one that was as much faster, else 0.

    Between two runs of one build either is as likely, so its mean is 0 then.
    """
    with np.errstate(invalid="ignore"):
        slower, faster = log_ratio >= np.log(SLOWED_BY), log_ratio <= -np.log(SLOWED_BY)
    return np.asarray(slower.astype(np.float64) - faster)


def _resampled_mean(
    pairs: Pairs, value: Floats, chosen: Bools, multiplicity: npt.NDArray[np.float32]
) -> Floats:
    """The mean of the chosen pairs in each resample, float64; NaN where one drew none of them."""
    cell = pairs.cell[chosen]
    sums = np.bincount(cell, weights=value[chosen], minlength=pairs.cells)
    counts = np.bincount(cell, minlength=pairs.cells).astype(np.float64)
    both = multiplicity.astype(np.float64) @ np.column_stack([sums, counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(both[:, 0] / both[:, 1])


def _location(band: _Band, adjusted: float, family: int) -> Location:
    half = student_quantile(1.0 - ALPHA / family / 2.0, band.freedom) * band.error
    figure = band.found.figure
    toward = (band.mean - band.elsewhere) * band.found.sign > 0 and band.mean * band.found.sign > 0
    return Location(
        parent=band.found.parent,
        metric=band.found.metric,
        figure=band.found.figure,
        dimension=band.dimension,
        band=band.name,
        pairs=band.pairs,
        change_ratio=_shown(figure, band.mean),
        low_ratio=_shown(figure, band.mean - half),
        high_ratio=_shown(figure, band.mean + half),
        elsewhere_ratio=_shown(figure, band.elsewhere),
        p_value=adjusted,
        stands_out=bool(adjusted < ALPHA and toward),
    )


def _shown(figure: str, mean: float) -> float:
    """A mean as a share: of log-ratios the change that they stand for, of shares itself."""
    return float(np.expm1(mean)) if figure == TYPICAL else mean
