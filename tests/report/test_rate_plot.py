"""The terminal plot: as wide as asked, plain unless colour is wanted, and a peak never averaged away."""

from __future__ import annotations

import numpy as np
import pytest

from replay.report.rate_plot import rate_plot

EDGES_S = np.arange(0.0, 300.0)
RATE = 40 + 120.0 * ((EDGES_S >= 150) & (EDGES_S < 190))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_it_keeps_to_its_size(width: int) -> None:
    lines = rate_plot(EDGES_S, RATE, width, 10, "requests/s").split("\n")
    assert max(map(len, lines)) == width
    assert len(lines) <= 10


def test_it_names_the_peak_and_round_times() -> None:
    drawn = rate_plot(EDGES_S, RATE, 80, 10, "requests/s as captured")
    assert "requests/s as captured" in drawn
    assert "160┤" in drawn.replace(" ", "")
    assert "0 s" in drawn
    assert "180 s" in drawn


def test_colour_only_on_demand() -> None:
    assert "\x1b[" not in rate_plot(EDGES_S, RATE, 80, 10, "t", False)
    assert "\x1b[" in rate_plot(EDGES_S, RATE, 80, 10, "t", True)


def test_a_single_second_in_a_day_is_still_the_peak() -> None:
    rate = np.ones(86_400)
    rate[40_000] = 500
    assert "500┤" in rate_plot(np.arange(86_400.0), rate, 80, 10).replace(" ", "")


def test_two_plots_do_not_mix() -> None:
    first = rate_plot(EDGES_S, RATE, 80, 10, "first")
    second = rate_plot([0.0, 1.0, 2.0], [1.0, 2.0, 1.0], 80, 10, "second")
    assert "first" not in second
    assert rate_plot(EDGES_S, RATE, 80, 10, "first") == first


@pytest.mark.parametrize("rate", [[], [0.0, 0.0], [float("nan")]])
def test_nothing_to_draw_is_said_in_words(rate: list[float]) -> None:
    assert rate_plot(list(range(len(rate))), rate, title="requests/s") == "requests/s: no requests"


def test_one_bucket_is_drawn() -> None:
    assert "5.00┤" in rate_plot([0.0], [5.0])
