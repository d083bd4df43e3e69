"""A heat map counts every latency once, in the bin and the bucket where it belongs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, MadeRun, S

from replay.analysis.heat_map import bin_edges_ns, heat_map, summed
from replay.analysis.metrics import Sample
from replay.analysis.summary import summarise
from replay.analysis.time_values import HeatMap


def made(values_ns: list[float], due_s: list[float], buckets: int) -> HeatMap:
    sample = Sample(np.array(values_ns), np.arange(len(values_ns)))
    found = heat_map("e2e", sample, np.array(due_s) * S, 1.0, buckets)
    assert found is not None
    return found


latencies = st.lists(
    st.tuples(st.floats(1e3, 1e12), st.floats(0, 30, exclude_max=True)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(latencies)
def test_every_request_counts_once_in_its_bin_and_bucket(pairs: list[tuple[float, float]]) -> None:
    values, due = map(list, zip(*pairs, strict=True))
    heat = made(values, due, 30)
    edges = bin_edges_ns(heat)
    for row in range(len(heat.counts)):
        inside = (np.array(values) >= edges[row] * (1 - 1e-9)) & (np.array(values) < edges[row + 1])
        assert heat.counts[row].sum() <= inside.sum()
    assert heat.counts.sum() == len(pairs)
    assert heat.counts.sum(axis=0).tolist() == np.bincount(np.array(due, dtype=int), minlength=30).tolist()
    assert heat.counts[0].any()
    assert heat.counts[-1].any()


@settings(max_examples=60, deadline=None)
@given(latencies, st.integers(1, 12))
def test_a_coarser_one_loses_nobody(pairs: list[tuple[float, float]], spans: int) -> None:
    values, due = map(list, zip(*pairs, strict=True))
    bands_ns, spans_s, counts = summed(made(values, due, 30), spans)
    assert counts.shape == (len(bands_ns) - 1, len(spans_s) - 1)
    assert len(spans_s) - 1 <= spans
    assert spans_s[-1] == 30
    for low, high, row in zip(bands_ns, bands_ns[1:], counts, strict=False):
        inside = (np.array(values) >= low * (1 - 1e-9)) & (np.array(values) < high * (1 + 1e-9))
        assert row.sum() <= inside.sum()
    assert counts.sum() == len(pairs)


def test_bands_begin_at_1_2_and_5() -> None:
    bands_ns, _, counts = summed(made([1.5 * MS, 3 * MS, 7 * MS, 30 * MS], [0, 1, 2, 3], 4), 4)
    assert [float(f"{band:.1g}") / MS for band in bands_ns] == [1, 2, 5, 10, 20, 50]
    assert counts.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_a_run_has_one_of_each_metric_that_it_has_over_the_buckets_of_its_timeline() -> None:
    due = np.arange(400) * 10.0 * MS
    streams = np.arange(400) < 100
    run = MadeRun(
        due_ns=due,
        e2e_ns=np.full(400, 50.0 * MS),
        ttft_ns=np.where(streams, 5.0 * MS, np.nan),
        endpoint=[CHAT if stream else EMBED for stream in streams],
        status=np.where(np.arange(400) == 0, 503, 200),
    ).run()
    summary = summarise(run)
    counts = {heat.metric: int(heat.counts.sum()) for heat in summary.heat}
    assert counts == {"e2e": 399, "ttft": 99}  # a failure has no latency
    assert {heat.counts.shape[1] for heat in summary.heat} == {len(summary.timeline.sent_per_s)}
    wide = summarise(run, bucket_s=1.0)
    assert wide.timeline.width_s == wide.heat[0].width_s == 1.0
