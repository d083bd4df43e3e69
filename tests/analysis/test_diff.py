"""The whole comparison: it names what was slowed and nothing else, and refuses what can't be compared."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from latency_models import Workload, autoregressive, queueing, workload
from made_runs import CHAT, MS, MadeRun

from capture.failures import EXIT_INVALID, BadInput, NothingCompared, RunInvalid
from replay.analysis.diff import compare, headline_of, overall
from replay.analysis.metrics import Latencies
from replay.analysis.reasons import reasons_of
from replay.analysis.run_table import RunTable
from replay.analysis.values import DiffResult, Effect, Group, Verdict

RESAMPLES = 300


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def diff(baseline: RunTable, candidate: RunTable, tolerance: float = 0.05) -> DiffResult:
    return compare(baseline, candidate, tolerance=tolerance, rng=rng(), resamples=RESAMPLES)


def steady(load: Workload, seed: int, factor: float = 1.0) -> RunTable:
    """An arm whose noise has a correlation time of 0.1 s."""
    return autoregressive(
        load, rng(seed), prefill_factor=factor, time_constant_s=0.1, wander=0.05, jitter=0.08
    )


@pytest.fixture(scope="module")
def load() -> Workload:
    return workload(rng(7))


@pytest.fixture(scope="module")
def slower(load: Workload) -> DiffResult:
    return diff(steady(load, 1), steady(load, 2, 1.4))


def named(found: DiffResult) -> set[tuple[str, str]]:
    return {
        (effect.group.name, effect.metric) for effect in found.effects if effect.verdict is Verdict.REGRESSION
    }


def test_a_slower_prefill_is_named_and_nothing_else(slower: DiffResult) -> None:
    assert slower.verdict is Verdict.REGRESSION
    assert (CHAT, "ttft") in named(slower)
    assert named(slower) <= {(CHAT, "ttft"), (CHAT, "e2e"), ("", "e2e")}


def test_the_first_reason_is_a_sentence_a_person_can_act_on(slower: DiffResult) -> None:
    assert slower.reasons[0].startswith(f"{CHAT}: TTFT p")
    assert "95 % CI +" in slower.reasons[0]
    assert len(slower.reasons) <= 3
    assert all("following from TTFT" in reason for reason in slower.reasons[1:])


@pytest.mark.parametrize(
    ("elsewhere", "said"),
    [
        (Verdict.EQUIVALENT, ", only in phase base"),
        (Verdict.INCONCLUSIVE, ", shown in phase base (undecided in 1 more)"),
        (Verdict.REGRESSION, ""),
    ],
)
def test_a_reason_says_only_of_a_phase_when_the_others_are_decided(elsewhere: Verdict, said: str) -> None:
    def effect(kind: str, name: str, verdict: Verdict) -> Effect:
        figures = {"baseline_ns": 100.0, "candidate_ns": 150.0, "effect_ns": 50.0, "low_ns": 40.0}
        doubt = {"high_ns": 60.0, "p_value": 0.0, "minimum_detectable_ns": 5.0, "noise_floor_ns": 0.0}
        rest = {"tolerance_ns": 2.0, "pairs_needed": None}
        return Effect(Group(kind, name), "tpot", "due", 0.5, 100, verdict=verdict, **figures, **doubt, **rest)

    slow = Verdict.REGRESSION
    found = [
        effect("endpoint", CHAT, slow),
        effect("phase", "base", slow),
        effect("phase", "peak", elsewhere),
    ]
    (reason,) = reasons_of(slow, found, found[:1], (), ())
    assert reason.partition(")")[2] == said


def test_a_faster_prefill_is_an_improvement(load: Workload) -> None:
    found = diff(steady(load, 1, 1.4), steady(load, 2))
    assert found.verdict is Verdict.IMPROVED
    assert found.reasons[0].startswith(f"{CHAT}: TTFT p")
    assert "−" in found.reasons[0]


def test_the_same_build_twice_is_no_regression_and_says_what_it_could_see(load: Workload) -> None:
    found = diff(steady(load, 1), steady(load, 2))
    assert found.verdict in (Verdict.INCONCLUSIVE, Verdict.EQUIVALENT)
    assert named(found) == set()
    judged = [effect for effect in found.effects if not np.isnan(effect.p_value)]
    assert all(effect.minimum_detectable_ns > 0 for effect in judged)


def test_a_change_too_small_to_see_is_not_said_to_be_none(load: Workload) -> None:
    found = diff(steady(load, 1), steady(load, 2, 1.03), tolerance=0.01)
    assert found.verdict is Verdict.INCONCLUSIVE
    (said,) = [reason for reason in found.reasons if "no regression found" in reason]
    assert "none ruled out: it could not have seen less than" in said
    shown = re.search(rf"{CHAT} TTFT p50 \S+ ms \((\d+) %\)", said)
    assert shown
    assert int(shown[1]) > 3


def test_a_run_compared_with_itself_is_equivalent(load: Workload) -> None:
    one = steady(load, 1)
    found = diff(one, one)
    assert found.verdict is Verdict.EQUIVALENT
    assert "headline quantiles are the same" in found.reasons[0]


def test_either_way_round_the_ratios_are_inverse(load: Workload) -> None:
    one, other = steady(load, 1), steady(load, 2, 1.2)
    there, back = diff(one, other), diff(other, one)
    assert there.block_s == pytest.approx(back.block_s)
    for a, b in zip(there.effects, back.effects, strict=True):
        assert a.effect_ns == pytest.approx(-b.effect_ns)
        assert a.p_value == pytest.approx(b.p_value, nan_ok=True)
        if not np.isnan(a.p_value):
            ends = (1 + a.low_ns / a.baseline_ns) * (1 + b.high_ns / b.baseline_ns)
            assert ends == pytest.approx(1.0)


def test_the_seed_of_a_result_gives_it_again(load: Workload) -> None:
    one, other = steady(load, 1), steady(load, 2)
    assert repr(diff(one, other)) == repr(diff(one, other))
    elsewhere = compare(one, other, tolerance=0.05, rng=rng(99), resamples=RESAMPLES)
    assert elsewhere.seed != diff(one, other).seed


def test_a_tolerated_slowdown_is_no_regression(load: Workload) -> None:
    assert named(diff(steady(load, 1), steady(load, 2, 1.4), tolerance=0.8)) == set()


def test_no_group_repeats_the_requests_of_another(slower: DiffResult) -> None:
    ttft = {effect.group for effect in slower.effects if effect.metric == "ttft"}
    assert {group.name for group in ttft} == {CHAT}
    keys = [(e.group, e.metric, e.clock, e.quantile) for e in slower.effects]
    assert len(set(keys)) == len(keys)


def test_a_tail_too_thin_is_not_judged(slower: DiffResult) -> None:
    thin = [effect for effect in slower.effects if effect.pairs * (1 - effect.quantile) < 6]
    assert thin
    assert all(np.isnan(effect.p_value) for effect in thin)
    assert all(effect.verdict is Verdict.INCONCLUSIVE and effect.pairs_needed for effect in thin)


def test_an_invalid_run_is_refused_unless_forced(load: Workload) -> None:
    one, other = steady(load, 1), steady(load, 2)
    partial = dataclasses.replace(other, metadata=dataclasses.replace(other.metadata, partial=True))
    with pytest.raises(RunInvalid, match="stopped early"):
        diff(one, partial)
    forced = compare(one, partial, tolerance=0.05, rng=rng(), resamples=50, allow_invalid=True)
    assert any("INVALID" in warning for warning in forced.warnings)


def test_runs_of_other_schedules_are_refused(load: Workload) -> None:
    one = steady(load, 1)
    other = dataclasses.replace(one, metadata=dataclasses.replace(one.metadata, schedule_fingerprint="x"))
    with pytest.raises(BadInput, match="different schedules"):
        diff(one, other)


def failing(run: RunTable, count: int) -> RunTable:
    """The run with `count` of its answers, spread over all of it, turned into 503s."""
    status = run.status.copy()
    status[np.linspace(0, len(run) - 1, count).astype(int)] = 503
    return dataclasses.replace(run, status=status)


def test_a_build_that_is_faster_because_it_fails_has_regressed(load: Workload) -> None:
    found = diff(steady(load, 1, 1.4), failing(steady(load, 2), 60))
    assert found.verdict is Verdict.REGRESSION
    assert "5xx 0 →" in found.reasons[0]


def test_a_few_failures_more_forbid_to_speak_of_improvement(load: Workload) -> None:
    found = diff(steady(load, 1, 1.4), failing(steady(load, 2), 5))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reasons[0] == f"failures rose from 0 to 5 of {found.pairs} requests"


def test_shorter_answers_forbid_to_speak_of_improvement(load: Workload) -> None:
    short = steady(load, 2)
    short = dataclasses.replace(short, output_tokens=np.maximum(short.output_tokens - 1, 2))
    found = diff(steady(load, 1, 1.4), short)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "fewer output tokens" in found.reasons[0]


def test_two_runs_of_one_build_measure_the_noise_floor(load: Workload) -> None:
    one, other = steady(load, 1), steady(load, 2, 1.4)
    found = compare(
        one, other, tolerance=0.0, rng=rng(), resamples=RESAMPLES, same_build=(one, steady(load, 3))
    )
    assumed = diff(one, other, tolerance=0.0)
    floors = [
        (a.noise_floor_ns, b.noise_floor_ns) for a, b in zip(found.effects, assumed.effects, strict=True)
    ]
    assert any(measured != taken for measured, taken in floors)
    assert not any("not measured" in warning for warning in found.warnings)
    assert (CHAT, "ttft") in named(found)


ANSWERED, SHED, LOST = None, 503, "timeout"


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (SHED, SHED, None),
        (LOST, LOST, None),
        (LOST, SHED, None),
        (SHED, ANSWERED, None),  # a dead baseline clears no build
        (ANSWERED, SHED, Verdict.REGRESSION),
        (ANSWERED, LOST, Verdict.REGRESSION),
        (ANSWERED, ANSWERED, Verdict.EQUIVALENT),
    ],
)
def test_no_verdict_without_a_request_that_both_answered_unless_failures_make_one(
    before: int | str | None, after: int | str | None, wanted: Verdict | None
) -> None:
    def replayed(how: int | str | None) -> RunTable:
        n = 400
        return MadeRun(
            due_ns=np.arange(n) * 10.0 * MS,
            e2e_ns=np.full(n, 5.0 * MS),
            status=np.full(n, how) if isinstance(how, int) else None,
            error=[how] * n if isinstance(how, str) else None,
        ).run()

    if wanted is not None:
        assert diff(replayed(before), replayed(after)).verdict is wanted
        return
    with pytest.raises(NothingCompared, match="no request was answered well in both runs") as refusal:
        diff(replayed(before), replayed(after))
    assert refusal.value.exit_code == EXIT_INVALID


def test_equivalence_asks_for_every_headline_quantile(load: Workload) -> None:
    one = steady(load, 1)
    effects = diff(one, one).effects
    headline = headline_of(effects)
    assert {effect.clock for effect in headline} == {"due"}
    assert overall(effects, headline, (), held_back=False) is Verdict.EQUIVALENT
    doubtful = (*headline[1:], dataclasses.replace(headline[0], verdict=Verdict.INCONCLUSIVE))
    assert overall(effects, doubtful, (), held_back=False) is Verdict.INCONCLUSIVE
    assert overall(effects, (), (), held_back=False) is Verdict.INCONCLUSIVE


def test_the_models_of_the_tests_do_what_they_say(load: Workload) -> None:
    """Ground truth: the factor slows TTFT of chats by itself; queues make all endpoints wait."""
    chat = load.kind == 0
    one, other = queueing(load, rng(1), jitter=0.0), queueing(load, rng(2), jitter=0.0, prefill_factor=1.4)
    assert (Latencies(other).ttft_ns("due")[chat] >= Latencies(one).ttft_ns("due")[chat]).all()
    plain = autoregressive(load, rng(1), wander=0, jitter=0)
    slow = autoregressive(load, rng(2), wander=0, jitter=0, prefill_factor=1.4)
    ratio = Latencies(slow).e2e_ns("sent") / Latencies(plain).e2e_ns("sent")
    assert ratio[~chat] == pytest.approx(1.0)
    ttft = Latencies(slow).ttft_ns("sent")[chat] / Latencies(plain).ttft_ns("sent")[chat]
    assert ttft == pytest.approx(1.4, rel=1e-6)
