"""The summary of a run: counts add up, groups partition, the timeline conserves what it counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, MadeRun, S

from replay.analysis.slo import parse_objectives
from replay.analysis.summary import summarise
from replay.analysis.timeline import bucket_width_s
from replay.analysis.values import Group


def mixed(n: int = 300) -> MadeRun:
    """Every third request an embedding; every tenth fails; a spike in the second half; in shuffled order."""
    rng = np.random.default_rng(1)
    order = rng.permutation(n)
    number = np.arange(n)[order]
    chat = number % 3 != 0
    return MadeRun(
        due_ns=number * 50.0 * MS,
        ttft_ns=np.where(chat, 80.0 * MS, np.nan),
        e2e_ns=np.where(chat, 200.0 * MS, 10.0 * MS),
        endpoint=[CHAT if is_chat else EMBED for is_chat in chat],
        model=["chat-1" if is_chat else None for is_chat in chat],
        phase=["spike" if i >= n // 2 else "base" for i in number],
        status=np.where(number % 10 == 0, 503, 200),
        error=["timeout" if i % 20 == 5 else None for i in number],
    )


def test_counts_and_rates() -> None:
    summary = summarise(mixed().run(), parse_objectives("e2e:p50=100ms"))
    assert (summary.scheduled, summary.sent, summary.ok) == (300, 300, 255)
    assert summary.error_rate == pytest.approx(0.15)
    assert summary.offered_per_s == pytest.approx(20.0)
    assert summary.achieved_per_s == pytest.approx(20.0)
    assert summary.duration_s == pytest.approx(299 * 0.05 + 0.2, abs=0.2)
    assert summary.output_tokens == 255 * 10
    good = np.sum([i % 3 == 0 and i % 10 != 0 and i % 20 != 5 for i in range(300)])
    assert summary.goodput_per_s == pytest.approx(good / summary.duration_s)


def test_goodput_without_objectives_is_unknown() -> None:
    assert np.isnan(summarise(mixed().run()).goodput_per_s)


def test_groups_cover_what_they_name() -> None:
    groups = {found.group: found for found in summarise(mixed().run()).groups}
    assert list(groups) == [
        Group("all", ""),
        Group("endpoint", CHAT),
        Group("endpoint", EMBED),
        Group("model", "chat-1"),
        Group("phase", "base"),
        Group("phase", "spike"),
    ]
    assert groups[Group("all", "")].errors == {"timeout": 15}
    assert groups[Group("all", "")].statuses == {200: 255, 503: 30}
    for kind in ("endpoint", "phase"):
        parts = [found for group, found in groups.items() if group.kind == kind]
        assert sum(part.scheduled for part in parts) == 300
        assert sum(part.ok for part in parts) == 255


def test_metrics_appear_where_they_are_defined() -> None:
    groups = {found.group.name: found for found in summarise(mixed().run()).groups}
    embed = {(metric.metric, metric.clock) for metric in groups[EMBED].metrics}
    assert embed == {("e2e", "due"), ("e2e", "sent")}
    chat = {(metric.metric, metric.clock): metric for metric in groups[CHAT].metrics}
    assert chat["ttft", "due"].quantile_ns[0.5] == pytest.approx(80 * MS)
    assert chat["tpot", "due"].mean_ns == pytest.approx(120 * MS / 9)
    assert ("itl", "sent") not in chat


def test_a_single_phase_is_no_group() -> None:
    kinds = {found.group.kind for found in summarise(dataclasses.replace(mixed(), phase=None).run()).groups}
    assert "phase" not in kinds


def test_the_timeline_conserves_requests_and_time_in_flight() -> None:
    run = mixed().run()
    line = summarise(run).timeline
    assert sum(line.scheduled_per_s) * line.width_s == pytest.approx(300)
    assert sum(line.sent_per_s) * line.width_s == pytest.approx(300)
    assert sum(line.errors_per_s) * line.width_s == pytest.approx(45)
    assert sum(line.in_flight) * line.width_s * S == pytest.approx(np.sum(run.end_ns - run.sent_ns))
    assert line.phases == (("spike", 7.5, 14.95),)
    assert len({len(line.e2e_p50_ns), len(line.ttft_p99_ns), len(line.in_flight)}) == 1


@given(st.floats(0.2, 1e6))
def test_buckets_are_some_80_to_200(duration_s: float) -> None:
    assert 79 < duration_s / bucket_width_s(duration_s, 10**6) <= 200
    assert 8 <= duration_s / bucket_width_s(duration_s, 100) <= 20


def test_an_empty_run_has_a_summary() -> None:
    summary = summarise(MadeRun(due_ns=np.array([]), e2e_ns=np.array([])).run())
    assert summary.scheduled == 0
    assert np.isnan(summary.error_rate)
    assert not summary.validity.valid


def test_a_run_in_which_all_failed_has_a_summary() -> None:
    n = 50
    made = MadeRun(
        due_ns=np.arange(n) * 10.0 * MS,
        e2e_ns=np.full(n, 1.0 * MS),
        error=["connect_refused"] * n,
        sent=np.zeros(n, dtype=bool),
    )
    summary = summarise(made.run(), parse_objectives("ttft:p99=1s,error_rate=1%"))
    assert (summary.sent, summary.ok, summary.error_rate) == (0, 0, 1.0)
    assert not any(result.met for result in summary.objectives)
    assert summary.goodput_per_s == 0
