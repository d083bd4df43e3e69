"""Hold-outs of amplification on traffic of many kinds, real and made, as RESULTS.md has them.

`python tests/benchmarks/amplification/others.py [KIND…]`; without kinds, all. Made traffic is one draw of a
known process. It needs the public traces beside the checkout (see tests/importers/real_files.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

sys.path[:0] = [str(Path(__file__).parents[3])]

from replay.transform.client_table import read_client_tables  # noqa: E402
from replay.transform.rows import Rows  # noqa: E402
from replay.transform.session_starts import draw_starts  # noqa: E402
from tests.benchmarks.amplification.holdouts import print_hold_outs  # noqa: E402
from tests.importers.real_files import real  # noqa: E402
from tests.transform.made_arrivals import S, rows_at  # noqa: E402
from tests.transform.test_holdout import nasa_hosts  # noqa: E402

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

HOUR_S: Final = 3600
FACTORS: Final = (1.5, 2, 4, 10, 50)


def main() -> None:
    """Print one table per kind of traffic: those named as arguments, or all."""
    for kind in sys.argv[1:] or KINDS:
        rows = KINDS[kind]()
        sessions = len(np.unique(rows.session))
        print(f"\n{kind}: {len(rows):,} requests, {sessions:,} sessions\n")
        print_hold_outs(rows, [("auto", factor) for factor in FACTORS if len(rows) >= 100 * factor])


def lone(at_s: Float64) -> Rows:
    """Requests at `at_s`, a session each."""
    return rows_at((at_s * S).astype(np.int64), np.arange(len(at_s)))


def mooncake() -> Rows:
    """12,031 requests of an hour, a session each; spread over the 3 s that their clock gives."""
    lines = real("mooncake-fast25/conversation_trace.jsonl").read_text().splitlines()
    at_s = np.array([json.loads(line)["timestamp"] for line in lines]) / 1000
    at_s += np.random.default_rng(0).random(len(at_s)) * 3
    return lone(np.sort(at_s - at_s.min()))


def nasa_requests() -> Rows:
    """The NASA trace with no sessions known: its hosts' bursts are taken for the rate's."""
    rows = nasa_hosts()
    return rows_at(rows.due_ns, np.arange(len(rows)))


def servegen() -> Rows:
    """An hour of 73 clients with their own rates and Gamma or Weibull gaps; each request is a session."""
    rng = np.random.default_rng(3)
    folder = real("servegen/deepseek-r1")
    at_ns = np.concatenate([draw_starts(one, rng) for one in read_client_tables(folder).arrivals])
    at_s = np.sort(at_ns) / S - 14 * HOUR_S
    return lone(at_s[(at_s >= 0) & (at_s < HOUR_S)])


def poisson() -> Rows:
    """5/s, no rate curve and no sessions."""
    return lone(_under(np.ones(HOUR_S), 5 * HOUR_S, 1))


def gamma_gaps(cv: float) -> Rows:
    """A renewal process with Gamma gaps, 5/s, as BurstGPT has them."""
    gaps = np.random.default_rng(1).gamma(1 / cv**2, cv**2 / 5, 6 * 5 * HOUR_S)
    at_s = np.cumsum(gaps)
    return lone(at_s[at_s < HOUR_S])


def two_rates() -> Rows:
    """A Markov-modulated Poisson process: 2/s for some 30 s, 20/s for some 5 s, and so on."""
    rng = np.random.default_rng(1)
    lasts_s = rng.exponential(1, 400) * np.tile([30.0, 5.0], 200)
    level = np.repeat(np.tile([2.0, 20.0], 200), np.rint(lasts_s * 10).astype(int))[: HOUR_S * 10]
    return lone(_under(level, round(level.sum() / 10), 2))


def wandering() -> Rows:
    """A log-normal rate with a memory of 20 s."""
    level = lfilter([1], [1, -(1 - 1 / 200)], np.random.default_rng(1).normal(size=HOUR_S * 10) * 0.08)
    return lone(_under(np.exp(level), 18_000, 2))


def day() -> Rows:
    """100,000 requests of a day, with a night, under a rate that wanders within ten minutes, too."""
    seconds = np.arange(86_400)
    noise = lfilter([1], [1, -(1 - 1 / 600)], np.random.default_rng(1).normal(size=86_400) * 0.0173)
    return lone(_under(np.exp(noise) * (1 - 0.7 * np.cos(2 * np.pi * seconds / 86_400)), 100_000, 2))


def every_minute() -> Rows:
    """A batch of some 60 within the first second of each minute, over 4/s."""
    level = np.full(HOUR_S, 4.0)
    level[::60] += 60
    return lone(_under(level, round(level.sum()), 1))


def on_a_clock(period_s: int, batch: int, span_s: int = HOUR_S, base: float = 4.0) -> Rows:
    """A batch of some `batch` within the first second of each period, over `base`/s."""
    level = np.full(span_s, base)
    level[::period_s] += batch
    return lone(_under(level, round(level.sum()), 1))


def cron_and_people() -> Rows:
    """A rate of some 3.3/s that wanders, 30 within 0.3 s each minute, 100 within 2 s each fifth."""
    rng = np.random.default_rng(7)
    wander = np.exp(lfilter([1], [1, -(1 - 1 / 200)], rng.normal(size=HOUR_S * 10) * 0.08))
    tenths = np.arange(HOUR_S * 10)
    level = wander / wander.mean() * 3.3
    level[tenths % 600 < 3] += 100
    level[tenths % 3000 < 20] += 50
    return lone(_under(level, round(level.sum() / 10), 1))


def flash_crowd() -> Rows:
    """4/s, and 3,000 more that come at once and fade within a minute or two."""
    level = np.full(HOUR_S, 4.0)
    level[1800:] += 100 * np.exp(-np.arange(1800) / 30)
    return lone(_under(level, round(level.sum()), 1))


def chats(known: bool) -> Rows:
    """Sessions begun once a second, of 5 requests on average some 4 s apart; `known` as such, or not."""
    rng = np.random.default_rng(1)
    starts_s = _under(np.ones(HOUR_S), HOUR_S, 2)
    return _sessions(starts_s, rng.geometric(1 / 5, len(starts_s)), lambda n: rng.exponential(4, n), known)


def storms() -> Rows:
    """Bursts with Pareto sizes (1.2), up to 400 requests within seconds; each request is a session."""
    rng = np.random.default_rng(4)
    starts_s = _under(np.ones(HOUR_S), 2000, 5)
    sizes = np.minimum(1 + rng.pareto(1.2, len(starts_s)), 400).astype(int)
    return _sessions(starts_s, sizes, lambda n: rng.exponential(0.1, n), False)


def heavy_sessions() -> Rows:
    """Sessions with Pareto lengths (1.4), begun under a rate curve of two hours: self-similar traffic."""
    rng = np.random.default_rng(1)
    level = 1 + 0.6 * np.sin(np.arange(2 * HOUR_S) / 900)
    starts_s = _under(level, 3000, 2)
    turns = np.minimum(1 + rng.pareto(1.4, len(starts_s)), 500).astype(int)
    return _sessions(starts_s, turns, lambda n: rng.exponential(3, n), True, 2 * HOUR_S)


def one_giant() -> Rows:
    """Chats, and one session of 4,000 requests beside them that lasts as long as the trace."""
    rows = chats(True)
    giant = np.random.default_rng(3).integers(0, HOUR_S * S, 4000)
    _, whose = np.unique(rows.session, return_inverse=True)
    return rows_at(np.r_[rows.due_ns, giant], np.r_[whose, np.full(4000, whose.max() + 1)])


def _under(level: Float64, requests: int, seed: int) -> Float64:
    """About so many Poisson instants in s, ascending, under a rate given in each second (or part of one)."""
    rng = np.random.default_rng(seed)
    span_s = len(level) if len(level) <= 2 * HOUR_S or len(level) == 86_400 else len(level) / 10
    passed = np.r_[0, np.cumsum(level)] / level.sum()
    drawn = np.sort(rng.random(rng.poisson(requests)))
    return np.interp(drawn, passed, np.linspace(0, span_s, len(level) + 1))


def _sessions(
    starts_s: Float64, turns: Int64, gaps_s: Callable[[int], Float64], known: bool, span_s: int = HOUR_S
) -> Rows:
    whose = np.repeat(np.arange(len(starts_s)), turns)
    first = np.cumsum(turns) - turns
    passed = np.cumsum(gaps_s(len(whose)))
    at_s = starts_s[whose] + passed - passed[first][whose]
    kept = at_s < span_s
    rows = rows_at((at_s[kept] * S).astype(np.int64), whose[kept])
    return rows if known else rows_at(rows.due_ns, np.arange(len(rows)))


KINDS: Final[dict[str, Callable[[], Rows]]] = {
    "Mooncake": mooncake,
    "NASA, no hosts known": nasa_requests,
    "ServeGen, one hour": servegen,
    "Poisson": poisson,
    "Gamma gaps, CV 2": lambda: gamma_gaps(2),
    "Gamma gaps, CV 5": lambda: gamma_gaps(5),
    "two rates": two_rates,
    "wandering rate": wandering,
    "a day": day,
    "every minute": every_minute,
    "every ten seconds": lambda: on_a_clock(10, 10),
    "every five minutes": lambda: on_a_clock(300, 300),
    "on the hour, a day": lambda: on_a_clock(3600, 600, 24 * HOUR_S, 0.25),
    "cron and people": cron_and_people,
    "flash crowd": flash_crowd,
    "chats": lambda: chats(True),
    "chats, not known as such": lambda: chats(False),
    "storms": storms,
    "heavy sessions": heavy_sessions,
    "one giant session": one_giant,
}

if __name__ == "__main__":
    main()
