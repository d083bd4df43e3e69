"""The server's side: what endpoints expose becomes a few quantities, and what gave out first is found."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import MS, MadeRun

from replay.analysis.costs import with_cost
from replay.analysis.server_side import saturations
from replay.analysis.slo import parse_objectives
from replay.analysis.summary import summarise
from replay.analysis.values import RunSummary, ServerSeries
from replay.engine.scrape_format import SCRAPE_SCHEMA, Scraped, ScrapeMetadata, Source
from replay.engine.scraping import samples_of
from replay.engine.server_metrics import Choice

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# As the servers themselves write them; the histogram and the rest are what must be left out.
VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.91
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.2
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="m"} %d
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 5.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 5.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.5
"""
SGLANG = """# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 8.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{model_name="m"} 2.0
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="m"} 0.52
# TYPE sglang:cache_hit_rate gauge
sglang:cache_hit_rate{model_name="m"} 0.28
"""
TGI = "# TYPE tgi_queue_size gauge\ntgi_queue_size 7\ntgi_batch_current_size 16\n"
TRITON = """# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="a",version="1"} 2
nv_inference_pending_request_count{model="b",version="1"} 1
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.8
nv_gpu_utilization{gpu_uuid="GPU-2"} 0.4
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 50
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 75
# TYPE nv_gpu_memory_total_bytes gauge
nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 100
nv_gpu_memory_total_bytes{gpu_uuid="GPU-2"} 100
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 5
nv_trt_llm_request_metrics{model="m",request_type="active",version="1"} 9
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 64
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m",version="1"} 0.3
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m",version="1"} 6239
"""
DCGM = """# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %%).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA H100"} 97
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="NVIDIA H100"} 93
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 60
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1"} 20
"""
NODE = """# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu="0",mode="idle"} %(idle)g
node_cpu_seconds_total{cpu="0",mode="iowait"} 1
node_cpu_seconds_total{cpu="0",mode="user"} %(user)g
# TYPE node_memory_MemTotal_bytes gauge
node_memory_MemTotal_bytes 8e+09
# TYPE node_memory_MemAvailable_bytes gauge
node_memory_MemAvailable_bytes 2e+09
"""


def scraped(texts: list[str], *patterns: str, kind: str = TEXT, every_s: float = 1.0) -> Scraped:
    """What a source said, one text a second from the run's zero on."""
    rows: list[tuple[Any, ...]] = []
    choice = Choice(patterns)
    for second, text in enumerate(texts):
        rows += [(second * 10**9, "s", *found, None) for found in samples_of(text, kind, choice)]
        rows += [(second * 10**9, "s", "up", "", "gauge", 1.0, None)]
        rows += [(second * 10**9, "s", "scrape_duration_seconds", "", "gauge", 0.01, None)]
    columns = [pa.array(list(c), f.type) for c, f in zip(zip(*rows, strict=True), SCRAPE_SCHEMA, strict=True)]
    return Scraped(
        pa.Table.from_arrays(columns, schema=SCRAPE_SCHEMA),
        ScrapeMetadata(0, every_s, (Source("s", "http://127.0.0.1:1/metrics"),)),
    )


def summarised(found: Scraped, length_s: float = 4.0) -> RunSummary:
    run = MadeRun(due_ns=np.linspace(0, length_s * 1e9, 50), e2e_ns=np.full(50, 1.0 * MS)).run()
    return summarise(dataclasses.replace(run, scraped=found))


def largest(found: Scraped) -> dict[str, float]:
    server = summarised(found).server
    assert server is not None
    return {series.quantity: series.largest for series in server.series}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (VLLM % 1, {"waiting": 3, "running": 16, "kv_cache": 0.91, "preemptions": 0}),
        (
            VLLM.replace("kv_cache_usage", "gpu_cache_usage") % 1,
            {"waiting": 3, "running": 16, "kv_cache": 0.91, "preemptions": 0},
        ),
        (
            VLLM.replace("vllm:", "ray_vllm_") % 1,
            {"waiting": 3, "running": 16, "kv_cache": 0.91, "preemptions": 0},
        ),
        (SGLANG, {"waiting": 2, "running": 8, "kv_cache": 0.52}),
        (TGI, {"waiting": 7, "running": 16}),
        (TRITON, {"waiting": 5, "running": 9, "kv_cache": 0.3, "gpu": 0.6, "gpu_memory": 0.75}),
        (DCGM.replace("%%", "%"), {"gpu": 0.95, "gpu_memory": 0.75}),
        (NODE % {"idle": 5, "user": 5}, {"memory": 0.75}),
    ],
    ids=["vllm", "vllm v0", "vllm in ray", "sglang", "tgi", "triton", "dcgm", "node"],
)
def test_what_servers_expose_is_understood(text: str, wanted: dict[str, float]) -> None:
    assert largest(scraped([text, text])) == pytest.approx(wanted)


