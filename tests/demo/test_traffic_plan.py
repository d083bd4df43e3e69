"""The plan of the demo's traffic: the same seed plans the same, and every kind of trouble is in it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.demo.traffic_plan import Kind, plan_traffic

MINUTE = plan_traffic(np.random.default_rng(1), 60, 11)


def kinds(plan):
    return Counter(turn.kind for visit in plan for turn in visit.turns)


def test_the_same_seed_plans_the_same():
    assert plan_traffic(np.random.default_rng(1), 60, 11) == MINUTE
    assert plan_traffic(np.random.default_rng(2), 60, 11) != MINUTE


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 90), st.floats(0.5, 20), st.integers(0, 5))
def test_as_many_requests_as_the_rate_says_within_the_time(duration_s, rate_per_s, seed):
    plan = plan_traffic(np.random.default_rng(seed), duration_s, rate_per_s)
    assert kinds(plan).total() == max(1, round(duration_s * rate_per_s))
    starts = [visit.at_ns for visit in plan]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert starts[-1] <= duration_s * 1e9


def test_a_minute_holds_every_kind_and_mostly_chats():
    counts = kinds(MINUTE)
    assert set(counts) == set(Kind)
    assert counts[Kind.CHAT_STREAM] > counts.total() / 2
    assert (
        sum(counts[kind] for kind in (Kind.FAULT, Kind.UNKNOWN_MODEL, Kind.MALFORMED)) < 0.05 * counts.total()
    )


def test_sessions_have_several_turns_with_thinking_between_and_only_some_name_themselves():
    sessions = [visit for visit in MINUTE if len(visit.turns) > 1]
    assert {len(visit.turns) for visit in sessions} <= {2, 3, 4, 5}
    assert all(turn.think_ns > 0 for visit in sessions for turn in visit.turns[1:])
    named = [visit.session_id for visit in sessions if visit.session_id]
    assert 0 < len(named) < len(sessions)
    assert len(set(named)) == len(named)
    assert not any(visit.session_id for visit in MINUTE if len(visit.turns) == 1)


def test_every_visit_has_a_credential_of_its_own():
    assert len({visit.credential for visit in MINUTE}) == len(MINUTE)


def test_bodies_are_what_their_kind_says():
    for turn in (turn for visit in MINUTE for turn in visit.turns):
        if turn.kind is Kind.MALFORMED:
            with pytest.raises(ValueError, match="Unterminated"):
                json.loads(turn.body)
        elif turn.body:
            assert json.loads(turn.body)
        else:
            assert len(turn.text.split()) >= 20


def test_arrivals_are_burstier_than_poisson_but_mildly():
    indices = []
    for seed in range(20):
        plan = plan_traffic(np.random.default_rng(seed), 60, 11)
        starts_s = [visit.at_ns / 1e9 for visit in plan if len(visit.turns) == 1]
        counts = np.histogram(starts_s, bins=60, range=(0, 60))[0]
        indices.append(counts.var(ddof=1) / counts.mean())
    assert 1.1 < np.mean(indices) < 3
