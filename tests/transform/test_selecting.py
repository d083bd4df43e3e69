"""Steps for some of the requests: by endpoint, model, tenant, length; the mix shifted, tenants limited."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.transform.ground import Ground
from replay.transform.mixing import Mix, TenantLimit, TokenBuckets
from replay.transform.plan import Plan, apply_plan, rows_of_trace
from replay.transform.schedule_format import Schedule
from replay.transform.selecting import Selection, selected
from replay.transform.shapes import Spike
from tests.transform.made_requests import row

S = 1_000_000_000
ROWS = 1200


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    path = tmp_path_factory.mktemp("selecting") / "t.parquet"
    write_trace(path, [batch_of([row(number) for number in range(ROWS)])], TraceMetadata(0, "test"))
    return open_trace(path)


def made(trace: Trace, plan: Plan) -> Schedule:
    return apply_plan(rows_of_trace(trace)[0], plan, trace)


@pytest.mark.parametrize(
    ("selection", "fits"),
    [
        (Selection(endpoint="/v1/embeddings"), lambda r: r["path"] == "/v1/embeddings"),
        (Selection(endpoint="/v1/chat/completions"), lambda r: "chat" in r["path"]),
        (Selection(endpoint="/v1/*"), lambda r: True),
        (Selection(model="large"), lambda r: r["model"] == "large"),
        (Selection(tenant="x-tenant:acme"), lambda r: ("X-Tenant", "acme") in r["request_headers"]),
        (Selection(min_input_tokens=200), lambda r: (r["input_tokens"] or 0) >= 200),
        (Selection(max_input_tokens=200), lambda r: r["input_tokens"] == 100),
        (Selection(min_body_bytes=150), lambda r: len(r["request_body"]) >= 150),
        (Selection(max_body_bytes=149), lambda r: len(r["request_body"]) <= 149),
        (
            Selection(model="small", tenant="x-tenant:acme", min_body_bytes=100),
            lambda r: (
                r["model"] == "small"
                and ("X-Tenant", "acme") in r["request_headers"]
                and len(r["request_body"]) >= 100
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_selection_has_the_rows_that_fulfil_all_of_it(
    trace: Trace, selection: Selection, fits: Any
) -> None:
    expected = [bool(fits(row(number))) for number in range(ROWS)]
    assert selected(trace, selection).tolist() == expected


def test_a_selection_of_nothing_is_refused(trace: Trace) -> None:
    with pytest.raises(BadInput, match="no request in it has model=huge"):
        selected(trace, Selection(model="huge"))
    with pytest.raises(
        BadInput, match=r"none of the requests that it is for is due in its window, 0\.1s to 0\.3s"
    ):
        made(trace, Plan(shapes=(Spike(S // 10, S // 5, 2, model="large"),)))
    with pytest.raises(BadInput, match="no request in it has the header 'x-team'; was it kept by"):
        made(trace, Plan(limits=(TenantLimit(tenant="x-team", per_s=1),)))


def test_a_crowd_on_one_tenant_leaves_the_others_alone(trace: Trace) -> None:
    mine = selected(trace, Selection(tenant="x-tenant:acme"))
    schedule = made(trace, Plan(shapes=(Spike(30 * S, 60 * S, 5, tenant="x-tenant:acme"),)))
    counts = np.bincount(schedule.row, minlength=ROWS)
    inside = (np.arange(ROWS) >= 300) & (np.arange(ROWS) < 900)
    assert (counts[mine & inside] == 5).all()
    assert (counts[~(mine & inside)] == 1).all()


def test_a_mix_takes_sessions_whole_and_can_keep_the_total(trace: Trace) -> None:
    long_ones = Ground(trace).sessions_with(Selection(min_input_tokens=4000))
    assert long_ones.sum() == 4 * selected(trace, Selection(min_input_tokens=4000)).sum()
    twice = made(trace, Plan(mix=(Mix(x=2, min_input_tokens=4000),)))
    counts = np.bincount(twice.row, minlength=ROWS)
    assert (counts[long_ones] == 2).all()
    assert (counts[~long_ones] == 1).all()
    kept = made(trace, Plan(mix=(Mix(x=3, min_input_tokens=4000, keep_total=True),), seed=4))
    counts = np.bincount(kept.row, minlength=ROWS)
    assert (counts[long_ones] == 3).all()
    # What others lose is drawn by session: one deviation is under √1200 · 2 requests.
    assert abs(len(kept) - ROWS) < 5 * 2 * np.sqrt(ROWS)
    for session in np.unique(twice.session[long_ones[twice.row]]):
        assert (twice.session == session).sum() == 4
    with pytest.raises(BadInput, match="leave no room for others"):
        made(trace, Plan(mix=(Mix(x=20, min_input_tokens=4000, keep_total=True),)))
    with pytest.raises(BadInput, match="nothing selected found"):
        Mix(x=2)


def test_no_tenant_is_above_its_limit_and_what_has_no_tenant_passes(trace: Trace) -> None:
    per_s, burst = 1.5, 4
    plan = Plan(amplify=3, limits=(TenantLimit(tenant="x-tenant", per_s=per_s, burst=burst),))
    schedule, free = made(trace, plan), made(trace, Plan(amplify=3))
    for tenant in ("acme", "other"):
        mine = selected(trace, Selection(tenant=f"x-tenant:{tenant}"))
        due_s = schedule.due_ns[mine[schedule.row]] / 1e9
        assert len(due_s) < mine[free.row].sum()
        for start in range(len(due_s)):
            ahead = np.arange(len(due_s) - start)
            # In any window of length t that begins with a request: at most burst + t · per_s of them.
            assert (ahead + 1 <= burst + (due_s[start:] - due_s[start]) * per_s + 1e-6).all()
    without = np.arange(ROWS) % 5 == 0
    assert (without[schedule.row]).sum() == (without[free.row]).sum()
    follows = schedule.after >= 0
    assert (schedule.session[schedule.after[follows]] == schedule.session[follows]).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3 * S), st.integers(-1, 2)), max_size=40),
    st.sampled_from([0.5, 1, 7]),
    st.integers(1, 5),
    st.integers(0, 40),
)
def test_buckets_pass_what_a_bucket_that_fills_steadily_would(
    asked: list[tuple[int, int]], per_s: float, burst: int, cut: int
) -> None:
    due = np.cumsum([gap for gap, _ in asked]).astype(np.int64)
    tenant = np.array([who for _, who in asked], np.int32)
    tokens: dict[int, tuple[float, int]] = {}
    expected = []
    for at, who in zip(due.tolist(), tenant.tolist(), strict=True):
        held, since = tokens.get(who, (float(burst), at))
        held = min(burst, held + (at - since) * per_s / 1e9)
        passes = who < 0 or held >= 1 - 1e-9
        tokens[who] = (held - (passes and who >= 0), at)
        expected.append(passes)
    buckets = TokenBuckets(per_s, burst)
    found = [*buckets.passes(due[:cut], tenant[:cut]), *buckets.passes(due[cut:], tenant[cut:])]
    assert found == expected
