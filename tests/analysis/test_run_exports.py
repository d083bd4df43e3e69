"""What others' tools read of a run: HdrHistogram's files, OTLP metrics, CSV. Their own readers judge.

The peers are HdrHistogram's Python port and opentelemetry-proto's generated messages.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.csv
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, PREDICT, MadeRun, S
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from replay.analysis.hdr_histogram import HIGHEST_NS, HdrHistogram
from replay.analysis.metrics import Latencies
from replay.analysis.run_table import RunTable
from replay.cli.exporting import app
from replay.engine.run_format import read_run
from replay.engine.run_writer import RunWriter
from replay.report.hdr_files import encode_v2, percentile_table
from replay.report.otlp_metrics import OUTCOMES
from tests.command_line import invoked

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram as Peer
else:
    Peer = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has no wheel here").HdrHistogram
N = 600
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"
KEY = "5a" * 32
RUN_VERBS = ("hgrm", "hdr-log", "otlp-metrics", "csv")


def made(seed: int = 1) -> MadeRun:
    """Chats, embeddings and a model of tables over 12 s; some are shed, reset, hung up on, or never sent."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(3, size=N)
    ttft_ns = np.where(kind == 0, 50 * MS * rng.lognormal(0, 0.5, N), np.nan)
    status = np.where(rng.random(N) < 0.05, 429, 200)
    error: list[str | None] = [None] * N
    error[5:9] = ["reset", "aborted", "timeout", "not_sent"]
    return MadeRun(
        due_ns=np.sort(rng.uniform(0, 12 * S, N)),
        lateness_ns=rng.uniform(0, 0.1 * MS, N),
        ttft_ns=ttft_ns,
        e2e_ns=np.nan_to_num(ttft_ns) + 80 * MS * rng.lognormal(0, 1, N),
        endpoint=[(CHAT, EMBED, PREDICT)[one] for one in kind],
        model=[("chat", "embed", None)[one] for one in kind],
        phase=["base" if at < N // 2 else "spike" for at in range(N)],
        status=status,
        error=error,
        sent=np.array([kind != "not_sent" for kind in error]),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made().written(tmp_path_factory.mktemp("run") / "a.parquet", zero_wall_ns=1_795_000_000 * S)


@pytest.fixture(scope="module")
def table(path: Path) -> RunTable:
    return RunTable.of(*read_run(path))


export = functools.partial(invoked, app)


def peer_of(values: np.ndarray) -> Peer:
    peer = Peer(1, HIGHEST_NS, 3)
    for value in np.rint(values).astype(np.int64).tolist():
        assert peer.record_value(value)
    return peer


# HdrHistogram.


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, HIGHEST_NS) | st.integers(0, 5000), min_size=1, max_size=60))
def test_the_encoding_is_read_by_the_reference_s_port_as_if_it_had_recorded_the_values(
    values: list[int],
) -> None:
    ours = HdrHistogram.of(np.array(values))
    read, peer = Peer.decode(encode_v2(ours)), peer_of(np.array(values))
    assert read.equals(peer)
    assert [read.get_value_at_percentile(share) for share in (0, 50, 99.9)] == [
        peer.get_value_at_percentile(share) for share in (0, 50, 99.9)
    ]
    assert (ours.total, ours.max_ns) == (peer.get_total_count(), peer.get_max_value())


