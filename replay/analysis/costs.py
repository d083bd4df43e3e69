"""What a run cost at a price per hour: arithmetic on its summary, nothing else."""

from __future__ import annotations

import dataclasses

from replay.analysis.planning_values import Cost
from replay.analysis.values import RunSummary


def with_cost(summary: RunSummary, price_per_hour: float | None) -> RunSummary:
    """The summary with what its time cost, from the run's zero to its last answer; as it is without a price.

    The price is of everything that served the run, at the load of this run: capacity that stood idle is paid
    for too, so the figures fall as the load rises, up to where answers stop being good.
    """
    if price_per_hour is None:
        return summary
    total = price_per_hour * summary.duration_s / 3600
    good = summary.goodput_per_s * summary.duration_s  # NaN without objectives
    tokens = summary.input_tokens + summary.output_tokens
    return dataclasses.replace(
        summary,
        cost=Cost(
            price_per_hour=price_per_hour,
            total=total,
            per_1000_answers=_per(total, summary.ok, 1e3),
            per_1000_good_answers=_per(total, good, 1e3),
            per_million_output_tokens=_per(total, summary.output_tokens, 1e6),
            per_million_tokens=_per(total, tokens, 1e6),
        ),
    )


def _per(total: float, made: float, unit: float) -> float:
    return total / made * unit if made > 0 else float("nan")
