"""JSON for scripts: strict JSON that says its schema, with units in the keys and no number that is none."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from replay.analysis.values import DiffResult, RunSummary
from replay.report.as_json import SCHEMA_VERSION, diff_json, invalid_diff_json, run_json


def round_trip(value: dict[str, Any]) -> dict[str, Any]:
    """What a script reads; raises `ValueError` for NaN or infinity."""
    return dict(json.loads(json.dumps(value, allow_nan=False)))


def test_a_run_survives_the_trip(run: RunSummary) -> None:
    found = round_trip(run_json(run))
    assert found == run_json(run)
    assert (found["schema"], found["schema_version"]) == ("peaktape.run", SCHEMA_VERSION)
    assert found["scheduled"] == run.scheduled
    assert found["lateness_quantile_ns"]["p99"] == run.lateness_quantile_ns[0.99]
    whole = found["groups"][0]
    assert whole["group"] == {"kind": "all", "name": ""}
    assert whole["statuses"] == {"200": 1231, "503": 8}
    assert whole["metrics"][0]["quantile_ns"]["p50"] == run.groups[0].metrics[0].quantile_ns[0.5]


def test_a_comparison_survives_the_trip(diff: DiffResult) -> None:
    found = round_trip(diff_json(diff))
    assert found["schema"] == "peaktape.diff"
    assert found["verdict"] == "regression"
    assert found["tolerance_ratio"] == diff.tolerance
    assert len(found["effects"]) == len(diff.effects)
    assert found["effects"][0]["effect_ns"] == diff.effects[0].effect_ns
    assert found["baseline"]["label"] == "build-a"
    assert found["outcome_changes"][1]["candidate_count"] == 31


def test_an_objective_says_its_unit(run: RunSummary) -> None:
    latency, errors = round_trip(run_json(run))["objectives"]
    assert latency["objective"]["limit_ns"] == 320e6
    assert latency["found_ns"] == run.objectives[0].found
    assert errors["objective"]["limit_ratio"] == 0.01
    assert errors["attainment_ratio"] == 0.99


def test_what_can_not_be_had_is_null(run: RunSummary) -> None:
    without = dataclasses.replace(run, goodput_per_s=math.nan, objectives=())
    found = round_trip(run_json(without))
    assert found["goodput_per_s"] is None
    assert "infinite" not in found
    assert found["timeline"]["ttft_p50_ns"][3] is None


def test_what_is_infinite_is_null_and_named(run: RunSummary) -> None:
    unanswered = dataclasses.replace(run.objectives[0], found=math.inf, met=False)
    found = round_trip(run_json(dataclasses.replace(run, objectives=(unanswered,))))["objectives"][0]
    assert found["found_ns"] is None
    assert found["infinite"] == ["found_ns"]


def test_numbers_that_numpy_made_are_numbers(run: RunSummary) -> None:
    made = dataclasses.replace(run, scheduled=np.int64(7), partial=np.bool_(True))
    found = round_trip(run_json(made))
    assert (found["scheduled"], found["partial"]) == (7, True)


def test_a_distribution_is_its_percentiles_and_no_plot(run: RunSummary) -> None:
    found = round_trip(run_json(run))["distributions"][0]
    assert (found["metric"], found["n"]) == ("ttft", run.distributions[0].n)
    assert (
        found["high_ns"][found["quantiles"].index(0.99)] >= found["value_ns"][found["quantiles"].index(0.99)]
    )
    assert not {"density", "density_at_ns", "below"} & set(found)


def test_a_shift_function_says_null_where_it_has_no_interval(diff: DiffResult) -> None:
    found = round_trip(diff_json(diff))["shifts"]
    assert len(found) == len(diff.shifts)
    few = min(found, key=lambda one: one["pairs"])
    assert few["low_ns"][0] is None
    assert few["effect_ns"][0] == min(diff.shifts, key=lambda one: one.pairs).effect_ns[0]


def test_a_refused_comparison_has_the_keys_of_one_and_the_checks_that_failed(
    run: RunSummary, stopped_run: RunSummary, diff: DiffResult
) -> None:
    found = round_trip(invalid_diff_json(run, stopped_run, ""))
    assert found["verdict"] == "invalid"
    assert found["failed_checks"]["baseline"] == []
    assert len(found["failed_checks"]["candidate"]) == 2
    assert found["baseline"] == round_trip(diff_json(dataclasses.replace(diff, baseline=run)))["baseline"]
    assert {"reasons", "effects", "outcome_changes"} <= set(found) & set(diff_json(diff))
