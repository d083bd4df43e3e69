"""What was answered beside how fast: a build that says less is caught, one that is merely late is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from latency_models import Workload, autoregressive, workload
from made_runs import CHAT

from replay.analysis.answers import ANSWERED_RATE, FINISH, TOKENS
from replay.analysis.change_values import AnswerChange, BodyChange
from replay.analysis.diff import compare
from replay.analysis.run_table import Labels, RunTable
from replay.analysis.values import DiffResult, Verdict


@pytest.fixture(scope="module")
def load() -> Workload:
    return workload(np.random.default_rng(7))


def arm(load: Workload, seed: int, factor: float = 1.0) -> RunTable:
    return autoregressive(load, np.random.default_rng(seed), prefill_factor=factor, wander=0.05)


def diff(before: RunTable, after: RunTable, **given: object) -> DiffResult:
    return compare(
        before,
        after,
        tolerance=0.02,
        rng=np.random.default_rng(1),
        resamples=300,
        **given,  # type: ignore[arg-type]
    )


def change(found: DiffResult, measure: str, group: str = "") -> AnswerChange:
    (one,) = [c for c in found.answers if (c.measure, c.group.name) == (measure, group)]
    return one


def saying(run: RunTable, share: float, seed: int = 5) -> RunTable:
    """Answers of `share` the tokens, give or take a tenth."""
    jitter = np.random.default_rng(seed).normal(share, 0.1, len(run))
    return dataclasses.replace(run, output_tokens=np.maximum(np.round(run.output_tokens * jitter), 2))


def test_a_build_that_is_faster_because_it_says_less_is_a_regression(load: Workload) -> None:
    found = diff(arm(load, 1, 1.4), saying(arm(load, 2), 0.8))
    assert found.verdict is Verdict.REGRESSION
    (said,) = [reason for reason in found.reasons if "output tokens " in reason and "→" in reason]
    assert said.startswith(CHAT)
    less = change(found, TOKENS, CHAT)
    assert (less.verdict, less.changed) == (Verdict.REGRESSION, True)
    assert less.low_ratio < -0.2 < less.high_ratio < -0.1


def test_sampled_answers_of_one_length_are_no_change(load: Workload) -> None:
    found = diff(saying(arm(load, 1), 1.0, 5), saying(arm(load, 2), 1.0, 6))
    tokens = change(found, TOKENS, CHAT)
    assert tokens.verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    assert tokens.low_ratio < 0 < tokens.high_ratio


def test_saying_more_is_no_regression_of_answers(load: Workload) -> None:
    more = change(diff(arm(load, 1), saying(arm(load, 2), 1.3)), TOKENS, CHAT)
    assert more.changed
    assert more.verdict is not Verdict.REGRESSION


def test_what_one_build_differs_by_from_itself_is_no_change_of_another(load: Workload) -> None:
    one = arm(load, 1)
    noisy = (one, saying(arm(load, 3), 0.7))
    assert not change(diff(one, saying(arm(load, 2), 0.8), same_build=noisy), TOKENS, CHAT).changed


def test_slower_answers_are_as_many_in_an_open_loop(load: Workload) -> None:
    found = change(diff(arm(load, 1), arm(load, 2, 1.5)), ANSWERED_RATE)
    assert found.verdict is not Verdict.REGRESSION
    assert abs(found.change_ratio) < 0.02


def test_a_build_that_does_not_keep_up_answers_fewer(load: Workload) -> None:
    slow = arm(load, 2)
    late = dataclasses.replace(slow, end_ns=slow.end_ns + 0.3 * slow.due_ns)
    assert change(diff(arm(load, 1), late), ANSWERED_RATE).verdict is Verdict.REGRESSION


def ending(run: RunTable, cut: float) -> RunTable:
    codes = (np.random.default_rng(3).random(len(run)) < cut).astype(np.int64)
    return dataclasses.replace(run, finish_reason=Labels(codes, ("stop", "length")))


def test_other_finish_reasons_forbid_to_speak_of_improvement(load: Workload) -> None:
    found = diff(ending(arm(load, 1, 1.4), 0.02), ending(arm(load, 2), 0.3))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert change(found, f"{FINISH}length").changed
    assert any(reason.startswith("finish reason length") for reason in found.reasons)
    same = diff(ending(arm(load, 1), 0.1), ending(arm(load, 2), 0.1))
    assert not any(c.changed for c in same.answers)


def test_other_bodies_forbid_to_speak_of_improvement(load: Workload) -> None:
    field = BodyChange("$.score", 500, 0.4, 0.0, 1e-9, True)
    found = diff(arm(load, 1, 1.4), arm(load, 2), bodies=(field,))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons[0] == "answers differ: $.score in 40 % of 500 (same build: 0 %)"
