"""Results of other load tools as runs: the tool's own figures come out, and nothing it did not say."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from replay.analysis.metrics import Latencies
from replay.analysis.pairing import pair
from replay.analysis.run_table import RunTable
from replay.analysis.summary import summarise
from replay.analysis.validity import judge
from replay.importers.aiperf import read_aiperf
from replay.importers.foreign_run import ForeignRun, digest_of, run_of
from replay.importers.guidellm import read_guidellm
from replay.importers.inference_perf import read_inference_perf
from replay.importers.stated_failure import Failure, failure
from replay.importers.vllm_bench import read_vllm_bench

RESULTS = Path(__file__).parent / "results"
RECORDS = "profile_export.jsonl.gz"
PER_REQUEST = "per_request_lifecycle_metrics.json.gz"

Read = Callable[..., ForeignRun]
READERS: dict[str, tuple[Read, str]] = {
    "vllm": (read_vllm_bench, "vllm-a.json.gz"),
    "aiperf": (read_aiperf, f"aiperf/{RECORDS}"),
    "guidellm": (read_guidellm, "guidellm.json.gz"),
    "inference-perf": (read_inference_perf, f"inference-perf/{PER_REQUEST}"),
}


def loaded(name: str) -> Any:
    return json.loads(gzip.decompress((RESULTS / name).read_bytes()))


def table_of(told: ForeignRun, label: str = "a") -> RunTable:
    return RunTable.of(*run_of(told, source=Path("result"), label=label))


def read(tool: str) -> RunTable:
    reader, name = READERS[tool]
    return table_of(reader(RESULTS / name))


def means(run: RunTable) -> dict[str, float]:
    """Mean TTFT, ITL and E2E from sent in s, and the sums of tokens."""
    latencies = Latencies(run)
    return {
        "ttft": float(np.nanmean(latencies.ttft_ns("sent"))) / 1e9,
        "itl": float(latencies.itl.values_ns.mean(dtype=np.float64)) / 1e9 if len(run.chunk_ns) else np.nan,
        "e2e": float(np.nanmean(latencies.e2e_ns("sent"))) / 1e9,
        "input": float(np.nansum(run.input_tokens)),
        "output": float(np.nansum(run.output_tokens)),
    }


def told_by_vllm() -> dict[str, float]:
    result = loaded("vllm-a.json.gz")
    gaps = [gap for gaps in result["itls"] for gap in gaps]
    return {
        "ttft": np.mean(result["ttfts"]),
        "itl": np.mean(gaps),
        "e2e": np.mean(result["latencies"]),
        "input": result["total_input_tokens"],
        "output": result["total_output_tokens"],
    }


def told_by_aiperf() -> dict[str, float]:
    result = loaded("aiperf/profile_export_aiperf.json.gz")
    return {
        "ttft": result["time_to_first_token"]["avg"] / 1e3,
        "itl": result["inter_chunk_latency"]["avg"] / 1e3,
        "e2e": result["request_latency"]["avg"] / 1e3,
        "input": result["total_isl"]["avg"],
        "output": result["total_osl"]["avg"],
    }


def told_by_guidellm() -> dict[str, float]:
    metrics = loaded("guidellm.json.gz")["benchmarks"][0]["metrics"]
    return {
        "ttft": metrics["time_to_first_token_ms"]["successful"]["mean"] / 1e3,
        "itl": np.nan,  # no instants of single chunks
        "e2e": metrics["request_latency"]["successful"]["mean"],
        "input": metrics["prompt_token_count"]["successful"]["total_sum"],
        "output": metrics["output_token_count"]["successful"]["total_sum"],
    }


def told_by_inference_perf() -> dict[str, float]:
    """Its tokeniser sees two tokens in some chunks, where the server counts one: the server is believed, and
    a chunk is one event."""
    requests = loaded(f"inference-perf/{PER_REQUEST}")
    computed = [one["computed_metrics"] for one in requests]
    answers = [one["info"]["response_metrics"] for one in requests]
    return {
        "ttft": np.mean([one["time_to_first_token"] for one in computed]),
        "itl": np.mean(np.concatenate([np.diff(one["chunk_times"]) for one in answers])),
        "e2e": np.mean([one["request_latency"] for one in computed]),
        "input": sum(one["input_tokens"] for one in computed),
        "output": sum(one["server_usage"]["completion_tokens"] for one in answers),
    }


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ("vllm", told_by_vllm),
        ("aiperf", told_by_aiperf),
        ("guidellm", told_by_guidellm),
        ("inference-perf", told_by_inference_perf),
    ],
)
def test_the_figures_are_those_that_the_tool_tells(tool: str, told: Callable[[], dict[str, float]]) -> None:
    run = read(tool)
    assert run.ok.all()
    # Seconds since 1970 as a float64 are good for some 0.3 µs.
    assert means(run) == pytest.approx(told(), rel=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    ("tool", "absent", "stated"),
    [
        ("vllm", {"due_ns", "first_byte_ns", "connection_reused"}, {"status", "dequeued_ns", "model"}),
        ("aiperf", {"due_ns", "status"}, {"dequeued_ns", "first_byte_ns", "connection_reused", "model"}),
        ("guidellm", {"status", "connection_reused"}, {"due_ns", "dequeued_ns", "first_byte_ns", "model"}),
        ("inference-perf", {"due_ns", "status", "dequeued_ns", "first_byte_ns"}, {"first_token_ns", "model"}),
    ],
)
def test_what_a_tool_does_not_say_is_null(tool: str, absent: set[str], stated: set[str]) -> None:
    reader, name = READERS[tool]
    table, _ = run_of(reader(RESULTS / name), source=Path(name), label="a")
    nowhere = {"connected_ns", "bytes_in", "bytes_out", "in_flight", "worker", "finish_reason", "body"}
    for column in absent | nowhere:
        assert table[column].null_count == table.num_rows, column
    for column in {*stated, "sent_ns", "end_ns", "input_tokens", "output_tokens"}:
        assert table[column].null_count == 0, column


@pytest.mark.parametrize(
    ("reader", "name", "failed"),
    [
        (read_vllm_bench, "vllm-failed.json.gz", 4),
        (read_aiperf, f"aiperf-failed/{RECORDS}", None),
        (read_guidellm, "guidellm-failed.json.gz", 7),
        (read_inference_perf, f"inference-perf-failed/{PER_REQUEST}", 3),
    ],
)
def test_failed_requests_are_rows_with_their_status(reader: Read, name: str, failed: int | None) -> None:
    run = table_of(reader(RESULTS / name))
    assert 0 < run.failed.sum() < len(run)
    assert failed is None or run.failed.sum() == failed
    assert set(run.status[run.failed]) == {503}
    assert run.ok.sum() + run.failed.sum() == len(run)


@pytest.mark.parametrize("tool", ["vllm", "aiperf", "inference-perf"])
def test_without_due_times_a_run_is_not_judged_and_told_from_sent(tool: str) -> None:
    run = read(tool)
    summary = summarise(run)
    validity = summary.validity
    assert (validity.valid, validity.judged) == (True, False)
    assert any("coordinated omission can't be excluded" in warning for warning in validity.warnings)
    judged = [check.name for check in validity.checks if not check.found.startswith("not judged")]
    assert judged == ["whole"]
    assert {m.clock for g in summary.groups for m in g.metrics if m.metric in ("ttft", "e2e")} == {"sent"}
    assert np.isnan(summary.lateness_max_ns)


def test_due_times_of_guidellm_are_held_against_its_generator() -> None:
    told = read_guidellm(RESULTS / "guidellm.json.gz")
    validity = judge(table_of(told))
    assert validity.judged
    assert "lateness p99" in [check.name for check in validity.checks if not check.passed]
    wide = {"lateness_p99_ns": 1e9, "lateness_max_ns": 1e9}
    assert judge(RunTable.of(*run_of(told, source=Path("r"), label="a", bounds=wide))).valid
    closed = read_guidellm(RESULTS / "guidellm-failed.json.gz")  # as soon as possible is no due instant
    assert not judge(table_of(closed)).judged
    assert closed.mode == "closed"


def test_load_and_target_are_what_the_files_say() -> None:
    vllm, aiperf = (READERS[tool][0](RESULTS / READERS[tool][1]) for tool in ("vllm", "aiperf"))
    assert vllm.plan == ("num_prompts 250", "request_rate 40.0", "burstiness 1.0")
    assert (aiperf.target, aiperf.version, aiperf.mode) == ("http://127.0.0.1:18431", "0.13.0", "open")
    perf = read_inference_perf(RESULTS / READERS["inference-perf"][1])
    assert (perf.target, perf.mode, perf.plan[0]) == ("http://127.0.0.1:18431", "open", "type poisson")
    _, metadata = run_of(vllm, source=Path("r"), label="a", target="http://gpu:8000")
    assert metadata.target == "http://gpu:8000"


# -- made by hand, for what the real files don't show -------------------------------------------------------


def vllm_result(count: int = 30, **changes: Any) -> dict[str, Any]:
    return {
        "date": "20260102-030405",
        "backend": "openai-chat",
        "model_id": "m",
        "num_prompts": count,
        "request_rate": 10.0,
        "request_throughput": 10.0,
        "duration": 3.0,
        "start_times": [100.0 + at / 10 for at in range(count)],
        "ttfts": [0.05] * count,
        "itls": [[0.01, 0.02]] * count,
        "latencies": [0.08] * count,
        "errors": [""] * count,
        "input_lens": [5 + at for at in range(count)],
        "output_lens": [3] * count,
        **changes,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(content: Any, name: str = "result.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return written


def changed(name: str, at: int, value: Any) -> dict[str, Any]:
    result = vllm_result(3)
    result[name] = [value if index == at else old for index, old in enumerate(result[name])]
    return result


RECORD: dict[str, Any] = {
    "metadata": {
        "session_num": 0,
        "conversation_id": "c",
        "turn_index": 0,
        "request_start_ns": 10,
        "request_end_ns": 90,
        "benchmark_phase": "profiling",
    },
    "metrics": {"time_to_first_token": {"value": 2e-5, "unit": "ms"}},
    "error": None,
}


def record(metadata: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {**RECORD, "metadata": {**RECORD["metadata"], **(metadata or {})}, **changes}


@pytest.mark.parametrize(
    ("reader", "content", "said"),
    [
        (read_vllm_bench, "", "empty file"),
        (read_vllm_bench, "ttft,itl\n1,2\n", "1: not JSON, or cut off"),
        (read_vllm_bench, json.dumps(vllm_result())[:500], "1: not JSON, or cut off"),
        (read_vllm_bench, [1], "no request_throughput found"),
        (read_vllm_bench, {"request_throughput": 1}, "--save-detailed"),
        (read_vllm_bench, vllm_result(3, start_times=None), "a vLLM that did not keep them"),
        (read_vllm_bench, vllm_result(3, itls=[[]] * 2), "2 itls found, 3 as start_times wanted"),
        (read_vllm_bench, vllm_result(3, latencies=[1.0]), "1 latencies found, 3 as start_times wanted"),
        (read_vllm_bench, changed("ttfts", 1, float("nan")), "ttfts[1]: nan found"),
        (read_vllm_bench, changed("start_times", 2, None), "start_times[2]: nothing found"),
        (read_vllm_bench, changed("start_times", 0, 1e300), "start_times[0]: 1e+300 found"),
        (read_vllm_bench, changed("itls", 0, [0.1, -0.1]), "itls[0][1]: -0.1 found"),
        (read_vllm_bench, changed("itls", 0, 0.1), "itls[0]: 0.1 found, a list of numbers wanted"),
        (read_vllm_bench, changed("itls", 2, [0.1, None]), "itls[2]: [0.1, None] found"),
        (read_vllm_bench, changed("itls", 2, [[0.1]]), "itls[2]: [[0.1]] found"),
        (read_vllm_bench, changed("output_lens", 1, 2.5), "output_lens[1]: 2.5 found, a count wanted"),
        (read_vllm_bench, vllm_result(0), "no request found"),
        (read_vllm_bench, vllm_result(3, date="yesterday"), "date: 'yesterday' found, YYYYMMDD-hhmmss"),
        (read_aiperf, {"input_config": {}, "request_latency": {}}, "1: a summary without requests found"),
        (read_aiperf, record({"request_start_ns": "soon"}), "1: metadata.request_start_ns: 'soon' found"),
        (
            read_aiperf,
            record(metrics={"time_to_first_token": {"value": 1, "unit": "fortnight"}}),
            "1: metrics.time_to_first_token: unit 'fortnight' found",
        ),
        (read_aiperf, record({"benchmark_phase": "warmup"}), "no request of the measured phase"),
        (read_guidellm, {"benchmarks": {}}, "no list of benchmarks found"),
        (read_guidellm, {"benchmarks": []}, "run 1 wanted, no run found"),
        (read_guidellm, {"benchmarks": [{"requests": {"successful": [{}]}}]}, "successful[0]: info: nothing"),
        (read_guidellm, {"benchmarks": [{"requests": {"successful": []}}]}, "sample_size of 0"),
        (read_inference_perf, {"latency": {}}, "per_request: true"),
        (read_inference_perf, [{"start_time": 1}], "[0]: no start_time and end_time"),
        (read_inference_perf, [{"start_time": 1, "end_time": "x"}], "[0].end_time: 'x' found"),
        (read_inference_perf, [], "no request found"),
    ],
)
def test_bad_results_are_refused_in_one_line(
    reader: Read, content: Any, said: str, write: Callable[..., Path]
) -> None:
    path = write(content)
    with pytest.raises(BadInput) as refused:
        reader(path)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{path}")
    assert "\n" not in str(refused.value)


@given(
    ttft_s=st.floats(0.001, 60),
    gaps_s=st.lists(st.floats(0, 5), max_size=30),
    start_s=st.floats(0, 1e6),
)
@settings(max_examples=30, deadline=None)
def test_gaps_become_instants_whose_gaps_they_are(
    tmp_path_factory: pytest.TempPathFactory, ttft_s: float, gaps_s: list[float], start_s: float
) -> None:
    path = tmp_path_factory.mktemp("vllm") / "r.json"
    result = vllm_result(1, start_times=[start_s], ttfts=[ttft_s], itls=[gaps_s], output_lens=[9])
    del result["latencies"]
    path.write_text(json.dumps(result))
    (one,) = read_vllm_bench(path).requests
    assert len(one.chunk_ns) == len(gaps_s) + 1
    assert one.first_token_ns == one.chunk_ns[0]
    assert one.chunk_ns[0] - one.sent_ns == pytest.approx(ttft_s * 1e9, abs=1)
    assert np.diff(one.chunk_ns) == pytest.approx(np.array(gaps_s) * 1e9, abs=1)
    assert one.end_ns == one.chunk_ns[-1]  # as vLLM makes its latency


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each member of a JSON value stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for name, one in inside for path in paths_of(one, (*here, name)))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = replaced(value[path[0]], path[1:], by)
    return copied


def one_of_each() -> list[tuple[Read, Any]]:
    """A small result of each tool, as the real files have it."""
    report = loaded("guidellm-failed.json.gz")
    (benchmark,) = report["benchmarks"]
    few = {name: group and group[:1] for name, group in benchmark["requests"].items()}
    kept = {"config": {**benchmark["config"], "environment": {}, "warnings": []}, "requests": few}
    records = gzip.decompress((RESULTS / f"aiperf/{RECORDS}").read_bytes()).splitlines()
    return [
        (read_vllm_bench, vllm_result(2)),
        (read_guidellm, {**report, "config": {}, "benchmarks": [kept]}),
        (read_inference_perf, loaded(f"inference-perf-failed/{PER_REQUEST}")[5:7]),
        (read_aiperf, json.loads(records[0])),
    ]


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 3, 1.5, float("nan"), float("inf"), 1e300, 10**30, "", "x", [], [1, [2]], [None], {}]
)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_stands_in_a_result_it_is_a_run_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    reader, result = data.draw(st.sampled_from(SMALL), label="tool")
    place = data.draw(st.sampled_from(paths_of(result)), label="place")
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(replaced(result, place, data.draw(ODD, label="odd"))))
    with contextlib.suppress(BadInput):
        summarise(table_of(reader(path)))


SMALL = one_of_each()


def test_one_of_several_appended_runs_is_chosen(write: Callable[..., Path]) -> None:
    path = write("\n".join(json.dumps(vllm_result(count, date=f"2026010{count}-000000")) for count in (2, 3)))
    with pytest.raises(BadInput, match=r"2 runs found, one wanted; choose with --which \(1: 20260102-"):
        read_vllm_bench(path)
    assert len(read_vllm_bench(path, 2).requests) == 3
    with pytest.raises(BadInput, match="run 3 wanted, 2 found"):
        read_vllm_bench(path, 3)


def test_instants_years_apart_are_of_no_run(write: Callable[..., Path]) -> None:
    told = read_vllm_bench(write(changed("start_times", 1, 1.7e9)))
    with pytest.raises(BadInput, match=r"result: instants 19,\d+ days apart found, .* at most 31 days"):
        table_of(told)


def test_a_failure_without_a_first_token_is_one_and_a_guessed_count_is_none(
    write: Callable[..., Path],
) -> None:
    result = vllm_result(2, ttfts=[0.0, 0.05], itls=[[], [0.01]], output_lens=[0, 1])
    broken, answered = read_vllm_bench(write(result)).requests
    assert (broken.error, broken.status, broken.end_ns) == ("unstated", None, None)
    assert (answered.error, answered.output_tokens) == (None, None)  # 1 with two events: nobody counted


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        ("Too Many Requests", None, (429, None)),
        ("Server error '503 Service Unavailable' for url 'http://h'", None, (503, None)),
        ("HTTP Error 500: {}", None, (500, None)),
        ("Service Unavailable: busy", 503, (503, None)),
        (
            "Traceback (most recent call last):\n  x\naiohttp.ServerDisconnectedError: gone",
            None,
            (None, "reset"),
        ),
        ("ClientConnectorError: Connect call failed ('127.0.0.1', 1)", None, (None, "connect_refused")),
        ("asyncio.exceptions.TimeoutError", None, (None, "timeout")),
        ("the model took 404 steps", None, (None, "unstated")),
    ],
)
def test_failures_are_told_by_status_or_kind(
    text: str, code: int | None, found: tuple[int | None, str | None]
) -> None:
    told = failure(text, code)
    assert (told.status, told.error) == found
    assert told == Failure(*found, text.splitlines()[-1].strip())


def test_cancelled_and_warm_up_requests_of_aiperf_are_no_failures(write: Callable[..., Path]) -> None:
    records = [
        record({"benchmark_phase": "warmup"}),
        record({"was_cancelled": True}, error={"code": 499, "message": "x"}),
        record({"conversation_id": None, "request_start_ns": 20}),
    ]
    told = read_aiperf(write("\n".join(map(json.dumps, records)), "records.jsonl"))
    assert told.left_out == {"of the warm-up": 1}
    run = table_of(told)
    assert [int(mask.sum()) for mask in (run.aborted, run.failed, run.ok)] == [1, 0, 1]
    assert any("load, target and model are not known" in note for note in told.notes)


def test_a_request_is_called_by_what_is_asked_and_not_of_which_model() -> None:
    one, other = ({"model": name, "body": {"model": name, "prompt": "p"}} for name in ("a", "b"))
    assert digest_of(json.dumps(one)) == digest_of(json.dumps(other))
    assert digest_of("p") != digest_of("q")


def test_runs_of_other_prompts_or_another_load_are_no_pair(write: Callable[..., Path]) -> None:
    def made(label: str, **changes: Any) -> RunTable:
        return table_of(read_vllm_bench(write(vllm_result(**changes), f"{label}.json")), label)

    baseline = made("a")
    assert len(pair(baseline, made("b", ttfts=[0.07] * 30))) == 30
    other = [at % 7 + 2 for at in range(30)]
    with pytest.raises(BadInput, match=r"a and c: \d of 30 prompts of equal length found, 95 % wanted"):
        pair(baseline, made("c", input_lens=other))
    with pytest.raises(BadInput, match=r"different loads: d .*request_rate 20"):
        pair(baseline, made("d", request_rate=20.0))
    with pytest.raises(BadInput, match="different loads: e is of aiperf profile"):
        pair(baseline, table_of(read_aiperf(RESULTS / f"aiperf/{RECORDS}"), "e"))
