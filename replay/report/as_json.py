"""Analysis values as JSON that scripts read: plain dicts, with units in the keys and a schema version.

Keys are the field names of `replay.analysis.values`; quantiles are keyed "p50". A quantity that can't be had
is null; an infinite one too (JSON has no infinity), and then the same object names it under "infinite".
Densities, which are for plots, are left out. A new key is a compatible change, a
renamed or re-defined one raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from capture.__about__ import VERSION
from replay.analysis.slo import RATES
from replay.analysis.values import DiffResult, Objective, ObjectiveResult, RunSummary
from replay.report.figures import format_quantile
from replay.report.wording import INVALID, refusal_reasons

SCHEMA_VERSION = 1

LEFT_OUT = frozenset({"density_at_ns", "density", "below", "heat", "waterfall"})
RENAMED: Mapping[str, str] = {"tolerance": "tolerance_ratio"}
UNITS: Mapping[str, str] = {"limit": "limit_{unit}", "found": "found_{unit}"}
"""Keys of an objective and of its result that name their unit: "ns" or "ratio"."""
RATIOS: Mapping[str, str] = {"attainment": "attainment_ratio"}


def run_json(summary: RunSummary) -> dict[str, Any]:
    """One run as a dict that `json.dumps(…, allow_nan=False)` takes."""
    return {**_head("peaktape.run"), **_object(summary)}


def diff_json(diff: DiffResult) -> dict[str, Any]:
    """One comparison as a dict that `json.dumps(…, allow_nan=False)` takes."""
    return {**_head("peaktape.diff"), **_object(diff)}


def invalid_diff_json(baseline: RunSummary, candidate: RunSummary, why: str) -> dict[str, Any]:
    """A comparison that was refused, with the keys that one has: verdict "invalid", why, and both runs.

    `failed_checks` holds, of each run, the checks of its validity that failed; where none did, `why` is the
    reason.
    """
    runs = {"baseline": baseline, "candidate": candidate}
    return {
        **_head("peaktape.diff"),
        "verdict": INVALID,
        "reasons": refusal_reasons((baseline, candidate), why),
        "failed_checks": {
            name: [_object(check) for check in run.validity.checks if not check.passed]
            for name, run in runs.items()
        },
        **{name: _object(run) for name, run in runs.items()},
        "effects": [],
        "outcome_changes": [],
    }


def _head(schema: str) -> dict[str, Any]:
    return {"schema": schema, "schema_version": SCHEMA_VERSION, "tool_version": VERSION}


def _object(value: Any) -> dict[str, Any]:
    fields = {
        RENAMED.get(field.name, field.name): getattr(value, field.name)
        for field in dataclasses.fields(value)
        if field.name not in LEFT_OUT
    }
    if isinstance(value, Objective | ObjectiveResult):
        fields = _with_unit(value, fields)
    infinite = [name for name, found in fields.items() if isinstance(found, float) and math.isinf(found)]
    converted = {name: _plain(found) for name, found in fields.items()}
    return {**converted, "infinite": infinite} if infinite else converted


def _with_unit(value: Objective | ObjectiveResult, fields: dict[str, Any]) -> dict[str, Any]:
    """An objective's limit is ns for a time and a share for a rate: the key says which."""
    objective = value if isinstance(value, Objective) else value.objective
    unit = "ratio" if objective.metric in RATES else "ns"
    return {
        RATIOS.get(name, UNITS.get(name, name)).format(unit=unit): found for name, found in fields.items()
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _object(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    named = {
        format_quantile(key) if isinstance(key, float) else str(key): found for key, found in value.items()
    }
    infinite = [name for name, found in named.items() if isinstance(found, float) and math.isinf(found)]
    converted = {name: _plain(found) for name, found in named.items()}
    return {**converted, "infinite": infinite} if infinite else converted