@pytest.mark.parametrize("size", [1, 2, 3, 20_000])
def test_the_percentile_table_steps_as_the_reference_and_tells_what_numpy_does(size: int) -> None:
    values = np.rint(50 * MS * np.random.default_rng(size).lognormal(0, 1, size))
    text = "".join(percentile_table(HdrHistogram.of(values))).splitlines()
    assert text[:2] == ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
    lines = [tuple(map(float, line.split())) for line in text[2:-3]]
    # The steps of outputPercentileDistribution(…, 5, …), as in wrk2's README; the Python port takes others.
    steps = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.8875]
    found = [line[1] for line in lines]
    assert found[: len(steps)] == steps[: len(found) - 1] + [1.0] * (len(found) <= len(steps))
    for value, level, total, *inverse in lines:
        exact = np.quantile(values, level, method="inverted_cdf") / MS
        assert exact <= value + 5e-4
        assert value <= exact * 1.001 + 5e-4
        # All values of one bucket are counted.
        assert np.sum(values <= exact * MS) <= total <= np.sum(values <= (value + 5e-4) * MS)
        assert inverse == ([] if level == 1 else [pytest.approx(1 / (1 - level), abs=5e-3)])
    assert lines[-1][1:] == (1.0, size)
    told = [float(part.split("=")[1]) for line in text[-3:] for part in line.strip("#[]").split(",")]
    assert told == [
        pytest.approx(np.mean(values) / MS, rel=1e-3),
        pytest.approx(np.std(values) / MS, rel=2e-3, abs=0.1),
        pytest.approx(np.max(values) / MS, rel=1e-3),
        size,
        peer_of(values[:1]).bucket_count,
        2048,
    ]


def test_an_hgrm_holds_the_latencies_from_due(path: Path, table: RunTable, tmp_path: Path) -> None:
    result = export("hgrm", path, "-o", tmp_path / "a.hgrm", "--endpoint", EMBED)
    latencies = Latencies(table)
    values_ns = latencies.e2e_ns("due")[table.endpoint.mask(EMBED) & latencies.ok]
    lines = [line.split() for line in (tmp_path / "a.hgrm").read_text().splitlines()]
    median_ms = next(float(line[0]) for line in lines if line[1:2] == ["0.500000000000"])
    assert median_ms == pytest.approx(np.quantile(values_ns, 0.5, method="inverted_cdf") / MS, rel=1e-3)
    assert f"{len(values_ns)} e2e latencies" in result.stdout
    assert f"left out: {int((~latencies.ok).sum())} requests without a good answer" in result.stderr


def test_a_log_is_read_back_by_tag_interval_and_value(path: Path, table: RunTable, tmp_path: Path) -> None:
    log = tmp_path / "a.hlog"
    export("hdr-log", path, "-o", log, "--metric", "e2e", "--by-endpoint", "--interval", "2s")
    from hdrh.log import HistogramLogReader

    reader = HistogramLogReader(str(log), Peer(1, HIGHEST_NS, 3))
    found: dict[tuple[str, int], Peer] = {}
    starts = []
    while (one := reader.get_next_interval_histogram()) is not None:
        starts.append(one.get_start_time_stamp())
        found[one.get_tag(), round(one.get_start_time_stamp() / 1e3)] = one
    reader.close()
    assert reader.get_start_time_sec() == 1_795_000_000
    assert starts == sorted(starts)
    e2e_ns = Latencies(table).e2e_ns("due")
    for name in (CHAT, EMBED, PREDICT):
        for start_s in range(0, 12, 2):
            due = (table.due_ns >= start_s * S) & (table.due_ns < (start_s + 2) * S)
            values = e2e_ns[due & table.endpoint.mask(name) & ~np.isnan(e2e_ns)]
            read = found.pop((f"e2e:{name.replace(' ', ':')}", 1_795_000_000 + start_s))
            assert read.equals(peer_of(values))
    assert not found


# OpenTelemetry.


def otlp(path: Path, output: Path, *options: object) -> list[dict[str, Any]]:
    export("otlp-metrics", path, "-o", output, *options)
    return [json.loads(line) for line in output.read_text().splitlines()]


def metrics_of(request: ExportMetricsServiceRequest) -> dict[str, Any]:
    return {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}


