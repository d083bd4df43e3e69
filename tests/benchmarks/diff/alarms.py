"""How often verdicts are wrong, ours and others': `python tests/benchmarks/diff/alarms.py -o FILE`.

The truth is known: two arms of one model server under one schedule. Each comparison is whole, from runs to
the one verdict. Two runs of one build say, before any candidate exists, the smallest change that a diff of
such runs could see. Then comes the same build again (A/A); a candidate whose prefill is slower by exactly
that, and by 3, 5 and 10 %; one that slows 1 request in 50 three times, and one that slows as many as were
said to be visible. Beside, on the same arms: a bootstrap of single requests, Mann–Whitney's test on pooled
latencies, and a threshold of 5 % on p50 and p99.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "analysis"))

from latency_models import Workload, autoregressive, queueing, workload  # noqa: E402
from made_runs import CHAT  # noqa: E402

from replay.analysis.bootstrap import stationary_multiplicities  # noqa: E402
from replay.analysis.change_values import TailChange  # noqa: E402
from replay.analysis.diff import Noise, compare, measure_noise  # noqa: E402
from replay.analysis.effects import estimates  # noqa: E402
from replay.analysis.metrics import Latencies  # noqa: E402
from replay.analysis.pairing import BlockLength, pair  # noqa: E402
from replay.analysis.run_table import RunTable  # noqa: E402
from replay.analysis.values import DiffResult, Effect, Verdict  # noqa: E402
from replay.analysis.verdicts import judge_effects  # noqa: E402

RESAMPLES = 200
TOLERANCE = 0.02
SCALE = 5.0
"""Prefills of 300 ms, so that the resolution of timers (2 ms) is small beside 3 %."""

type Arm = Callable[[Workload, np.random.Generator, float], RunTable]


def wandering(load: Workload, rng: np.random.Generator, factor: float, wander: float = 0.06) -> RunTable:
    """Log-latency wanders by 6 % with a correlation time of 1 s: lag-1 autocorrelation .98 at 60/s."""
    return autoregressive(load, rng, prefill_factor=factor, time_constant_s=1.0, wander=wander, jitter=0.08)


def queued(load: Workload, rng: np.random.Generator, factor: float) -> RunTable:
    """A server of slots, 60 % busy: chance delays pile up and decay."""
    return queueing(load, rng, prefill_factor=factor, slots=27)


def busy(load: Workload, rng: np.random.Generator, factor: float) -> RunTable:
    """85 % busy, and how long a request holds its slot differs by half from run to run.

    As that of an answer does whose tokens are sampled: its length is another each time.
    """
    return queueing(load, rng, prefill_factor=factor, slots=19, jitter=0.5)


SERVERS: dict[str, Arm] = {
    "wandering": wandering,
    "steady": functools.partial(wandering, wander=0.02),
    "queued": queued,
    "busy": busy,
}


@dataclasses.dataclass(frozen=True)
class Change:
    """What is done to a candidate: every prefill `slower` by this, a `share` of all three times slower."""

    slower: float = 0.0
    share: float = 0.0

    def run(self, server: str, load: Workload, rng: np.random.Generator) -> RunTable:
        """A run of such a candidate; which requests are slowed is a matter of the schedule."""
        hit = np.random.default_rng(int(load.due_ns[0])).random(len(load.due_ns)) < self.share
        asked = dataclasses.replace(load, prefill_ns=load.prefill_ns * np.where(hit, 3.0, 1.0))
        return SERVERS[server](asked, rng, 1.0 + self.slower)


SAME = "same build"
VISIBLE = "+ what was visible"
VISIBLE_SHARE = "the visible share, 3x"


def loaded(seed: int, seconds: float) -> Workload:
    load = workload(np.random.default_rng(seed), seconds=seconds)
    return dataclasses.replace(load, prefill_ns=load.prefill_ns * SCALE)


def our_diff(before: RunTable, after: RunTable, seed: int, noise: Noise) -> DiffResult:
    return compare(
        before,
        after,
        tolerance=TOLERANCE,
        rng=np.random.default_rng(seed),
        resamples=RESAMPLES,
        noise=noise,
    )


@dataclasses.dataclass(frozen=True)
class Beforehand:
    """What `diff --same-build` of two runs says: their noise, and what another diff could see (shares)."""

    noise: Noise
    visible: float
    visible_share: float


def beforehand(first: RunTable, second: RunTable, seed: int) -> Beforehand:
    """Of chats' TTFT: its p50, and the share of chats slowed by half."""
    noise = measure_noise(first, second, tolerance=TOLERANCE, resamples=RESAMPLES, seed=seed)
    same = our_diff(first, second, seed, noise)
    median, tail = chats_median(same.effects), chats_tail(same.tails)
    return Beforehand(noise, median.minimum_detectable_ns / median.baseline_ns, tail.minimum_detectable_ratio)


