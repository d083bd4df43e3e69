"""`samples/queries`: each opens a run as DuckDB reads it, and says what numpy says of the same run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from made_runs import CHAT, EMBED, MS, MadeRun, S

from replay.analysis.metrics import Latencies
from replay.analysis.run_table import RunTable
from replay.engine.run_format import read_run

QUERIES = Path(__file__).resolve().parents[2] / "samples" / "queries"
NAMES = sorted(path.stem for path in QUERIES.glob("*.sql"))
N = 400


def made(seed: int) -> MadeRun:
    """Chats and embeddings over 8 s, of which some are shed, hung up on or reset."""
    rng = np.random.default_rng(seed)
    chat = np.random.default_rng(0).random(N) < 0.6
    ttft_ns = np.where(chat, 60 * MS * rng.lognormal(0, 0.5, N), np.nan)
    error: list[str | None] = [None] * N
    error[10:13] = ["reset", "aborted", "not_sent"]
    return MadeRun(
        due_ns=np.arange(N) * 20.0 * MS,
        lateness_ns=rng.uniform(0, 0.1 * MS, N),
        ttft_ns=ttft_ns,
        e2e_ns=np.nan_to_num(ttft_ns) + 90 * MS * rng.lognormal(0, 0.7, N),
        tokens=rng.integers(2, 30, N),
        endpoint=[CHAT if one else EMBED for one in chat],
        model=["chat" if one else "embed" for one in chat],
        phase=["base" if at < N // 2 else "spike" for at in range(N)],
        status=np.where(rng.random(N) < 0.05, 503, 200),
        error=error,
        sent=np.array([kind != "not_sent" for kind in error]),
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: made(seed).written(folder / f"{name}.parquet") for seed, name in ((1, "run"), (2, "other"))}


@pytest.fixture(scope="module")
def run(files: dict[str, Path]) -> RunTable:
    return RunTable.of(*read_run(files["run"]))


def rows(name: str, variables: dict[str, object]) -> list[dict[str, Any]]:
    """What a query answers, with its variables set as `duckdb -cmd` sets them."""
    with duckdb.connect() as connection:
        for variable, value in variables.items():
            connection.execute(f"SET VARIABLE {variable} = '{value}'")
        found = connection.sql((QUERIES / f"{name}.sql").read_text())
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def median_ms(values_ns: np.ndarray) -> Any:
    return pytest.approx(np.nanmedian(values_ns) / MS, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_it_answers_and_how_to_run_it_and_answers(name: str, files: dict[str, Path]) -> None:
    question, command = (QUERIES / f"{name}.sql").read_text().splitlines()[:2]
    assert re.match(r"-- [A-Z][^?]+\? .+", question)
    assert command.startswith("-- duckdb -cmd \"SET VARIABLE run = 'runs/a.parquet'")
    assert command.endswith(f'" < samples/queries/{name}.sql')
    assert rows(name, files)


def test_latencies_are_those_of_peaktape(files: dict[str, Path], run: RunTable) -> None:
    latencies = Latencies(run)
    for found in rows("latency-by-endpoint", files):
        mask = run.endpoint.mask(found["endpoint"])
        e2e_ns = latencies.e2e_ns("due")[mask & latencies.ok]
        assert found["answered"] == len(e2e_ns)
        assert found["e2e_p50_ms"] == median_ms(e2e_ns)
        assert found["e2e_p99_ms"] == pytest.approx(np.quantile(e2e_ns, 0.99) / MS, abs=1e-3)
        if found["endpoint"] == CHAT:
            assert found["ttft_p50_ms"] == median_ms(latencies.ttft_ns("due")[mask])
        else:
            assert found["ttft_p50_ms"] is None
    slowest = rows("slowest-requests", files)
    assert slowest[0]["e2e_ms"] == pytest.approx(np.nanmax(latencies.e2e_ns("due")) / MS, abs=1e-3)
    assert len(slowest) == 20


def test_gaps_between_tokens_are_those_of_peaktape(files: dict[str, Path], run: RunTable) -> None:
    (found,) = rows("inter-token-gaps", files)
    gaps_ns = Latencies(run).itl.values_ns
    assert (found["gaps"], found["itl_p50_ms"]) == (len(gaps_ns), median_ms(gaps_ns))


def test_failures_and_phases_count_what_the_run_holds(files: dict[str, Path], run: RunTable) -> None:
    found = rows("errors-over-time", files)
    assert sum(one["failed"] for one in found) == int(run.failed.sum())
    assert sum(one["shed"] for one in found) == int((run.status == 503).sum())
    assert sum(one["scheduled"] for one in found) == N - 1  # one was hung up on, as recorded
    for phase in rows("by-phase", files):
        mask = run.phase.mask(phase["phase"])
        assert (phase["scheduled"], phase["failed"]) == (mask.sum(), (mask & run.failed).sum())
        assert phase["answered"] == (mask & run.ok).sum()


def test_goodput_is_of_all_scheduled_and_by_the_bounds_given(files: dict[str, Path], run: RunTable) -> None:
    latencies = Latencies(run)
    ttft_ns, e2e_ns = latencies.ttft_ns("due"), latencies.e2e_ns("due")
    good = (e2e_ns <= 200 * MS) & ~(ttft_ns > 60 * MS)
    found = rows("goodput", {**files, "ttft_ms": 60, "e2e_ms": 200})
    assert (found[0]["endpoint"], found[0]["scheduled"], found[0]["good"]) == ("all", N, good.sum())
    assert found[0]["slo_attainment"] == pytest.approx(good.mean(), abs=1e-4)
    assert found[0]["goodput_per_s"] == pytest.approx(good.sum() / (np.ptp(run.due_ns) / S), abs=1e-3)
    assert {one["endpoint"] for one in found} == {"all", CHAT, EMBED}


def test_two_runs_are_compared_pair_by_pair(files: dict[str, Path], run: RunTable) -> None:
    other = RunTable.of(*read_run(files["other"]))
    one, two = Latencies(run).e2e_ns("due"), Latencies(other).e2e_ns("due")
    for found in rows("compare-two-runs", files):
        mask = run.endpoint.mask(found["endpoint"])
        assert found["pairs"] == mask.sum()
        assert found["newly_failed"] == (mask & run.ok & ~other.ok).sum()
        assert found["median_change_ms"] == median_ms((two - one)[mask])
        slower = np.nanmean(np.where(np.isnan(two - one), np.nan, two > 1.1 * one)[mask])
        assert found["share_slower_by_tenth"] == pytest.approx(slower, abs=1e-4)


def test_tokens_over_time_are_all_that_were_counted(files: dict[str, Path], run: RunTable) -> None:
    found = rows("tokens-per-second", files)
    counted = np.nansum(run.output_tokens[~np.isnan(run.end_ns)])
    assert sum(one["output_tokens"] for one in found) == pytest.approx(counted, abs=0.1 * len(found))
    (worker,) = rows("lateness", files)
    assert worker["lateness_max_us"] == pytest.approx(np.nanmax(run.lateness_ns) / 1e3, abs=0.1)