def said(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def test_each_line_is_an_export_request_of_one_interval_with_deltas(path: Path, tmp_path: Path) -> None:
    lines = otlp(path, tmp_path / "a.jsonl", "--interval", "4s")
    requests = [json_format.ParseDict(line, ExportMetricsServiceRequest()) for line in lines]
    assert len(requests) == 3
    scheduled = 0
    for at, request in enumerate(requests):
        about = said(request.resource_metrics[0].resource.attributes)
        assert (about["peaktape.run.label"], about["peaktape.run.partial"]) == ("a", False)
        for metric in metrics_of(request).values():
            data = getattr(metric, metric.WhichOneof("data"))
            assert data.aggregation_temporality == 1
            kinds = [json.dumps(said(point.attributes), sort_keys=True) for point in data.data_points]
            assert len(set(kinds)) == len(kinds), "one point per stream"
            for point in data.data_points:
                assert point.start_time_unix_nano == (1_795_000_000 + 4 * at) * S
                assert point.time_unix_nano - point.start_time_unix_nano == 4 * S
        points = metrics_of(request)["peaktape.requests"].sum.data_points
        assert {said(point.attributes)["peaktape.outcome"] for point in points} <= {*OUTCOMES}
        scheduled += sum(point.as_int for point in points)
    assert scheduled == N


def test_points_hold_what_numpy_counts(path: Path, table: RunTable, tmp_path: Path) -> None:
    (line,) = otlp(path, tmp_path / "a.jsonl", "--interval", "1h")
    metrics = metrics_of(json_format.ParseDict(line, ExportMetricsServiceRequest()))
    latencies = Latencies(table)
    ttft_s = latencies.ttft_ns("due") / 1e9
    points = metrics["gen_ai.server.time_to_first_token"].histogram.data_points
    assert {said(point.attributes)["peaktape.phase"] for point in points} == {"base", "spike"}
    for point in points:
        values = ttft_s[table.phase.mask(said(point.attributes)["peaktape.phase"]) & ~np.isnan(ttft_s)]
        edges = [-np.inf, *(np.nextafter(bound, np.inf) for bound in point.explicit_bounds), np.inf]
        assert list(point.bucket_counts) == np.histogram(values, edges)[0].tolist()
        assert (point.count, point.sum) == (len(values), pytest.approx(values.sum()))
        assert (point.min, point.max) == (values.min(), values.max())
    durations = metrics["http.client.request.duration"].histogram.data_points
    by_error = {said(point.attributes).get("error.type") for point in durations}
    assert by_error == {None, "429", "reset", "aborted", "timeout"}
    assert sum(point.count for point in durations) == int(table.sent.sum())
    operations = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert {said(point.attributes)["gen_ai.operation.name"] for point in operations} == {"chat", "embeddings"}
    tokens = metrics["gen_ai.client.token.usage"].histogram.data_points
    assert {said(point.attributes)["gen_ai.token.type"] for point in tokens} == {"input", "output"}


def test_whole_numbers_are_strings_and_enums_numbers(path: Path, tmp_path: Path) -> None:
    (line,) = otlp(path, tmp_path / "a.jsonl", "--interval", "1h")
    metric = line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["histogram"]
    assert metric["aggregationTemporality"] == 1
    point = metric["dataPoints"][0]
    whole = (point["timeUnixNano"], point["startTimeUnixNano"], point["count"], *point["bucketCounts"])
    assert all(isinstance(one, str) for one in whole)
    ports = [one["value"] for one in point["attributes"] if one["key"] == "server.port"]
    assert ports == [{"intValue": "9000"}]


# CSV.


def test_a_csv_of_a_run_holds_instants_and_latencies(path: Path, table: RunTable, tmp_path: Path) -> None:
    export("csv", path, "-o", tmp_path / "a.csv.gz")
    text = gzip.decompress((tmp_path / "a.csv.gz").read_bytes())
    rows = pyarrow.csv.read_csv(io.BytesIO(text))
    latencies = Latencies(table)
    for name, wanted in (
        ("due_ns", table.due_ns),
        ("e2e_ns", latencies.e2e_ns("due")),
        ("ttft_from_sent_ns", latencies.ttft_ns("sent")),
        ("due_epoch_ns", table.due_ns + 1_795_000_000 * S),
        ("token_reads", np.where(table.stream, 10.0, 0.0)),
    ):
        found = rows.column(name).to_numpy().astype(np.float64)
        np.testing.assert_allclose(found, wanted, rtol=1e-15, atol=0.51, err_msg=name)
    assert rows.column("ok").to_pylist() == latencies.ok.tolist()
    assert rows.column("status")[5].as_py() is None


def test_what_the_file_is_decides_which_csv(path: Path, tmp_path: Path) -> None:
    export("csv", SAMPLE, "-o", tmp_path / "t.csv")
    export("csv", path, "-o", tmp_path / "a.csv")
    assert "arrival_ns" in (tmp_path / "t.csv").read_text().splitlines()[0]
    assert "due_ns" in (tmp_path / "a.csv").read_text().splitlines()[0]


# What is said, and what is refused.


def test_what_a_run_is_not_worth_is_said(tmp_path: Path) -> None:
    rows = made()
    late = rows.written(tmp_path / "late.parquet", in_flight_limit=0)
    result = export("otlp-metrics", late, "-o", tmp_path / "late.jsonl")
    assert "run INVALID (" in result.stderr
    attributes = json.loads((tmp_path / "late.jsonl").read_text().splitlines()[0])
    about = {one["key"]: one["value"] for one in attributes["resourceMetrics"][0]["resource"]["attributes"]}
    assert about["peaktape.run.valid"] == {"boolValue": False}
    assert "in-flight" in about["peaktape.run.failed_checks"]["stringValue"]


@pytest.mark.parametrize("verb", RUN_VERBS)
def test_encrypted_and_partial_runs_are_read_like_others(verb: str, tmp_path: Path) -> None:
    keys = Keys.of("env:K", {"K": KEY})
    locked = made().written(tmp_path / "locked.parquet", keys)
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    with pytest.raises(KeyRefused):
        export(verb, locked, "-o", tmp_path / "out")
    assert "is not encrypted" in export(verb, locked, "-o", tmp_path / "out", "--key", f"file:{key}").stderr
    writer = RunWriter(tmp_path / "killed.parquet")
    writer.begin(RunTable.of(*read_run(locked, keys)).metadata)
    writer.add(made().table().combine_chunks().to_batches()[0])
    del writer
    with pytest.raises(BadInput, match="read what it left"):
        export(verb, tmp_path / "killed.parquet", "-o", tmp_path / "part")
    result = export(verb, tmp_path / "killed.parquet.partial", "-o", tmp_path / "part")
    assert "stopped early" in result.stderr
    assert (tmp_path / "part").stat().st_size > 1000


@pytest.mark.parametrize("verb", RUN_VERBS)
def test_bad_input_is_one_line_and_writes_nothing(verb: str, path: Path, tmp_path: Path) -> None:
    assert f"peaktape export {verb} " in export(verb, "--help").stdout
    with pytest.raises(BadInput):
        export(verb, tmp_path / "nowhere.parquet", "-o", tmp_path / "out")
    with pytest.raises(BadInput, match="nothing is written over an input"):
        export(verb, path, "-o", path, "--overwrite")
    (tmp_path / "out").write_bytes(b"precious")
    with pytest.raises(BadInput, match="--overwrite"):
        export(verb, path, "-o", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("hgrm", "RUN", "--endpoint", "GET /x"), "--endpoint: 'GET /x' found, one of 'POST /v1/"),
        (("hgrm", "FLAT", "--metric", "ttft"), r"no ttft found to export; choose --metric e2e \(3\)"),
        (("hgrm", "DEAD"), "no e2e found to export; no request was answered whole"),
        (("hdr-log", "RUN", "--interval", "0"), "--interval: 0 found, 1ms or more wanted"),
        (("otlp-metrics", "RUN", "--interval", "soon"), "--interval: 'soon' found"),
        (("hgrm", str(SAMPLE)), "a trace found, a run wanted"),
    ],
)
def test_what_can_not_be_exported_is_refused_with_the_way_out(
    arguments: tuple[str, ...], wanted: str, path: Path, tmp_path: Path
) -> None:
    flat = MadeRun(due_ns=np.arange(3) * MS, e2e_ns=np.full(3, 5 * MS))
    named = {
        "RUN": path,
        "FLAT": flat.written(tmp_path / "flat.parquet"),
        "DEAD": MadeRun(flat.due_ns, flat.e2e_ns, error=["reset"] * 3).written(tmp_path / "dead.parquet"),
    }
    with pytest.raises(BadInput, match=wanted):
        export(*(named.get(one, one) for one in arguments), "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()
