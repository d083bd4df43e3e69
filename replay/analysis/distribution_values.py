"""What analysis says of whole distributions: of one run's latencies, and of how two runs' differ.

Plain frozen dataclasses as in `values`, where runs and effects are; durations are float ns, a quantity that
can't be had is NaN.
"""

from __future__ import annotations

import dataclasses

from replay.analysis.vocabulary import Group


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One metric (from due) of one group of one run: its upper quantiles with their doubt, and its density.

    The arrays of a kind are of one length. Quantiles go from the median as far as the sample bounds them,
    at most to p99.99. Where a run knows no due instants, TTFT and E2E are from sent.
    """

    group: Group
    metric: str
    n: int
    """How many values; of ITL a request has many."""
    quantiles: tuple[float, ...]
    value_ns: tuple[float, ...]
    low_ns: tuple[float, ...]
    high_ns: tuple[float, ...]
    """Ends of a 95 % confidence interval of each quantile by itself."""
    density_at_ns: tuple[float, ...]
    density: tuple[float, ...]
    """Share of the values per 10 % of latency, at each of `density_at_ns`."""
    below: tuple[float, ...]
    """Share of the values at or below each of `density_at_ns`."""

    @property
    def known_to(self) -> float:
        """The highest quantile that the sample bounds from above; NaN where it bounds not even the median."""
        return self.quantiles[-1] if self.quantiles else float("nan")


@dataclasses.dataclass(frozen=True)
class ShiftFunction:
    """Candidate − baseline at quantiles from p5 to p99 of one metric (from due) in one group, with its band.

    Where a run knows no due instants, TTFT and E2E are from sent. The arrays are of one length. `low_ns` and
    `high_ns` hold for the whole function at once: with 95 % confidence it lies between them everywhere; NaN
    where too few requests lie beyond a quantile.
    """

    group: Group
    metric: str
    pairs: int
    quantiles: tuple[float, ...]
    baseline_ns: tuple[float, ...]
    effect_ns: tuple[float, ...]
    low_ns: tuple[float, ...]
    high_ns: tuple[float, ...]
    standard_error_ratio: tuple[float, ...]
    """Of ln(candidate/baseline), as the effects' intervals are made of."""
