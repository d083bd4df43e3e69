"""Validity: a healthy run passes, each fault flips its own check, and harmless noise flips none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from made_runs import MS, MadeRun, S, metadata

from capture.failures import EXIT_INVALID, RunInvalid
from replay.analysis.run_table import RunTable
from replay.analysis.validity import judge, require_valid
from replay.analysis.values import Check

SLOW = {"lateness_p99_ns": 20 * MS}


def healthy(n: int = 1000, per_s: float = 50.0, seed: int = 0) -> MadeRun:
    """Poisson arrivals, sent some 50 µs late, answered in 300 ms."""
    rng = np.random.default_rng(seed)
    return MadeRun(
        due_ns=np.sort(rng.uniform(0, n / per_s * S, n)),
        e2e_ns=300 * MS * rng.lognormal(0, 0.1, n),
        lateness_ns=rng.gamma(2.0, 25_000.0, n),
        in_flight=rng.integers(1, 30, n),
    )


def failed(run: RunTable) -> list[str]:
    return [check.name for check in judge(run).checks if not check.passed]


def check(run: RunTable, name: str) -> Check:
    return next(check for check in judge(run).checks if check.name == name)


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_passes(seed: int) -> None:
    validity = judge(healthy(seed=seed).run())
    assert validity.valid
    assert validity.warnings == ()


def coupled(made: MadeRun) -> MadeRun:
    assert made.in_flight is not None
    return dataclasses.replace(made, lateness_ns=100_000.0 + 25_000.0 * made.in_flight)


def unsent(made: MadeRun, share: float) -> MadeRun:
    n = len(made.due_ns)
    missing = np.arange(n) % round(1 / share) == 0
    error = ["not_sent" if gone else None for gone in missing]
    return dataclasses.replace(made, sent=~missing, error=error)


def stalled(made: MadeRun, share: float, by_ns: float) -> MadeRun:
    assert made.lateness_ns is not None
    late = made.lateness_ns.copy()
    late[: round(share * len(late))] += by_ns
    return dataclasses.replace(made, lateness_ns=late)


def alternating(made: MadeRun) -> MadeRun:
    n = len(made.due_ns)
    late = np.where(np.arange(n) % 2, 0.95 * MS, 0.0)
    return dataclasses.replace(made, due_ns=np.arange(n) * 2.0 * MS, lateness_ns=late)


def smoothed(made: MadeRun) -> MadeRun:
    """Bursts of five, due at once, leave 6 ms apart and so spill into the next tenth of a second."""
    n = len(made.due_ns)
    tenth = np.random.default_rng(1).choice(2 * n // 5, n // 5, replace=False)
    due = np.repeat(np.sort(tenth), 5) * 100.0 * MS + 90 * MS
    due[0] = 0.0
    return dataclasses.replace(made, due_ns=due, lateness_ns=(np.arange(n) % 5) * 6.0 * MS)


FAULTS: list[tuple[str, MadeRun, dict[str, Any]]] = [
    ("whole", healthy(), {"partial": True}),
    ("whole", healthy(), {"scheduled": 1200}),
    ("achieved load", unsent(healthy(), 0.02), {}),
    ("lateness p99", stalled(healthy(), 0.02, 5 * MS), {}),
    ("lateness max", stalled(healthy(), 0.002, 60 * MS), {}),
    ("open loop", coupled(healthy()), {}),
    ("inter-arrival times", alternating(healthy()), {}),
    ("burstiness", smoothed(healthy()), {"bounds": {"lateness_p99_ns": 60 * MS}}),
    ("generator CPU", healthy(), {"workers": ({"worker": 0, "cpu_s": 8.0, "wall_s": 10.0},)}),
    ("in-flight limit", healthy(), {"in_flight_limit": 29}),
    ("workers alive", dataclasses.replace(healthy(), error=["lost"] + [None] * 999), {}),
]


@pytest.mark.parametrize(("name", "made", "changes"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_each_fault_flips_its_own_check(name: str, made: MadeRun, changes: dict[str, Any]) -> None:
    assert failed(made.run(**changes)) == [name]


def test_the_lateness_bound_is_a_hundredth_of_a_fast_answer() -> None:
    late = np.full(1000, 0.45 * MS)
    made = dataclasses.replace(healthy(), e2e_ns=np.full(1000, 40.0 * MS), lateness_ns=late)
    assert failed(made.run()) == ["lateness p99"]
    assert "0.40 ms" in check(made.run(), "lateness p99").wanted


def test_the_lateness_bound_asks_no_more_than_timers_can_give() -> None:
    made = dataclasses.replace(healthy(), e2e_ns=np.full(1000, 1.0 * MS), lateness_ns=np.full(1000, 0.2 * MS))
    assert failed(made.run()) == []
    assert "0.25 ms" in check(made.run(), "lateness p99").wanted


def test_bounds_that_the_user_states_are_used_and_shown() -> None:
    run = stalled(healthy(), 0.02, 5 * MS).run(bounds=SLOW)
    assert failed(run) == []
    assert check(run, "lateness p99").wanted == "at most 20.0 ms (as asked for)"


def test_sending_early_is_as_wrong_as_sending_late() -> None:
    made = dataclasses.replace(healthy(), lateness_ns=np.full(1000, -3.0 * MS))
    assert failed(made.run()) == ["lateness p99"]


def test_lateness_that_follows_the_load_by_microseconds_is_harmless() -> None:
    made = healthy()
    assert made.in_flight is not None
    harmless = dataclasses.replace(made, lateness_ns=20_000.0 + 3_000.0 * made.in_flight)
    found = check(harmless.run(), "open loop")
    assert found.passed
    assert "Spearman +1.00" in found.found


def test_one_request_that_slips_over_the_edge_of_a_window_is_no_burst() -> None:
    """A run of 4 s with 55 requests a second, as the shortened demo has it: 40 windows of 0.1 s."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        due = np.sort(rng.uniform(0, 4e9, 220))
        late = np.full(220, 50_000.0)
        late[rng.integers(220)] = 9 * MS
        made = MadeRun(due_ns=due, e2e_ns=np.full(220, 500.0 * MS), lateness_ns=late)
        run = made.run(bounds=SLOW | {"lateness_p99_ns": 20 * MS})
        assert check(run, "burstiness").passed, check(run, "burstiness").found


