"""Capacity: of a queue that serves 100/s a staircase finds the level below, and no other phases find one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from made_runs import MS, MadeRun, S

from replay.analysis.capacity import find_capacity
from replay.analysis.planning_values import Capacity
from replay.analysis.slo import parse_objectives
from replay.analysis.summary import summarise
from replay.analysis.values import Objective, ObjectiveResult, PhaseSummary, RunSummary
from replay.report.peak_wording import capacity_sentences

SERVE_S = 0.01
LEVEL_S = 20.0
QUICK = "e2e:p95=200ms"


def climbed(rates_per_s: Sequence[float], objectives: str = QUICK, seed: int = 1) -> RunSummary:
    """One server at 100/s, first come first served, under levels x1, x2, … of so many requests a second."""
    rng = np.random.default_rng(seed)
    counts = [round(rate * LEVEL_S) for rate in rates_per_s]
    levels = [np.sort(rng.uniform(0, LEVEL_S, count)) + LEVEL_S * i for i, count in enumerate(counts)]
    due_s = np.concatenate(levels)
    end_s, free_s = np.empty(len(due_s)), 0.0
    for i, due in enumerate(due_s):
        free_s = end_s[i] = max(due, free_s) + SERVE_S
    phase = [f"x{i + 1}" for i, count in enumerate(counts) for _ in range(count)]
    made = MadeRun(due_ns=due_s * S, e2e_ns=(end_s - due_s) * S, phase=phase)
    return summarise(made.run(), parse_objectives(objectives))


def level(name: str, missed: int = 0, of: int = 1000, allowed: float = 0.01) -> PhaseSummary:
    """A phase where so many of its requests missed one objective, of which that share may."""
    share = missed / of
    wanted = Objective("e2e", 1.0 - allowed, 200 * MS)
    result = ObjectiveResult(wanted, 100 * MS, share <= allowed, 1.0 - share, 1.0, of)
    return PhaseSummary(name, 10.0, of, of, 0, {}, None, of / 10, of / 10, 1.0, 2, 90.0, (result,))


def found(*levels: PhaseSummary) -> tuple[str | None, str | None, tuple[str, ...], tuple[str, ...]]:
    capacity = find_capacity(levels)
    assert isinstance(capacity, Capacity)
    return capacity.held, capacity.missed, capacity.undecided, capacity.met_again


@pytest.mark.parametrize("seed", range(5))
def test_a_staircase_finds_what_a_queue_can_take(seed: int) -> None:
    capacity = climbed([30, 50, 70, 85, 115, 130], seed=seed).capacity
    assert capacity is not None
    assert (capacity.held, capacity.missed) == ("x4", "x5")
    assert capacity.held_per_s == pytest.approx(85, rel=0.01)


def test_what_is_never_too_much_and_what_always_is() -> None:
    never, always = climbed([30, 40, 50]).capacity, climbed([120, 130, 140]).capacity
    assert never is not None
    assert always is not None
    assert (never.held, never.missed) == ("x3", None)
    assert (always.held, always.missed) == (None, "x1")
    assert math.isnan(always.held_per_s)


def test_a_level_is_too_much_when_more_missed_than_chance_may_make() -> None:
    """Of 1,000 requests of which 10 may miss, 16 do with a probability of 4.7 %, 15 with one of 8.2 %."""
    assert found(level("x1"), level("x2", 15), level("x3")) == ("x3", None, ("x2",), ())
    assert found(level("x1"), level("x2", 16), level("x3")) == ("x1", "x2", (), ("x3",))
    assert found(level("x1", 15), level("x2", 30), level("x3", 400)) == (None, "x2", ("x1",), ())


def test_where_nothing_may_miss_one_is_too_much() -> None:
    assert found(level("x1"), level("x2", 1, allowed=0.0), level("x3"))[1] == "x2"


@pytest.mark.parametrize(
    "names",
    [
        ("x1", "x2"),
        ("base", "spike", "recover"),
        ("x3", "x2", "x1"),
        ("x1", "x2", "x2"),
        ("x1", "up-x2", "up-x3"),
        ("max1", "max2", "max3"),
    ],
    ids=lambda names: ",".join(names),
)
def test_what_is_no_rising_staircase_has_none(names: Sequence[str]) -> None:
    assert find_capacity([level(name) for name in names]) is None


def test_a_staircase_is_seen_among_other_phases_and_by_a_name_of_its_own() -> None:
    phases = [level("base"), *(level(f"climb-x{x:.3g}") for x in (0.5, 1, 1e3, 2.5e6)), level("spike", 900)]
    assert found(*phases) == ("climb-x2.5e+06", None, (), ())


def test_a_level_of_which_no_objective_speaks_is_none() -> None:
    silent = dataclasses.replace(level("x2"), objectives=())
    assert find_capacity([level("x1"), silent, level("x3")]) is None
    assert found(level("x1"), silent, level("x3"), level("x4", 500)) == ("x3", "x4", (), ())


def test_the_report_says_up_to_where_and_what_gave_out() -> None:
    (told,) = capacity_sentences(climbed([30, 60, 130]))
    assert told.startswith("Every objective met up to x2 (60.0/s offered, 60.0/s within every limit)")
    assert "; missed at x3 (130/s offered, " in told
    assert "within every limit): E2E p95 ≤ 200 ms, " in told
    assert told.endswith(" of 2,600 requests.")


def test_an_invalid_run_has_no_capacity_to_tell_of() -> None:
    summary = climbed([30, 60, 130])
    invalid = dataclasses.replace(summary, validity=dataclasses.replace(summary.validity, valid=False))
    (told,) = capacity_sentences(invalid)
    assert "can't be said of an INVALID run" in told
