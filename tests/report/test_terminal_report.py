"""What the terminal shows, held against golden files of a fixed width and without colour.

After a wanted change, `PEAKTAPE_UPDATE_GOLDEN=1 pytest tests/report` writes them anew: read the difference.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console, RenderableType

from replay.analysis.values import DiffResult, RunSummary, Verdict
from replay.report.page_tables import effect_table
from replay.report.telling import left_out, telling_effects, without_twins
from replay.report.terminal import diff_report, run_report, validity_report

GOLDEN = Path(__file__).parent / "golden"


def printed(report: RenderableType, width: int = 80, *, colour: bool = False) -> str:
    system: Literal["standard"] | None = "standard" if colour else None
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, color_system=system)
    console.print(report)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def assert_golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("PEAKTAPE_UPDATE_GOLDEN") == "1":
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8")


@pytest.mark.parametrize("width", [80, 100])
def test_the_comparison_reads_at_a_glance(diff: DiffResult, width: int) -> None:
    assert_golden(f"diff_{width}.txt", printed(diff_report(diff), width))


@pytest.mark.parametrize("width", [80, 100])
def test_the_run_reads_at_a_glance(run: RunSummary, width: int) -> None:
    assert_golden(f"run_{width}.txt", printed(run_report(run), width))


def test_an_invalid_run_says_so_first_and_by_how_much(stopped_run: RunSummary) -> None:
    assert_golden("invalid_80.txt", printed(run_report(stopped_run)))


def test_validity_alone(stopped_run: RunSummary) -> None:
    found = printed(validity_report(stopped_run.validity))
    assert found.startswith("Validity  INVALID: 2 of 6 checks failed")
    assert "! garbage collector paused the sender" in found


def test_nothing_is_cut_at_80_columns(diff: DiffResult, run: RunSummary) -> None:
    assert "…" not in printed(run_report(run))
    assert "differen…" not in printed(diff_report(diff))


def test_colour_carries_nothing_that_words_do_not(diff: DiffResult) -> None:
    coloured = printed(diff_report(diff), colour=True)
    assert "\x1b[" in coloured
    assert "\x1b[" not in printed(diff_report(diff))
    assert "+ slower" in printed(diff_report(diff))


def test_a_comparison_with_an_invalid_run_shows_no_verdict(diff: DiffResult, stopped_run: RunSummary) -> None:
    refused = dataclasses.replace(diff, candidate=stopped_run)
    first = printed(diff_report(refused)).splitlines()[0]
    assert first.startswith("INVALID")
    assert "REGRESSION" not in first


def test_text_from_users_is_not_taken_for_markup(diff: DiffResult) -> None:
    label = "[bold]build[/bold] [/nonsense]"
    spoiled = dataclasses.replace(
        diff, baseline=dataclasses.replace(diff.baseline, label=label), reasons=("[red]reason[/red]",)
    )
    found = printed(diff_report(spoiled), 120)
    assert label in found
    assert "[red]reason[/red]" in found


def test_what_is_not_shown_is_counted_by_verdict(diff: DiffResult) -> None:
    shown = telling_effects(diff.effects)
    assert len(shown) <= 24
    assert len(shown) + left_out(diff.effects, shown).total() == len(diff.effects)
    assert f"Not shown: {len(diff.effects) - len(shown)} more effects" in printed(diff_report(diff))


def test_the_telling_effects_hold_the_headline_and_every_group_that_moved(diff: DiffResult) -> None:
    shown = telling_effects(diff.effects, limit=1000)
    headline = [e for e in shown if e.group.kind == "all" and e.clock == "due" and e.quantile in (0.5, 0.99)]
    assert len(headline) == 8
    moved = {e.group for e in without_twins(diff.effects) if e.verdict is Verdict.REGRESSION}
    assert moved <= {e.group for e in shown}


def test_a_group_of_the_same_requests_is_told_once(diff: DiffResult) -> None:
    kinds = {e.group.kind for e in without_twins(diff.effects)}
    assert kinds == {"all", "endpoint", "phase"}  # the one model is the chat endpoint over again


def test_an_empty_comparison_still_reads(diff: DiffResult) -> None:
    empty = dataclasses.replace(
        diff, effects=(), outcome_changes=(), pairs=0, verdict=Verdict.INCONCLUSIVE, reasons=("no pairs",)
    )
    found = printed(diff_report(empty))
    assert found.startswith("INCONCLUSIVE  build-b against build-a\n  • no pairs\n")
    assert "0 pairs" in found


def test_an_effect_without_an_interval_is_not_said_to_be_nearly_decided(diff: DiffResult) -> None:
    nan = float("nan")
    unknown = {"low_ns": nan, "high_ns": nan, "minimum_detectable_ns": nan, "p_value": nan}
    effect = dataclasses.replace(diff.effects[0], verdict=Verdict.INCONCLUSIVE, pairs_needed=650, **unknown)
    found = printed(diff_report(dataclasses.replace(diff, effects=(effect,))))
    assert "? too few pairs" in found
    assert "Too few pairs for an interval: about 650 more would give one, and may decide." in found
    assert "decide them all" not in found
    assert "– … –" not in found + effect_table((effect,), "")
    judged = dataclasses.replace(diff.effects[3], verdict=Verdict.INCONCLUSIVE, pairs_needed=40)
    both = printed(diff_report(dataclasses.replace(diff, effects=(effect, judged))))
    assert "Undecided: about 40 more pairs would decide them all." in both
    assert "? undecided" in both