def test_a_regular_schedule_with_timer_jitter_passes() -> None:
    """Equal gaps and an index of dispersion of zero: neither comparison may take microseconds seriously."""
    rng = np.random.default_rng(3)
    made = dataclasses.replace(
        healthy(), due_ns=np.arange(1000) * 10.0 * MS, lateness_ns=rng.uniform(0, 900_000, 1000)
    )
    assert failed(made.run()) == []


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_tiny_run_passes_with_a_doubt(n: int) -> None:
    validity = judge(healthy(n).run())
    assert validity.valid
    assert any("too few" in warning for warning in validity.warnings)


def test_an_empty_run_is_invalid() -> None:
    assert failed(MadeRun(due_ns=np.array([]), e2e_ns=np.array([])).run()) == ["achieved load"]


def test_windows_longer_than_the_run_are_said_to_be_unjudged() -> None:
    assert "not judged at 10 s, 60 s" in check(healthy().run(), "burstiness").found


def test_a_target_that_refuses_connections_is_not_the_generators_fault() -> None:
    n = 1000
    error: list[str | None] = ["connect_refused" if i % 10 == 0 else None for i in range(n)]
    made = dataclasses.replace(healthy(), error=error, sent=np.array([kind is None for kind in error]))
    validity = judge(made.run())
    assert validity.valid
    assert any("100 requests found no connection" in warning for warning in validity.warnings)


def test_turns_whose_predecessor_failed_are_excused_in_partly_open_mode_only() -> None:
    made = unsent(healthy(), 0.1)
    assert failed(made.run(mode="partly-open")) == []
    assert failed(made.run(mode="open")) == ["achieved load"]


def test_missing_samples_of_the_generator_are_a_doubt() -> None:
    validity = judge(healthy().run(workers=()))
    assert validity.valid
    assert any("CPU not judged" in warning for warning in validity.warnings)


def test_the_busiest_seconds_of_a_worker_count_where_they_are_known() -> None:
    calm = {"worker": 0, "cpu_s": 1.0, "wall_s": 10.0}
    assert failed(healthy().run(workers=(calm,))) == []
    assert failed(healthy().run(workers=({**calm, "cpu_busiest_share": 0.9},))) == ["generator CPU"]


def test_lag_and_pauses_of_the_generator_are_doubts() -> None:
    worker = {"worker": 3, "cpu_s": 1, "wall_s": 9, "loop_lag_ns": [2e7] * 9, "gc_pause_ns": [7e7]}
    first, second = judge(healthy().run(workers=(worker,))).warnings
    assert "worker 3: event loop late by 20.0 ms" in first
    assert "70.0 ms" in second


def test_a_cpu_that_something_outside_slowed_is_a_doubt() -> None:
    worker = {"worker": 0, "cpu_s": 1, "wall_s": 9, "cpu_slow_share": 0.061}
    (warning,) = judge(healthy().run(workers=(worker,))).warnings
    assert warning.startswith("worker 0: its CPU ran at less than half its speed 6.1 % of the time")
    assert judge(healthy().run(workers=(worker | {"cpu_slow_share": 0.002},))).warnings == ()


def test_late_requests_that_waited_for_a_connection_say_so() -> None:
    run = stalled(healthy(), 0.02, 5 * MS).run()
    connected = run.due_ns + np.where(np.arange(1000) < 20, 4 * MS, -1.0)
    waited = dataclasses.replace(run, connected_ns=connected)
    assert "20 of 20 late ones waited" in check(waited, "lateness p99").found


def test_an_invalid_run_carries_no_verdict() -> None:
    validity = judge(stalled(healthy(), 0.02, 5 * MS).run())
    with pytest.raises(RunInvalid, match=r"build-a is INVALID.*lateness p99: 5\..*1\.00 ms") as caught:
        require_valid("build-a", validity)
    assert caught.value.exit_code == EXIT_INVALID
    require_valid("build-a", judge(healthy().run()))


def test_metadata_of_the_tests_is_that_of_a_whole_run() -> None:
    assert not metadata().partial
