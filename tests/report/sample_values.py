"""Realistic analysis values to format: two builds under one spike, the candidate 30 % slower to first token.

Everything is drawn from seeded generators, so that golden files hold; no verdict here is peaktape's own.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from sample_requests import sample_heat, sample_waterfall, spoiled_waterfall

from replay.analysis.change_values import (
    SLOWED,
    TYPICAL,
    AnswerChange,
    BodyChange,
    ChangedRequest,
    Location,
    RequestTimeline,
    TailChange,
)
from replay.analysis.distribution_values import Distribution, ShiftFunction
from replay.analysis.latency_shapes import log_density, upper_quantiles
from replay.analysis.metrics import Sample
from replay.analysis.planning_values import Cost
from replay.analysis.shed_values import RetryAfter
from replay.analysis.shift_function import SHIFT_QUANTILES
from replay.analysis.values import (
    QUANTILES,
    Check,
    DiffResult,
    Effect,
    Group,
    GroupSummary,
    MetricSummary,
    Objective,
    ObjectiveResult,
    OutcomeChange,
    Peak,
    PhaseSummary,
    Recovery,
    RunSummary,
    Saturation,
    ScrapedSource,
    ServerSeries,
    ServerSide,
    Settled,
    Timeline,
    Validity,
    Verdict,
)

MS = 1e6
CHAT = "POST /v1/chat/completions"
GROUPS = {
    Group("all", ""): (1243, 1.0),
    Group("endpoint", CHAT): (902, 1.1),
    Group("endpoint", "POST /v1/embeddings"): (241, 0.3),
    Group("endpoint", "POST /v2/models/churn/infer"): (100, 0.2),
    Group("model", "llama-3.1-8b-instruct"): (902, 1.1),
    Group("phase", "base"): (820, 0.8),
    Group("phase", "spike"): (423, 1.9),
}
# median in ms and log-spread of each metric
SHAPES = {"ttft": (95.0, 0.45), "itl": (11.5, 0.25), "tpot": (12.1, 0.2), "e2e": (840.0, 0.6)}
CHECKS = (
    Check("requests sent", True, "100 %", "within 1 %", "a run that sent less answers an easier question"),
    Check("lateness p99", True, "0.126 ms", "≤ 1.00 ms", "late requests hide the queueing they should see"),
    Check("lateness max", True, "3.63 ms", "< 50.0 ms", "one stalled send shifts the peak"),
    Check("open loop", True, "ρ = 0.03", "|ρ| ≤ 0.3", "lateness that follows the load means a closed loop"),
    Check("burstiness at 1 s", True, "IDC +1.2 %", "within 5 %", "smoothed bursts queue less"),
    Check("generator CPU", True, "41 % of a core", "< 70 %", "a busy generator measures itself"),
)


def _metric(metric: str, clock: str, n: int, scale: float, seed: int) -> MetricSummary:
    median_ms, spread = SHAPES[metric]
    clocked = scale * (0.97 if clock == "sent" else 1.0)
    values = np.random.default_rng(seed).lognormal(math.log(median_ms * clocked), spread, n) * MS
    quantiles = {q: float(np.quantile(values, q)) for q in QUANTILES}
    return MetricSummary(metric, clock, n, float(values.mean()), float(values.max()), quantiles)


def _group(group: Group, n: int, scale: float, slow: float, seed: int) -> GroupSummary:
    failed = n // 100
    pairs = [(m, c) for m in SHAPES for c in ("due", "sent") if c == "due" or m in ("ttft", "e2e")]
    if group.name.startswith(("POST /v1/emb", "POST /v2")):
        pairs = [("e2e", "due"), ("e2e", "sent")]
    metrics = tuple(
        _metric(m, c, n - failed, scale * (slow if m in ("ttft", "e2e") else 1.0), seed + i)
        for i, (m, c) in enumerate(pairs)
    )
    errors = {"reset": failed // 3} if failed // 3 else {}
    statuses = {200: n - failed, 503: failed - failed // 3}
    return GroupSummary(group, n, n, n - failed, errors, statuses, metrics)


def _timeline(slow: float, seed: int) -> Timeline:
    rng = np.random.default_rng(seed)
    seconds = np.arange(0.5, 60.0)
    spike = (seconds >= 25) & (seconds < 37)
    rate = 15 + 3 * np.sin(seconds / 7) + 45 * spike
    scheduled = np.random.default_rng(7).poisson(rate).astype(float)
    load = np.convolve(scheduled, np.exp(-np.arange(8) / 3.0), "full")[: len(seconds)] / 60
    e2e = (600 + 420 * load**1.6) * slow * rng.lognormal(0, 0.06, len(seconds)) * MS
    ttft = (60 + 75 * load**1.8) * slow * rng.lognormal(0, 0.07, len(seconds)) * MS
    ttft[3] = math.nan  # a bucket in which nothing streamed
    return Timeline(
        width_s=1.0,
        scheduled_per_s=tuple(scheduled),
        sent_per_s=tuple(scheduled),
        errors_per_s=tuple(rng.poisson(0.05 + 0.6 * spike * slow).astype(float)),
        in_flight=tuple(np.round(scheduled * e2e / 1e9, 1)),
        e2e_p50_ns=tuple(e2e),
        e2e_p90_ns=tuple(e2e * 1.6 * rng.lognormal(0, 0.05, len(seconds))),
        e2e_p99_ns=tuple(e2e * 2.4 * rng.lognormal(0, 0.12, len(seconds))),
        ttft_p50_ns=tuple(ttft),
        ttft_p90_ns=tuple(ttft * 1.5 * rng.lognormal(0, 0.05, len(seconds))),
        ttft_p99_ns=tuple(ttft * 2.1 * rng.lognormal(0, 0.12, len(seconds))),
        phases=(("spike", 25.0, 37.0), ("recover", 37.0, 49.0)),
    )


def _distribution(group: Group, metric: MetricSummary, slow: float, seed: int) -> Distribution:
    median_ms, spread = SHAPES[metric.metric]
    scale = GROUPS[group][1] * (slow if metric.metric in ("ttft", "e2e") else 1.0)
    ordered = (
        np.sort(np.random.default_rng(seed).lognormal(math.log(median_ms * scale), spread, metric.n)) * MS
    )
    rows = np.random.default_rng(seed).permutation(metric.n)
    cell = (np.arange(metric.n) * 60 // metric.n).astype(np.int64)
    found = upper_quantiles(Sample(ordered, rows), cell, np.zeros(60, dtype=np.int64))
    arrays = (*found, *log_density(ordered))
    return Distribution(group, metric.metric, metric.n, *(tuple(array.tolist()) for array in arrays))


def _shift(group: Group, before: Distribution, slow: float, seed: int) -> ShiftFunction:
    """Slower by more from quantile to quantile; the ends of a small group have no interval."""
    p = np.array(SHIFT_QUANTILES)
    base = np.exp(np.interp(p, before.below, np.log(before.density_at_ns)))
    ratio = np.log(slow) * (0.4 + 0.9 * p) + np.random.default_rng(seed).normal(0, 0.004, len(p))
    error = 0.01 + 0.03 * p**6
    error[p * before.n < 8] = math.nan
    error[(1 - p) * before.n < 8] = math.nan
    arrays = (
        p,
        base,
        base * np.expm1(ratio),
        base * np.expm1(ratio - 3 * error),
        base * np.expm1(ratio + 3 * error),
    )
    return ShiftFunction(group, before.metric, before.n, *(tuple(a.tolist()) for a in (*arrays, error)))


def _phase(
    name: str, length_s: float, n: int, failed: int, results: tuple[ObjectiveResult, ...]
) -> PhaseSummary:
    return PhaseSummary(
        phase=name,
        length_s=length_s,
        scheduled=n,
        ok=n - failed,
        failed=failed,
        shed={429: 1, 503: failed - 1} if failed > 1 else {},
        retry_after=RetryAfter(failed - 2, 1.0, 30.0) if failed > 4 else None,
        offered_per_s=n / length_s,
        answered_per_s=(n - failed) / length_s * 0.98,
        in_flight_mean=n / length_s * 0.9,
        in_flight_max=round(n / length_s * 2),
        goodput_per_s=(n - failed) / length_s * 0.9,
        objectives=results,
    )


def _peak(slow: float) -> Peak:
    latency = Recovery(Settled.RECOVERED, 7.0 * slow, 26.0, 1.3, 1.9, 5.2 * slow, 1.0, "")
    backlog = Recovery(Settled.RECOVERED, 6.0 * slow, 26.0, 14.2, 19.0, 98.0, 1.0, "")
    return Peak(
        phase="spike",
        start_s=25.0,
        end_s=37.0,
        watched_until_s=60.0,
        scheduled=423,
        shed=6,
        failed=9,
        offered_per_s=35.3,
        base_per_s=16.9,
        in_flight_before=14.2,
        in_flight_max=98,
        in_flight_max_at_s=36.2,
        growth_per_s=6.4,
        latency=latency,
        backlog=backlog,
    )


def _series(source: str, quantity: str, unit: str, values: np.ndarray) -> ServerSeries:
    at_s = np.arange(len(values)) * 1.0
    phases = {"base": (0, 25), "spike": (25, 37), "recover": (37, 49)}
    return ServerSeries(
        source=source,
        quantity=quantity,
        unit=unit,
        at_s=tuple(at_s.tolist()),
        values=tuple(values.tolist()),
        mean=float(values.mean()),
        largest=float(values.max()),
        by_phase={name: float(values[start:end].mean()) for name, (start, end) in phases.items()},
    )


def _server(slow: float) -> ServerSide:
    seconds = np.arange(61.0)
    spike = np.clip((seconds - 25) / 4, 0, 1) * np.clip((47 - seconds) / 8, 0, 1)
    return ServerSide(
        every_s=1.0,
        resolution_s=2.0,
        sources=(
            ScrapedSource("vllm", "http://127.0.0.1:9000/metrics", 61, 61, 61, 0.012, ""),
            ScrapedSource("gpu", "http://127.0.0.1:9400/metrics", 61, 40, 38, 1.9, "timed out"),
        ),
        series=(
            _series("vllm", "waiting", "requests", np.round(40 * slow * np.maximum(spike - 0.4, 0))),
            _series("vllm", "kv_cache", "share", np.minimum(0.31 + 0.7 * slow * spike, 1.0)),
            _series("gpu", "gpu", "share", 0.42 + 0.5 * spike),
            _series("vllm", "vllm:prefix_cache_hits_total", "per_s", 3 + 9 * spike),
        ),
        saturated=(
            Saturation("vllm", "kv_cache", 0.95, 28.0, 13.0, -2.0),
            Saturation("vllm", "waiting", 1.0, 31.0, 12.0, -5.0),
        ),
    )


def sample_run(label: str = "build-a", slow: float = 1.0, seed: int = 1) -> RunSummary:
    """A valid run with two objectives; `slow` multiplies TTFT and E2E."""
    groups = tuple(_group(g, n, scale, slow, seed * 100) for g, (n, scale) in GROUPS.items())
    found = groups[0].metrics[0].quantile_ns[0.99]
    ttft = ObjectiveResult(Objective("ttft", 0.99, 320 * MS), found, found <= 320 * MS, 0.991, 0.9, 902)
    errors = ObjectiveResult(Objective("error_rate", None, 0.01), 12 / 1243, True, 0.99, 0.97, 1243)
    return RunSummary(
        label=label,
        target="http://127.0.0.1:9000",
        partial=False,
        mode="open",
        sender="session",
        sender_reason="its busiest second holds 24 requests, up to 300",
        scheduled=1243,
        sent=1243,
        ok=1231,
        aborted=0,
        duration_s=60.4,
        offered_per_s=20.6,
        achieved_per_s=20.6,
        error_rate=12 / 1243,
        input_tokens=512_402,
        output_tokens=148_220,
        goodput_per_s=19.8,
        lateness_quantile_ns={0.5: 10_200.0, 0.9: 22_000.0, 0.95: 25_400.0, 0.99: 126_000.0},
        lateness_max_ns=3_631_000.0,
        groups=groups,
        timeline=_timeline(slow, seed),
        validity=Validity(True, CHECKS),
        objectives=(ttft, errors),
        steps=("speed 5", "spike at=25s for=12s x=4 seed=1"),
        shed={429: 2, 503: 10},
        retry_after=RetryAfter(7, 1.0, 30.0),
        phases=(
            _phase("base", 36.4, 617, 3, (dataclasses.replace(ttft, attainment=0.999, burn=0.1), errors)),
            _phase("spike", 12.0, 423, 9, (dataclasses.replace(ttft, attainment=0.96, burn=4.0), errors)),
            _phase("recover", 12.0, 203, 0, (ttft,)),
        ),
        peaks=(_peak(slow),),
        server=_server(slow),
        cost=Cost(12.5, 0.21, 0.17, 0.175, 1.41, 0.318),
        heat=sample_heat(slow, seed),
        waterfall=sample_waterfall(1),
        distributions=tuple(
            _distribution(group.group, metric, slow, seed + i)
            for i, group in enumerate(groups)
            for metric in group.metrics
            if metric.clock == "due"
        ),
    )


def invalid_run(label: str = "build-b") -> RunSummary:
    """A run whose generator fell behind at the spike, and that was stopped early."""
    late = Check("lateness p99", False, "41.2 ms", "≤ 1.00 ms", CHECKS[1].why)
    busy = Check("generator CPU", False, "97 % of a core", "< 70 %", CHECKS[5].why)
    checks = (CHECKS[0], late, *CHECKS[2:5], busy)
    warnings = ("garbage collector paused the sender for up to 68 ms",)
    validity = Validity(False, checks, warnings)
    return dataclasses.replace(
        sample_run(label),
        validity=validity,
        partial=True,
        objectives=(),
        phases=(),
        peaks=(),
        server=None,
        cost=None,
    )


def _effect(group: Group, before: MetricSummary, quantile: float, size: float, seed: int) -> Effect:
    rng = np.random.default_rng(seed)
    baseline = before.quantile_ns[quantile]
    half = baseline * (0.012 if quantile < 0.9 else 0.03 if quantile < 0.99 else 0.075)
    effect = baseline * size + rng.normal(0, half / 4)
    tolerance = baseline * 0.02
    if effect - half > tolerance:
        verdict = Verdict.REGRESSION
    elif abs(effect) + half <= tolerance:
        verdict = Verdict.EQUIVALENT
    else:
        verdict = Verdict.INCONCLUSIVE
    return Effect(
        group=group,
        metric=before.metric,
        clock=before.clock,
        quantile=quantile,
        pairs=before.n,
        baseline_ns=baseline,
        candidate_ns=baseline + effect,
        effect_ns=effect,
        low_ns=effect - half,
        high_ns=effect + half,
        p_value=0.0004 if verdict is Verdict.REGRESSION else 0.61,
        minimum_detectable_ns=half * 1.4,
        noise_floor_ns=baseline * 0.008,
        tolerance_ns=tolerance,
        verdict=verdict,
        pairs_needed=int(before.n * 12 * half / baseline / 0.02) if verdict is Verdict.INCONCLUSIVE else None,
    )


def _locations() -> tuple[Location, ...]:
    chat = Group("endpoint", CHAT)
    bands = (
        ("prompt length", "below 512 tokens", 402, 0.021, 0.36, 0.0004, False),
        ("prompt length", "512 tokens and more", 500, 0.36, 0.021, 0.0004, True),
        ("session turn", "1", 600, 0.29, 0.31, 0.8, False),
        ("session turn", "2 and more", 302, 0.31, 0.29, 0.8, False),
    )
    found = [
        Location(chat, "ttft", TYPICAL, dimension, band, n, size, size - 0.05, size + 0.05, other, p, out)
        for dimension, band, n, size, other, p, out in bands
    ]
    even = Location(
        chat, "tpot", SLOWED, "phase", "spike", 300, 0.01, math.nan, math.nan, 0.01, math.nan, False
    )
    return (*found, even)


def _request(index: int, *, failing: bool = False) -> ChangedRequest:
    def line(first_ms: float, end_ms: float, error: str = "") -> RequestTimeline:
        due = index * 1.5e9
        first = math.nan if error else due + first_ms * MS
        reads = () if error else tuple(np.linspace(first, due + end_ms * MS, 12).tolist())
        tokens = math.nan if error else 24.0
        end = due + end_ms * MS
        return RequestTimeline(
            due,
            due + 0.02 * MS,
            first,
            first,
            reads,
            len(reads),
            end,
            0 if error else 200,
            error,
            tokens,
            True,
        )

    return ChangedRequest(
        request_id=f"9f8b7c6d-{index:08}",
        copy=index % 2,
        endpoint=CHAT,
        model="llama-3.1-8b-instruct",
        phase="base",
        input_tokens=800.0 + index,
        change_ns=math.nan if failing else (900 - 60 * index) * MS,
        baseline=line(120, 700),
        candidate=line(310, 60, "reset") if failing else line(310, 1600 - 60 * index),
    )


def _answers() -> tuple[AnswerChange, ...]:
    nan, whole, chat = math.nan, Group("all", ""), Group("endpoint", CHAT)
    return (
        AnswerChange(chat, "output tokens", 148_220, 131_002, -0.116, -0.14, -0.09, 0.004, 902, 0.0003, True,
                     Verdict.REGRESSION),
        AnswerChange(whole, "answered/s", 20.6, 20.5, -0.005, -0.011, 0.002, nan, 1240, 0.4, False,
                     Verdict.EQUIVALENT),
        AnswerChange(whole, "finish reason length", 12, 96, 7.0, nan, nan, nan, 902, 0.0001, True,
                     Verdict.INCONCLUSIVE),
    )  # fmt: skip


def _bodies() -> tuple[BodyChange, ...]:
    return (
        BodyChange("whole body", 1240, 1.0, 1.0, 1.0, False),
        BodyChange("$.outputs[].data[]", 1240, 0.081, 0.0, 0.0001, True),
        BodyChange("$.id", 1240, 1.0, 1.0, 1.0, False),
    )


def sample_diff() -> DiffResult:
    """A regression of TTFT (and so of E2E) in everything that streams, with one change of failures."""
    baseline, candidate = sample_run(), sample_run("build-b", slow=1.3, seed=2)
    sizes = {"ttft": 0.3, "e2e": 0.06, "itl": 0.0, "tpot": 0.0}
    effects = tuple(
        _effect(g.group, m, q, sizes[m.metric] if m.metric != "e2e" or g.group.name != "" else 0.05, 50 + i)
        for g in baseline.groups
        for i, m in enumerate(g.metrics)
        for q in QUANTILES
    )
    return DiffResult(
        baseline=baseline,
        candidate=candidate,
        verdict=Verdict.REGRESSION,
        reasons=(
            f"{CHAT}: TTFT p50 is 30 % slower (104 → 136 ms), far beyond the tolerance of 2 %.",
            "Over all requests TTFT is slower at every quantile; ITL and TPOT are not.",
        ),
        effects=effects,
        outcome_changes=(
            OutcomeChange(Group("all", ""), "errors", 12, 14, 1240, 0.55, Verdict.EQUIVALENT),
            OutcomeChange(Group("endpoint", CHAT), "HTTP 5xx", 6, 31, 902, 0.0002, Verdict.REGRESSION),
        ),
        pairs=1240,
        unpaired_baseline=3,
        unpaired_candidate=0,
        tolerance=0.02,
        block_s=4.2,
        resamples=2000,
        seed=1,
        warnings=("one run per build: differences between two starts of one build can't be told apart",),
        locations=_locations(),
        changed_requests=(_request(3, failing=True), *(_request(index) for index in range(1, 4))),
        tails=(
            TailChange(
                Group("endpoint", CHAT),
                "ttft",
                902,
                96,
                4,
                0.102,
                0.07,
                0.13,
                0.011,
                0.0001,
                Verdict.REGRESSION,
            ),
            TailChange(
                Group("endpoint", "POST /v1/embeddings"),
                "e2e",
                241,
                3,
                4,
                -0.004,
                math.nan,
                math.nan,
                0.05,
                math.nan,
                Verdict.INCONCLUSIVE,
            ),
        ),
        answers=_answers(),
        bodies=_bodies(),
        waterfall=sample_waterfall(2),
        shifts=tuple(
            _shift(one.group, one, 1.3 if one.metric in ("ttft", "e2e") else 1.0, i)
            for i, one in enumerate(baseline.distributions)
        ),
    )


HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>&\"'`%{x}"


def hostile_diff() -> DiffResult:
    """A comparison in which every text that a user or a server supplies tries to break out."""
    diff = sample_diff()
    group = Group("model", HOSTILE)
    check = Check(HOSTILE, False, HOSTILE, HOSTILE, HOSTILE)

    def spoiled_server(server: ServerSide | None) -> ServerSide:
        assert server is not None
        series = dataclasses.replace(server.series[0], source=HOSTILE, quantity=HOSTILE)
        source = ScrapedSource(HOSTILE, HOSTILE, 3, 3, 0, 0.1, HOSTILE)
        return dataclasses.replace(server, sources=(source,), series=(*server.series, series))

    def spoil(run: RunSummary) -> RunSummary:
        groups = (*run.groups, dataclasses.replace(run.groups[1], group=group, errors={HOSTILE: 3}))
        timeline = dataclasses.replace(run.timeline, phases=((HOSTILE, 25.0, 37.0),))
        phases = tuple(dataclasses.replace(phase, phase=HOSTILE) for phase in run.phases)
        return dataclasses.replace(
            run,
            label=HOSTILE,
            target=HOSTILE,
            groups=groups,
            timeline=timeline,
            phases=phases,
            peaks=(dataclasses.replace(run.peaks[0], phase=HOSTILE),),
            server=spoiled_server(run.server),
            steps=(HOSTILE,),
            distributions=(*run.distributions, dataclasses.replace(run.distributions[0], group=group)),
            validity=Validity(True, (*run.validity.checks, check), (HOSTILE,)),
        )

    return dataclasses.replace(
        diff,
        baseline=spoil(diff.baseline),
        candidate=spoil(diff.candidate),
        reasons=(HOSTILE,),
        warnings=(HOSTILE,),
        effects=(*diff.effects, dataclasses.replace(diff.effects[0], group=group)),
        outcome_changes=(dataclasses.replace(diff.outcome_changes[0], group=group, kind=HOSTILE),),
        locations=(dataclasses.replace(diff.locations[1], parent=group, dimension=HOSTILE, band=HOSTILE),),
        changed_requests=(
            dataclasses.replace(
                diff.changed_requests[0], request_id=HOSTILE, endpoint=HOSTILE, model=HOSTILE
            ),
        ),
        tails=(dataclasses.replace(diff.tails[0], group=group),),
        answers=(dataclasses.replace(diff.answers[0], group=group, measure=HOSTILE),),
        bodies=(dataclasses.replace(diff.bodies[1], path=HOSTILE),),
        waterfall=spoiled_waterfall(HOSTILE),
        shifts=(dataclasses.replace(diff.shifts[0], group=group),),
    )