def test_counters_become_rates_and_a_restart_no_negative_one() -> None:
    server = summarised(scraped([VLLM % total for total in (10, 14, 3)])).server
    assert server is not None
    (preemptions,) = [series for series in server.series if series.quantity == "preemptions"]
    assert preemptions.values == (4.0, 3.0)


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 1))
def test_cpu_utilisation_is_what_was_not_idle(busy: float) -> None:
    texts = [NODE % {"idle": 100 + t * (1 - busy), "user": 50 + t * busy} for t in range(3)]
    assert largest(scraped(texts))["cpu"] == pytest.approx(busy, abs=1e-3)


def test_other_metrics_are_kept_by_pattern_only() -> None:
    assert "sglang:cache_hit_rate" not in largest(scraped([SGLANG, SGLANG]))
    found = summarised(scraped([SGLANG, SGLANG], "sglang:cache_*")).server
    assert found is not None
    (own,) = [series for series in found.series if series.quantity == "sglang:cache_hit_rate"]
    assert (own.unit, own.mean) == ("", 0.28)


def test_openmetrics_is_read_too() -> None:
    gauge = '# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{m="a"} 4.0\n'
    text = gauge + "# TYPE c counter\nc_total 7.0\n# EOF\n"
    assert largest(scraped([text, text], "c_total", kind=OPENMETRICS)) == {"waiting": 4.0, "c_total": 0.0}


@pytest.mark.parametrize(
    "text", ["<html>no metrics</html>", "vllm:num_requests_waiting twelve", "vllm:num_requests_waiting{ 3"]
)
def test_what_is_no_exposition_is_refused_or_empty(text: str) -> None:
    try:
        assert list(samples_of(text, TEXT, Choice())) == []
    except ValueError:
        pass
    else:
        assert text.startswith("<")


def series(quantity: str, values: list[float], source: str = "s") -> ServerSeries:
    at = tuple(float(second) for second in range(len(values)))
    return ServerSeries(source, quantity, "", at, tuple(values), float(np.mean(values)), max(values), {})


def test_what_gave_out_first_comes_first() -> None:
    found = saturations(
        [
            series("gpu", [0.2, 0.5, 0.97, 0.5, 0.97, 0.98, 0.99, 0.9]),
            series("kv_cache", [0.1, 0.3, 0.96, 1.0, 1.0, 1.0, 0.5, 0.2]),
            series("waiting", [0, 0, 0, 2, 9, 30, 4, 0]),
            series("cpu", [0.99] * 8),  # so before any load
            series("memory", [0.5, 0.5, 0.99, 0.99, 0.5, 0.5, 0.5, 0.5]),  # two samples are chance
        ],
        left_at_s=3.0,
    )
    assert [(one.quantity, one.since_s) for one in found] == [
        ("kv_cache", 2.0),
        ("waiting", 3.0),
        ("gpu", 4.0),
    ]
    assert [one.before_latency_s for one in found] == [1.0, 0.0, -1.0]
    assert [one.held_s for one in found] == [4.0, 4.0, 4.0]


def test_requests_that_run_are_at_their_most_only_while_others_wait() -> None:
    running = [1.0, 4, 8, 8, 8, 8, 2]
    quiet = saturations([series("running", running), series("waiting", [0.0] * 7)], math.nan)
    assert quiet == ()
    busy = saturations([series("running", running), series("waiting", [0.0, 0, 0, 2, 2, 2, 0])], math.nan)
    assert [(one.quantity, one.bound) for one in busy] == [("running", 0.95 * 8), ("waiting", 1.0)]


def test_an_endpoint_that_was_away_is_counted() -> None:
    found = scraped([SGLANG] * 3)
    down = {
        "at_ns": 3 * 10**9,
        "source": "s",
        "name": "up",
        "labels": "",
        "type": "gauge",
        "value": 0.0,
        "error": "refused",
    }
    table = pa.concat_tables([found.table, pa.Table.from_pylist([down], schema=SCRAPE_SCHEMA)])
    server = summarised(Scraped(table, found.metadata), length_s=9.5).server
    assert server is not None
    (source,) = server.sources
    assert (source.due, source.asked, source.answered, source.last_error) == (10, 4, 3, "refused")


def test_a_cost_is_the_price_of_the_time_over_what_was_made() -> None:
    made = MadeRun(due_ns=np.arange(100) * 100.0 * MS, e2e_ns=np.full(100, 100.0 * MS))
    cost = with_cost(summarise(made.run(), parse_objectives("e2e:p50=1s")), 36.0).cost
    assert cost is not None
    assert cost.total == pytest.approx(0.1)  # 10 s of an hour at 36
    assert cost.per_1000_answers == pytest.approx(1.0)
    assert cost.per_1000_good_answers == pytest.approx(1.0)
    assert cost.per_million_output_tokens == pytest.approx(0.1 / (100 * 10) * 1e6)
    assert cost.per_million_tokens == pytest.approx(0.1 / (100 * 17) * 1e6)
    assert with_cost(summarise(made.run()), None).cost is None