def single_requests(before: RunTable, after: RunTable, seed: int) -> bool:
    """The same estimates, by a bootstrap of single requests; significance alone, Holm over the family."""
    pairs = pair(before, after)
    pairs = dataclasses.replace(pairs, cell=np.arange(len(pairs)), cells=len(pairs))
    drawn = stationary_multiplicities(len(pairs), 1.0, 200, np.random.default_rng(seed))
    found = estimates(pairs, Latencies(before), Latencies(after), drawn, BlockLength(1.0, False, 0.0))
    none = {(e.group, e.metric, e.clock, e.quantile): 0.0 for e in found}
    return any(effect.verdict is Verdict.REGRESSION for effect in judge_effects(found, 0.0, none))


def mann_whitney(before: RunTable, after: RunTable) -> bool:
    """E2E of each endpoint, all requests pooled, p < 0.05."""
    return any(
        float(stats.mannwhitneyu(one, other, alternative="less").pvalue) < 0.05
        for one, other in _by_endpoint(before, after)
    )


def threshold(before: RunTable, after: RunTable) -> bool:
    """Any endpoint's p50 or p99 of E2E up by more than 5 %."""
    return any(
        bool((np.quantile(other, (0.5, 0.99)) > 1.05 * np.quantile(one, (0.5, 0.99))).any())
        for one, other in _by_endpoint(before, after)
    )


def _by_endpoint(before: RunTable, after: RunTable) -> list[tuple[np.ndarray, np.ndarray]]:
    one, other = (Latencies(run).e2e_ns("due") for run in (before, after))
    names = before.endpoint.names
    return [(one[before.endpoint.mask(name)], other[after.endpoint.mask(name)]) for name in names]


def chats_median(effects: Sequence[Effect]) -> Effect:
    """That of the p50 of chats' TTFT, from due."""
    return next(
        e for e in effects if (e.group.name, e.metric, e.clock, e.quantile) == (CHAT, "ttft", "due", 0.5)
    )


def chats_tail(tails: Sequence[TailChange]) -> TailChange:
    """That of the chats whose TTFT is longer by half."""
    return next(t for t in tails if (t.group.name, t.metric) == (CHAT, "ttft"))


@dataclasses.dataclass
class Tally:
    """Of one kind of candidate, per diff: what was visible, and whether who called a regression."""

    visible: list[float] = dataclasses.field(default_factory=list)
    ours: list[bool] = dataclasses.field(default_factory=list)
    very: list[bool] = dataclasses.field(default_factory=list)
    """The very figure of which it was said what is visible was called."""
    same: list[bool] = dataclasses.field(default_factory=list)
    """The verdict was that both are equivalent."""
    plain: list[bool] = dataclasses.field(default_factory=list)
    ranks: list[bool] = dataclasses.field(default_factory=list)
    limit: list[bool] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Study:
    """One server and length of run: tallies by what was done to the candidate."""

    name: str
    seconds: float
    plain: int
    changes: list[str] | None = None
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)

    def once(self, seed: int, *, slower: bool) -> None:
        """Candidates are judged by the floors of the first two runs: nothing is used twice."""
        load = loaded(seed, self.seconds)
        first, second = (self._run(Change(), load, seed, n) for n in range(2))
        said = beforehand(first, second, seed)
        changes = {
            SAME: Change(),
            "+3 %": Change(0.03),
            "+5 %": Change(0.05),
            "+10 %": Change(0.10),
            VISIBLE: Change(said.visible),
            "1 in 50, 3x": Change(share=0.02),
            VISIBLE_SHARE: Change(share=said.visible_share),
        }
        for n, (name, change) in enumerate(changes.items()):
            asked = (self.changes is None or name in self.changes) and (slower or name == SAME)
            if asked and np.isfinite(change.slower):
                self._judge(name, change, first, self._run(change, load, seed, 2 + n), seed, said)

    def _run(self, change: Change, load: Workload, seed: int, n: int) -> RunTable:
        return change.run(self.name, load, np.random.default_rng([seed, n]))

    def _judge(
        self, name: str, change: Change, before: RunTable, after: RunTable, seed: int, said: Beforehand
    ) -> None:
        tally, found = self.tallies.setdefault(name, Tally()), our_diff(before, after, seed, said.noise)
        very = chats_tail(found.tails) if change.share else chats_median(found.effects)
        tally.visible.append(said.visible_share if change.share else said.visible)
        tally.ours.append(found.verdict is Verdict.REGRESSION)
        tally.very.append(very.verdict is Verdict.REGRESSION)
        tally.same.append(found.verdict is Verdict.EQUIVALENT)
        if len(tally.plain) < self.plain:
            tally.plain.append(single_requests(before, after, seed))
        tally.ranks.append(mann_whitney(before, after))
        tally.limit.append(threshold(before, after))


