"""Objectives: how they are written, and that every scheduled request counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_runs import MS, MadeRun

from capture.failures import BadInput
from replay.analysis.metrics import Latencies
from replay.analysis.slo import evaluate, met_all, parse_objectives
from replay.analysis.values import Objective


def test_the_terms_of_an_slo() -> None:
    assert parse_objectives("ttft:p99=500ms, error_rate=1%,e2e:p99.9=2.5s,itl:p50=800us") == (
        Objective("ttft", 0.99, 500e6),
        Objective("error_rate", None, 0.01),
        Objective("e2e", pytest.approx(0.999), 2.5e9),
        Objective("itl", 0.5, 800e3),
    )
    assert parse_objectives("error_rate=0.02") == (Objective("error_rate", None, 0.02),)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "nothing"),
        ("ttft", "'ttft'"),
        ("ttft:p99=500", "'500'"),
        ("ttft:p99=-5ms", "'-5ms'"),
        ("ttft:p99=0ms", "'0ms'"),
        ("ttfb:p99=5ms", "'ttfb'"),
        ("ttft:p0=5ms", "p0"),
        ("ttft:p101=5ms", "p101"),
        ("ttft:99=5ms", "ttft:99=5ms"),
        ("error_rate=150%", "'150%'"),
        ("error_rate=5ms", "'5ms'"),
        ("ttft:p99=5ms,ttft:p99=6ms", "second time"),
        ("ttft:p99=5ms,,", "''"),
    ],
)
def test_a_wrong_piece_is_named_in_one_line(text: str, named: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_objectives(text)
    assert named in str(caught.value)
    assert "wanted" in str(caught.value) or "state each once" in str(caught.value)
    assert "\n" not in str(caught.value)


def ten_requests() -> MadeRun:
    """Streams with TTFT 10…100 ms and E2E twice that, one after the other."""
    ttft = np.arange(1, 11) * 10.0 * MS
    return MadeRun(due_ns=np.arange(10) * 100.0 * MS, ttft_ns=ttft, e2e_ns=2 * ttft)


def result(made: MadeRun, text: str) -> tuple[float, bool, float]:
    (found,) = evaluate(Latencies(made.run()), parse_objectives(text))
    return found.found, found.met, found.attainment


def test_a_quantile_is_met_exactly_when_attainment_reaches_it() -> None:
    assert result(ten_requests(), "ttft:p90=90ms") == (90 * MS, True, 0.9)
    assert result(ten_requests(), "ttft:p90=89ms") == (90 * MS, False, 0.8)


def test_an_unanswered_request_misses() -> None:
    made = dataclasses.replace(ten_requests(), error=["timeout"] * 2 + [None] * 8)
    assert result(made, "ttft:p90=200ms") == (np.inf, False, 0.8)
    assert result(made, "ttft:p80=100ms") == (100 * MS, True, 0.8)
    assert result(made, "error_rate=1%") == (0.2, False, 0.8)


def test_requests_a_metric_does_not_speak_of_are_left_out() -> None:
    made = ten_requests()
    made.ttft_ns[5:] = np.nan  # not streamed
    made = dataclasses.replace(made, error=[None] * 9 + ["reset"])
    assert result(made, "ttft:p100=50ms") == (50 * MS, True, 1.0)
    assert result(made, "e2e:p100=1s") == (np.inf, False, 0.9)


def test_a_failed_stream_counts_for_every_streaming_metric() -> None:
    made = dataclasses.replace(ten_requests(), status=np.array([500] + [200] * 9))
    for metric in ("ttft", "tpot", "itl"):
        assert result(made, f"{metric}:p100=10s")[0] == np.inf


def test_what_nothing_shows_is_not_met() -> None:
    made = dataclasses.replace(ten_requests(), ttft_ns=None)
    found, met, _ = result(made, "ttft:p99=1s")
    assert np.isnan(found)
    assert not met


def test_goodput_counts_requests_that_meet_every_limit() -> None:
    made = dataclasses.replace(ten_requests(), status=np.array([500] + [200] * 9))
    latencies = Latencies(made.run())
    # The first fails, TTFT lets 2–6 through, E2E 2–5.
    met = met_all(latencies, parse_objectives("ttft:p99=60ms,e2e:p99=100ms,error_rate=50%"))
    np.testing.assert_array_equal(np.flatnonzero(met), [1, 2, 3, 4])
    # Gaps are TTFT/9 here: 40 ms for the last but none above 12 ms.
    assert met_all(latencies, parse_objectives("itl:p90=5ms")).sum() == 3
