"""What a page shows over time beside its lines, to format: counts of latencies, and single requests."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from replay.analysis.change_values import RequestTimeline
from replay.analysis.heat_map import heat_map
from replay.analysis.metrics import Sample
from replay.analysis.time_values import FAILED, SAMPLED, SLOWEST, HeatMap, ShownRequest, Waterfall, Window

MS = 1e6
SECONDS = 60
CHAT = "POST /v1/chat/completions"


def sample_heat(slow: float, seed: int) -> tuple[HeatMap, ...]:
    """E2E and TTFT of 1,200 requests over a minute, slower in a spike."""
    rng = np.random.default_rng(seed)
    due_ns = np.sort(rng.uniform(0, SECONDS, 1200)) * 1e9
    busy = 1 + 0.8 * ((due_ns > 25e9) & (due_ns < 37e9))
    found = []
    for metric, median_ms, spread in (("e2e", 840.0, 0.6), ("ttft", 95.0, 0.45)):
        values_ns = rng.lognormal(math.log(median_ms * slow), spread, len(due_ns)) * MS * busy
        sample = Sample(values_ns, np.arange(len(due_ns)))
        one = heat_map(metric, sample, due_ns, 1.0, SECONDS)
        assert one is not None
        found.append(one)
    return tuple(found)


def sample_waterfall(runs: int, *, windows: int = 12, due: int = 100, shown: int = 4) -> Waterfall:
    """Windows of five seconds, with `shown` of `due` requests each; the last of a window fails."""
    reasons = (SLOWEST, SLOWEST, SAMPLED, FAILED)
    made = [
        Window(due, tuple(_request(window, at, runs, reasons[at % 4]) for at in range(shown)))
        for window in range(windows)
    ]
    return Waterfall(5.0, tuple(made), runs == 2)


def spoiled_waterfall(text: str) -> Waterfall:
    """One window of one pair, whose every word is `text`."""
    whole = sample_waterfall(2, windows=1, due=1, shown=1)
    (request,) = whole.windows[0].shown
    lines = tuple(dataclasses.replace(line, error=text) for line in request.lines)
    request = dataclasses.replace(
        request, request_id=text, endpoint=text, model=text, phase=text, lines=lines
    )
    return dataclasses.replace(whole, windows=(Window(1, (request,)),))


def _request(window: int, at: int, runs: int, why: str) -> ShownRequest:
    due_ns = (5.0 * window + at) * 1e9
    return ShownRequest(
        request_id=f"9f8b7c6d-{window:04}-{at:04}",
        copy=at % 2,
        endpoint=CHAT,
        model="llama-3.1-8b-instruct",
        phase="base",
        input_tokens=800.0 + at,
        why=why,
        lines=tuple(
            _line(due_ns, 1 + 0.3 * run + 0.1 * window, failing=why == FAILED) for run in range(runs)
        ),
    )


def _line(due_ns: float, slow: float, *, failing: bool) -> RequestTimeline:
    first_ns = math.nan if failing else due_ns + 110 * slow * MS
    end_ns = due_ns + (80 if failing else 900 * slow) * MS
    reads = () if failing else tuple(np.linspace(first_ns, end_ns, 24).tolist())
    return RequestTimeline(
        due_ns=due_ns,
        sent_ns=due_ns + 0.03 * MS,
        first_byte_ns=first_ns,
        first_token_ns=first_ns,
        read_ns=reads,
        reads=len(reads),
        end_ns=end_ns,
        status=0 if failing else 200,
        error="reset" if failing else "",
        output_tokens=math.nan if failing else 24.0,
        connection_reused=True,
    )