def lower_bound(called: Sequence[bool]) -> float:
    """Clopper and Pearson's, of 95 %."""
    k = sum(called)
    return float(stats.beta.ppf(0.05, k, len(called) - k + 1)) if k else 0.0


def upper_bound(called: Sequence[bool]) -> float:
    """Clopper and Pearson's, of 95 %."""
    k = sum(called)
    return float(stats.beta.ppf(0.95, k + 1, len(called) - k)) if k < len(called) else 1.0


def rows(found: Study) -> list[str]:
    """One line a change: called by us, with the bound of 95 %, and by the others."""
    lines = []
    for change, tally in found.tallies.items():
        bound, sign = (upper_bound, "≤") if change == SAME else (lower_bound, "≥")
        cells = [
            f"{found.name}, {found.seconds:g} s",
            change,
            f"{100 * np.median(tally.visible):.1f} %",
            str(len(tally.ours)),
            *(f"{_percent(each)} ({sign} {100 * bound(each):.1f} %)" for each in (tally.ours, tally.very)),
            *(_percent(each) for each in (tally.same, tally.plain, tally.ranks, tally.limit)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _percent(called: Sequence[bool]) -> str:
    return f"{100 * np.mean(called):.3g} %" if called else "–"


def notes(found: Study) -> list[str]:
    """By how much was promised: the quarter with the least, and where the change itself was visible."""
    lines = []
    for change, tally in found.tallies.items():
        visible, ours = np.array(tally.visible), np.array(tally.ours)
        if change in (VISIBLE, VISIBLE_SHARE):
            least = ours[visible <= np.quantile(visible, 0.25)]
            lines.append(f"{change}: of the quarter that was promised most, {_share(least)}")
        elif change in ("+3 %", "+5 %", "+10 %"):
            seen = ours[visible <= float(change.strip("+ %")) / 100]
            lines.append(f"{change}: where it was said to be visible, {_share(seen)}")
    return lines


def _share(called: np.ndarray) -> str:
    return f"{called.sum()} of {len(called)} called (≥ {100 * lower_bound(list(called)):.0f} %)"


HEAD = (
    "| server, run | candidate | visible beforehand | diffs | peaktape (95 % bound) | in the very figure "
    "| called equivalent | bootstrap of requests | Mann–Whitney | threshold 5 % |\n" + "|---" * 10 + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--powers", type=int, default=40, help="of these, how many with slower candidates")
    parser.add_argument("--plain", type=int, default=20, help="of each, how many by single requests too")
    parser.add_argument("--changes", nargs="*", help="only these candidates, as the table names them")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server", choices=list(SERVERS), default="wandering")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="written anew after each diff")
    given = parser.parse_args()
    found = Study(given.server, given.seconds, given.plain, given.changes)
    for n in range(given.times):
        found.once(given.first_seed + n, slower=n < given.powers)
        text = "\n".join([HEAD, *rows(found), "", *notes(found)])
        if given.output:
            given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
