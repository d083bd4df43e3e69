"""Results of other load tools from the command line: imported, reported, compared, kept in the history."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from capture.failures import BadInput, KeyRefused, RunInvalid
from replay.cli import app
from replay.engine.run_format import METADATA_KEY, read_run

RESULTS = Path(__file__).resolve().parents[1] / "importers" / "results"
RECORDS = "profile_export.jsonl.gz"
VERBS = {
    "vllm-bench": "vllm-a.json.gz",
    "aiperf-results": f"aiperf/{RECORDS}",
    "guidellm-results": "guidellm.json.gz",
    "inference-perf": "inference-perf/per_request_lifecycle_metrics.json.gz",
}


def peaktape(*arguments: object) -> Result:
    ended = CliRunner(env={"COLUMNS": None}).invoke(app, [str(argument) for argument in arguments])
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two builds as vLLM's bench saw them, b with a prefill that takes 1.4 times as long."""
    folder = tmp_path_factory.mktemp("runs")
    for build in "ab":
        peaktape("import", "vllm-bench", RESULTS / f"vllm-{build}.json.gz", "-o", folder / f"{build}.parquet")
    return folder


def test_a_regression_between_two_results_of_vllm_bench_is_found_with_its_doubt(runs: Path) -> None:
    ended = peaktape("diff", runs / "a.parquet", runs / "b.parquet", "--resamples", 200)
    assert ended.exit_code == 1
    assert "REGRESSION  b against a" in ended.stdout
    assert "openai-chat: TTFT (service time) p50 +" in ended.stdout
    assert (
        "both runs: no due times: coordinated omission can't be excluded; latencies are from sent"
        in ended.stdout
    )
    assert "runs of vllm bench serve, paired by" in ended.stdout
    assert "? not judged" in ended.stdout
    assert "✓ valid" not in ended.stdout


def test_scripts_read_what_is_from_sent_and_that_validity_was_not_judged(runs: Path) -> None:
    found = json.loads(
        peaktape("diff", runs / "a.parquet", runs / "b.parquet", "--json", "--resamples", 200).stdout
    )
    assert found["verdict"] == "regression"
    assert found["pairs"] == 250
    slower = {(e["metric"], e["clock"]) for e in found["effects"] if e["verdict"] == "regression"}
    assert ("ttft", "sent") in slower
    assert {e["clock"] for e in found["effects"] if e["metric"] in ("ttft", "e2e")} == {"sent"}
    assert {"ttft", "e2e", "itl"} <= {shift["metric"] for shift in found["shifts"]}
    for run in (found["baseline"], found["candidate"]):
        assert run["validity"]["judged"] is False
        assert run["lateness_max_ns"] is None
    assert {line["baseline"]["due_ns"] for line in found["changed_requests"]} == {None}


def test_a_run_against_itself_is_equivalent(runs: Path) -> None:
    ended = peaktape("diff", runs / "a.parquet", runs / "a.parquet", "--resamples", 200)
    assert ended.exit_code == 0
    assert "EQUIVALENT" in ended.stdout


def test_a_report_of_such_a_run_calls_it_nowhere_valid(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    ended = peaktape("report", runs / "a.parquet", "--html", page, "--slo", "ttft:p95=1s")
    assert ended.exit_code == 0
    assert "SLO MET  a at an unstated target" in ended.stdout
    assert "Latency from sent: no due times are known" in ended.stdout
    assert "Validity  not judged: no check failed, 11 of 12 could not be made" in ended.stdout
    html = page.read_text()
    assert "a: not judged" in html
    assert "from due" not in html.split("<script")[0]
    assert "NOT JUDGED" in peaktape("report", runs / "a.parquet").stdout


def test_the_history_keeps_and_follows_them(runs: Path) -> None:
    kept = runs / "kept.parquet"
    found = json.loads(peaktape("history", runs, "--json", "--metric", "ttft:p50", "--table", kept).stdout)
    (series,) = found["series"]
    # Both were made in one second; which is first is no matter here.
    values = {point["label"]: point["value"] for point in series["points"]}
    assert values["b"] > 1.2 * values["a"]


@pytest.mark.parametrize(("verb", "name"), VERBS.items())
def test_each_format_is_imported_shows_examples_and_names_a_missing_file(
    verb: str, name: str, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "x.parquet"
    ended = peaktape(
        "import", verb, RESULTS / name, "-o", run, "--label", "v1", "--target", "http://gpu:8000"
    )
    assert ended.stdout.startswith(f"{run}: ")
    assert ended.stdout.count("\n") == 1
    assert ("missing: no due times" in ended.stderr) == (verb != "guidellm-results")
    assert [path.name for path in run.parent.iterdir()] == ["x.parquet"]
    assert f"peaktape import {verb} " in peaktape("import", verb, "--help").stdout
    with pytest.raises(BadInput, match=r"nowhere: can't be read \(No such file"):
        peaktape("import", verb, tmp_path / "nowhere", "-o", tmp_path / "t.parquet")
    with pytest.raises(BadInput, match="--overwrite"):
        peaktape("import", verb, RESULTS / name, "-o", run)


def test_a_late_generator_makes_the_run_invalid_unless_wider_bounds_are_stated(tmp_path: Path) -> None:
    run, result = tmp_path / "g.parquet", RESULTS / "guidellm.json.gz"
    peaktape("import", "guidellm-results", result, "-o", run)
    with pytest.raises(RunInvalid, match="lateness p99"):
        peaktape("report", run)
    stated = ("--max-lateness-p99", "500ms", "--max-lateness", "500ms")
    peaktape("import", "guidellm-results", result, "-o", run, "--overwrite", *stated)
    assert "VALID  g at http://127.0.0.1:18431" in peaktape("report", run).stdout
    peaktape("import", "guidellm-results", result, "-o", run, "--overwrite", "--from-sent")
    told = peaktape("report", run).stdout
    assert "NOT JUDGED  g at" in told
    assert "due times were left out as asked" in told


def test_a_run_may_know_no_due_instants_but_not_lack_their_column(runs: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.parquet"
    table, metadata = read_run(runs / "a.parquet")
    table = table.drop_columns(["due_ns"]).replace_schema_metadata({METADATA_KEY: metadata.to_json()})
    pq.write_table(table, cut)
    with pytest.raises(BadInput, match="column due_ns: missing"):
        peaktape("report", cut)


def test_a_refused_result_harms_nothing(tmp_path: Path) -> None:
    run, result = tmp_path / "a.parquet", tmp_path / "cut.json"
    run.write_text("precious")
    result.write_text('{"request_throughput": 1, "ttfts": [0.1')
    with pytest.raises(BadInput, match=r"cut\.json:1: not JSON, or cut off"):
        peaktape("import", "vllm-bench", result, "-o", run, "--overwrite")
    with pytest.raises(BadInput, match="is the input"):
        peaktape("import", "vllm-bench", result, "-o", result, "--overwrite")
    assert run.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "cut.json"]


def test_with_a_key_the_run_is_encrypted(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("5a" * 32)
    run, key = tmp_path / "a.parquet", ("--key", f"file:{tmp_path / 'key'}")
    peaktape("import", "vllm-bench", RESULTS / "vllm-failed.json.gz", "-o", run, *key)
    with pytest.raises(KeyRefused):
        peaktape("report", run)
    assert "16 scheduled" in peaktape("report", run, *key).stdout
