"""What is doubted about a trace's clock, each with what to do about it; and what gives no cause."""

from __future__ import annotations

import numpy as np
import pytest

from replay.transform.clock_doubts import (
    YEAR_S,
    all_doubts,
    clock_warnings,
    repetition_warnings,
    short_warnings,
    silence_warnings,
    span_warnings,
)

S = 1_000_000_000
MINUTE = 60 * S


@pytest.mark.parametrize(("years", "doubted"), [(9.9, False), (10.1, True)])
def test_a_span_of_decades_is_doubted(years: float, doubted: bool) -> None:
    assert bool(span_warnings(np.array([0, round(years * YEAR_S) * S]))) is doubted


@pytest.mark.parametrize(
    ("arrivals", "stated_tick_ns", "words"),
    [
        (np.arange(100) * 7_654_321, 1, None),
        (np.repeat(np.arange(10), 10) * 3 * S, 1, "ticks every 3 s"),
        (
            np.repeat(np.arange(10), 10) * 3 * S + np.repeat(np.arange(10) % 3, 10) * 1_000_000,
            1,
            "ticks every 3 s",
        ),
        (np.sort(np.random.default_rng(1).integers(0, 90, 100)) * S, 1, "ticks every 1 s"),
        (np.arange(100) * 7_654_321, 3 * S, "ticks every 3 s"),
        (np.zeros(50, np.int64), 1, "the source's clock was lost"),
        (np.arange(10) * S, 1, None),  # too few to tell
    ],
    ids=["fine", "rounded", "rounded, with noise", "whole seconds", "stated", "no time", "too few"],
)
def test_doubts_about_the_clock(arrivals: np.ndarray, stated_tick_ns: int, words: str | None) -> None:
    found = clock_warnings(arrivals.astype(np.int64), stated_tick_ns)
    assert len(found) == (words is not None)
    assert all(words is not None and words in warning for warning in found)


def poisson(rate_per_s: float, span_s: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sort(rng.integers(0, round(span_s * S), rng.poisson(rate_per_s * span_s)))


def test_independent_users_for_an_hour_give_no_doubt() -> None:
    assert all_doubts(poisson(5, 3600)) == ()


@pytest.mark.parametrize(
    ("arrivals", "words"),
    [
        (
            np.concatenate([poisson(2, 60) % MINUTE + k * MINUTE for k in range(20)]),
            "the same arrivals to the ns",
        ),
        (np.arange(20 * 120) * (MINUTE // 120), "a pattern was repeated"),
        (
            np.sort(
                np.concatenate(
                    [np.random.default_rng(k).integers(0, MINUTE, 120) + k * MINUTE for k in range(21)]
                )
            ),
            "the minutes are almost equal (1",
        ),
        (poisson(2, 1200), None),
        (poisson(2, 300), None),  # too few minutes to tell
    ],
    ids=["a minute repeated", "a constant pace", "equal counts", "independent users", "five minutes"],
)
def test_minutes_that_are_too_equal(arrivals: np.ndarray, words: str | None) -> None:
    found = repetition_warnings(np.sort(arrivals))
    assert len(found) == (words is not None)
    assert all(words is not None and words in warning for warning in found)


def test_a_silence_that_nothing_explains_names_its_place_and_the_way_out() -> None:
    arrivals = poisson(5, 3600)
    lost = arrivals[(arrivals < 1000 * S) | (arrivals > 1400 * S)]
    (found,) = silence_warnings(lost)
    assert "no arrivals for 400 s from 1,000" in found.replace("401", "400").replace("999.", "1,000.")
    assert "--slice" in found
    assert silence_warnings(lost, has_gaps=True) == ()
    assert silence_warnings(arrivals) == ()


def test_quiet_nights_are_no_silence() -> None:
    rng = np.random.default_rng(2)
    days = [np.sort(rng.integers(9 * 3600 * S, 17 * 3600 * S, 50)) + day * 86_400 * S for day in range(5)]
    assert silence_warnings(np.concatenate(days)) == ()


@pytest.mark.parametrize(
    ("span_s", "words"),
    [(700, None), (100, "bursts of 60 s: 100 s of traffic, at least 600 s"), (5, "1 s, 10 s, 60 s")],
)
def test_what_is_too_short_to_judge_is_named(span_s: float, words: str | None) -> None:
    found = short_warnings(np.array([0, round(span_s * S)]))
    assert len(found) == (words is not None)
    assert all(words is not None and words in warning for warning in found)


def test_a_fine_tick_hides_no_burst() -> None:
    assert clock_warnings(np.arange(1000) * 50_000_000) == ()  # 20/s exactly, nothing ties
    ties = np.sort(np.random.default_rng(1).integers(0, 200, 1000)) * 100_000_000
    (found,) = clock_warnings(ties)
    assert "ticks every 0.1 s" in found
    assert "judge windows of 1 s and longer, or import again with --unround" in found
