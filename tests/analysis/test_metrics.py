"""Formulas of the metrics, on requests small enough to count by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_runs import MS, MadeRun

from replay.analysis.metrics import Latencies


def two_requests() -> MadeRun:
    """A stream (due 0, sent 2 ms, token 1 at 12 ms, 5 tokens, end at 52 ms), and an embedding of 7 ms."""
    return MadeRun(
        due_ns=np.array([0.0, 100.0 * MS]),
        lateness_ns=np.array([2.0 * MS, 0.0]),
        ttft_ns=np.array([10.0 * MS, np.nan]),
        e2e_ns=np.array([50.0 * MS, 7.0 * MS]),
        tokens=np.array([5, 0]),
    )


def test_ttft_and_e2e_from_due_and_from_sent() -> None:
    latencies = Latencies(two_requests().run())
    np.testing.assert_array_equal(latencies.ttft_ns("due"), [12 * MS, np.nan])
    np.testing.assert_array_equal(latencies.ttft_ns("sent"), [10 * MS, np.nan])
    np.testing.assert_array_equal(latencies.e2e_ns("due"), [52 * MS, 7 * MS])
    np.testing.assert_array_equal(latencies.e2e_ns("sent"), [50 * MS, 7 * MS])


def test_tpot_leaves_the_first_token_out() -> None:
    np.testing.assert_array_equal(Latencies(two_requests().run()).tpot_ns(), [10 * MS, np.nan])


def test_itl_has_a_gap_less_than_reads() -> None:
    itl = Latencies(two_requests().run()).itl
    np.testing.assert_array_equal(itl.values_ns, [10 * MS] * 4)
    np.testing.assert_array_equal(itl.row, [0] * 4)


def test_reads_without_tokens_make_no_gap() -> None:
    run = two_requests().run()
    quiet = dataclasses.replace(run, chunk_tokens=np.array([1, 0, 2, 0, 1]))
    np.testing.assert_array_equal(Latencies(quiet).itl.values_ns, [20 * MS, 20 * MS])


def test_a_failed_request_has_no_latency() -> None:
    made = dataclasses.replace(two_requests(), status=np.array([503, 200]))
    latencies = Latencies(made.run())
    assert np.isnan(latencies.e2e_ns("due")[0])
    assert np.isnan(latencies.ttft_ns("due")[0])
    assert len(latencies.itl.row) == 0
    broken = dataclasses.replace(two_requests(), error=[None, "reset"])
    assert np.isnan(Latencies(broken.run()).e2e_ns("due")[1])


def test_without_the_servers_count_there_is_no_tpot() -> None:
    run = dataclasses.replace(two_requests().run(), output_tokens=np.array([np.nan, np.nan]))
    assert np.isnan(Latencies(run).tpot_ns()).all()


def test_an_unknown_metric_or_clock_is_a_programming_error() -> None:
    latencies = Latencies(two_requests().run())
    with pytest.raises(ValueError, match="metric"):
        latencies.sample("ttfb", "due")
    with pytest.raises(ValueError, match="clock"):
        latencies.sample("ttft", "arrival")
