"""Holm's procedure: the textbook table, and what its intervals may exclude."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.analysis.holm import ALPHA, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_four_tests() -> None:
    family = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(family.adjusted, [0.03, 0.06, 0.06, 0.02])
    # Two are rejected, at α/4 and α/3; the third fails at α/2 and stops the rest there.
    np.testing.assert_allclose(family.level, [ALPHA / 3, ALPHA / 2, ALPHA / 2, ALPHA / 4])


def test_what_could_not_be_judged_is_no_member() -> None:
    family = holm(np.array([np.nan, 0.03]))
    assert np.isnan(family.adjusted[0])
    assert family.adjusted[1] == pytest.approx(0.03)


def test_an_empty_family() -> None:
    assert len(holm(np.array([])).adjusted) == 0


@given(P_VALUES)
def test_never_below_the_raw_p_value_nor_above_bonferronis(found: list[float]) -> None:
    p = np.array(found)
    adjusted = holm(p).adjusted
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()


@given(P_VALUES)
def test_an_interval_excludes_zero_exactly_where_holm_rejects(found: list[float]) -> None:
    p = np.array(found)
    family = holm(p)
    np.testing.assert_array_equal(p < family.level, family.adjusted < ALPHA)
