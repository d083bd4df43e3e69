"""What `inspect` found, as JSON values: numbers as such, NaN as null. Computes nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from replay.transform.burst_target import BurstTarget
from replay.transform.inspection import Facts, TraceFacts

SCHEMA = "peaktape.inspection/1"


def inspection_json(
    one: Facts,
    other: Facts | None = None,
    target: BurstTarget | None = None,
    doubts: Sequence[str] = (),
) -> dict[str, Any]:
    """A; and, where there is a B, that, its burst curve against the target, and the doubts about both."""
    return {
        "schema": SCHEMA,
        **facts_json(one),
        **({"other": facts_json(other)} if other is not None else {}),
        **({"target": target_json(target), "doubts": list(doubts)} if target is not None else {}),
    }


def facts_json(facts: Facts) -> dict[str, Any]:
    """The facts, those of arrivals and sessions among them by their own names."""
    fields = _plain(dataclasses.asdict(facts))
    fields["kind"] = "trace" if isinstance(facts, TraceFacts) else "schedule"
    fields |= fields.pop("arrivals")
    fields |= fields.pop("content") or {}
    fields["dispersion"] = facts.dispersion
    if isinstance(facts, TraceFacts):
        fields["production_factor"] = _plain(facts.production_factor)
    return dict(fields)


def target_json(target: BurstTarget) -> dict[str, Any]:
    """The target, each point with how far off it is and whether that is within tolerance."""
    points = [
        {**_plain(dataclasses.asdict(point)), "off": point.off, "holds": point.holds, "misses": point.misses}
        for point in target.points
    ]
    return {**_plain(dataclasses.asdict(target)), "points": points}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
