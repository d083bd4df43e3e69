"""Amplification against traffic that was held out: real traces where they are, and one that is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from capture.failures import BadInput
from replay.cli import app
from replay.transform.amplification.holdout import OFF, HeldOut, hold_out
from replay.transform.burst_curve import dispersion_curve
from replay.transform.rows import Rows
from replay.transform.schedule_format import read_lineage
from tests.importers.real_files import real
from tests.transform.made_arrivals import S, rows_at, smooth


def azure_conversations() -> Rows:
    """19,366 requests of an hour, a session each: smooth."""
    lines = real("azure-llm-2023/AzureLLMInferenceTrace_conv.csv").read_text().splitlines()[1:]
    stamps = np.array([line.partition(",")[0].replace(" ", "T") for line in lines], "datetime64[ns]")
    due_ns = (stamps - stamps[0]).astype(np.int64)
    return rows_at(due_ns, np.arange(len(due_ns)))


def nasa_hosts() -> Rows:
    """9,999 requests of 3.7 hours by 936 hosts: bursty; spread over the second that their clock gives."""
    lines = real("nasa-http-1995/nasa_19950701.tsv").read_text("latin-1").splitlines()[1:]
    fields = [line.split("\t") for line in lines]
    second = np.array([int(field[2]) for field in fields], np.int64)
    fraction = np.random.default_rng(0).integers(0, S, len(second))
    _, host = np.unique([field[0] for field in fields], return_inverse=True)
    return rows_at((second - second.min()) * S + fraction, host)


def ratios(found: HeldOut) -> dict[str, float]:
    return {one.name: one.ratio for one in found.compared}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows_of", "factor"), [(azure_conversations, 4), (azure_conversations, 10), (nasa_hosts, 4)]
)
def test_amplified_real_traffic_is_what_was_held_out(rows_of, factor: float) -> None:  # type: ignore[no-untyped-def]
    """With the same defaults: nothing off by more than chance; the wait within a factor of 2 in the mean.

    The wait scatters by as much between thinnings of the NASA trace; so it takes some.
    """
    found = hold_out(rows_of(), factor, "auto", thinnings=8 if rows_of is nasa_hosts else 5, seed=0)
    assert found.holds, found.compared
    assert 0.5 <= ratios(found)["p99 wait in a G/G/k queue"] <= 2


def test_of_the_smooth_trace_every_dispersion_and_peak_is_within_ten_per_cent() -> None:
    found = hold_out(azure_conversations(), 4, "auto", thinnings=5, seed=0)
    assert [one.name for one in found.compared if one.verdict != "within"] == []


def test_made_users_hold_and_methods_that_are_not_true_to_them_are_found_out() -> None:
    rows = smooth(4, np.random.default_rng(1))
    assert hold_out(rows, 4, "auto", thinnings=4, seed=1).holds
    for method, window in (("tied", "0.1s"), ("speed", "10s"), ("resample", "0.1s")):
        found = hold_out(rows, 4, method, thinnings=3, seed=1)
        assert not found.holds
        assert f"dispersion, {window}" in [one.name for one in found.compared if one.verdict == OFF]


def test_what_is_steadier_than_chance_by_chance_is_held_against_chance() -> None:
    """Of Poisson arrivals, half have an index of dispersion below 1; f times the users can't."""
    at = np.sort(np.random.default_rng(4).integers(0, 700 * S, 3000))
    assert np.nanmin(dispersion_curve(at)) < 1
    found = hold_out(rows_at(at, np.arange(len(at))), 2, "auto", thinnings=2, seed=0)
    dispersions = {one.name: one.truth for one in found.compared if one.name.startswith("dispersion")}
    assert len(dispersions) == 4
    assert min(dispersions.values()) == 1
    every_tenth = rows_at(np.arange(3000) * S // 5, np.arange(3000))
    steady = hold_out(every_tenth, 2, "auto", thinnings=2, seed=0)
    assert not steady.holds
    assert steady.compared[0].truth == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("rows", "factor", "words"),
    [
        (rows_at(np.arange(50) * S, np.arange(50)), 4, "50 requests found, 1,000 or more wanted"),
        (rows_at(np.arange(2000) * S, np.arange(2000)), 50, "2000 requests found, 5,000 or more wanted"),
        (rows_at(np.arange(2000) * S, np.arange(2000)), 1, "--amplify: 1 found, above 1 wanted"),
    ],
)
def test_what_cannot_be_judged_is_refused(rows: Rows, factor: float, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        hold_out(rows, factor, "auto", thinnings=2, seed=0)


@pytest.fixture(scope="module")
def clockwork(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of 2,000 requests, ten a second."""
    folder = tmp_path_factory.mktemp("clockwork")
    lines = [f"2024-01-01 00:{nth // 600:02}:{nth // 10 % 60:02}.{nth % 10}00000,3,2" for nth in range(2000)]
    (folder / "lengths.csv").write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines, ""]))
    trace = folder / "trace.parquet"
    arguments = ["import", "azure-llm", str(folder / "lengths.csv"), "-o", str(trace)]
    made = CliRunner().invoke(app, arguments)
    assert made.exit_code == 0, made.output
    return trace


def test_the_verb_says_what_it_found_and_ends_accordingly(clockwork: Path) -> None:
    """Requests like clockwork are no users: any method makes them burstier, and the verb says so."""
    arguments = ["verify-amplification", str(clockwork), "--amplify", "2", "--thinnings", "3"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 1
    assert "most arrivals in 1s" in told.stdout
    assert "this traffic is not what so many users make" in told.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["holds"] is False
    assert found["requests"] == 2000
    assert found["step"].startswith("amplify 2 (sessions cloned whole, ")


def test_the_lineage_names_the_method_and_why(clockwork: Path, tmp_path: Path) -> None:
    for method, words in (
        ("auto", "auto: fitted to the burst curve of that many times the users"),
        ("tied", "clones not shifted"),
        ("superposition", "superposition: whole copies begun at other instants"),
    ):
        schedule = tmp_path / f"{method}.schedule.parquet"
        arguments = [
            "transform",
            str(clockwork),
            "-o",
            str(schedule),
            "--amplify",
            "3",
            "--method",
            method,
        ]
        told = CliRunner().invoke(app, arguments)
        assert told.exit_code == 0, told.output
        assert words in "; ".join(read_lineage(schedule).steps)
        assert "6,000 requests" in told.stdout
