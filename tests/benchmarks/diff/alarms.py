"""How often verdicts are wrong, ours and others': `python tests/benchmarks/diff/alarms.py -o FILE`.

The truth is known: two arms of one model server under one schedule. Each comparison is whole, from runs to
the one verdict. First the same build twice (A/A), which also says, before any candidate exists, the smallest
change that a diff of such runs could see. Then a candidate whose prefill is slower by exactly that, and by
3, 5 and 10 %; and one that slows 1 request in 50 three times. Beside, on the same arms: a bootstrap of single
requests, Mann–Whitney's test on pooled latencies, and a threshold of 5 % on p50 and p99.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "analysis"))

from latency_models import Workload, autoregressive, queueing, workload  # noqa: E402
from made_runs import CHAT  # noqa: E402

from replay.analysis.bootstrap import stationary_multiplicities  # noqa: E402
from replay.analysis.diff import compare  # noqa: E402
from replay.analysis.effects import estimates  # noqa: E402
from replay.analysis.metrics import Latencies  # noqa: E402
from replay.analysis.pairing import BlockLength, block_length, pair  # noqa: E402
from replay.analysis.run_table import RunTable  # noqa: E402
from replay.analysis.values import DiffResult, Effect, Verdict  # noqa: E402
from replay.analysis.verdicts import FloorKey, judge_effects, measured_floors_ns  # noqa: E402

RESAMPLES = 200
TOLERANCE = 0.02
SCALE = 5.0
"""Prefills of 300 ms, so that the resolution of timers (2 ms) is small beside 3 %."""

type Arm = Callable[[Workload, np.random.Generator, float, float], RunTable]


def wandering(
    load: Workload, rng: np.random.Generator, factor: float, tail: float, wander: float = 0.06
) -> RunTable:
    """Log-latency wanders by 6 % with a correlation time of 1 s: lag-1 autocorrelation .98 at 60/s."""
    slowed = np.where(np.random.default_rng(int(load.due_ns[0])).random(len(load.due_ns)) < 0.02, tail, 1.0)
    spoiled = dataclasses.replace(load, prefill_ns=load.prefill_ns * slowed)
    return autoregressive(
        spoiled, rng, prefill_factor=factor, time_constant_s=1.0, wander=wander, jitter=0.08
    )


def queued(load: Workload, rng: np.random.Generator, factor: float, tail: float) -> RunTable:
    """A server of slots, 60 % busy: chance delays pile up and decay."""
    slowed = np.where(np.random.default_rng(int(load.due_ns[0])).random(len(load.due_ns)) < 0.02, tail, 1.0)
    spoiled = dataclasses.replace(load, prefill_ns=load.prefill_ns * slowed)
    return queueing(spoiled, rng, prefill_factor=factor, slots=27)


SERVERS: dict[str, Arm] = {
    "wandering": wandering,
    "steady": functools.partial(wandering, wander=0.02),
    "queued": queued,
}


def loaded(seed: int, seconds: float) -> Workload:
    load = workload(np.random.default_rng(seed), seconds=seconds)
    return dataclasses.replace(load, prefill_ns=load.prefill_ns * SCALE)


def our_diff(before: RunTable, after: RunTable, seed: int, floors: dict[FloorKey, float]) -> DiffResult:
    return compare(
        before,
        after,
        tolerance=TOLERANCE,
        rng=np.random.default_rng(seed),
        resamples=RESAMPLES,
        noise_floor_ns=floors,
    )


def floors_of(first: RunTable, second: RunTable, seed: int) -> dict[FloorKey, float]:
    """What `--same-build` measures, once for all diffs with the same two runs."""
    pairs, before, after = pair(first, second), Latencies(first), Latencies(second)
    length = block_length(pairs, before, after)
    drawn = stationary_multiplicities(pairs.cells, length.cells, RESAMPLES, np.random.default_rng(seed))
    return measured_floors_ns(estimates(pairs, before, after, drawn, length))


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


def seen_beforehand(same: DiffResult, quantile: float) -> float:
    """The smallest change of chats' TTFT that the diff of two runs of one build could see, a share."""
    effect = next(e for e in same.effects if _is(e, quantile))
    return effect.minimum_detectable_ns / effect.baseline_ns


def tail_seen_beforehand(same: DiffResult) -> float:
    """The smallest share of chats slowed by half that the diff of two runs of one build could see."""
    (tail,) = [t for t in same.tails if (t.group.name, t.metric) == (CHAT, "ttft")]
    return tail.minimum_detectable_ratio


def _is(effect: Effect, quantile: float) -> bool:
    return (effect.group.name, effect.metric, effect.clock, effect.quantile) == (
        CHAT,
        "ttft",
        "due",
        quantile,
    )


@dataclasses.dataclass
class Tally:
    """Regressions called per judge, of `times`."""

    most_plain: int
    times: int = 0
    ours: int = 0
    plain: int = 0
    plain_times: int = 0
    ranks: int = 0
    limit: int = 0

    def add(self, ours: bool, before: RunTable, after: RunTable, seed: int) -> None:
        self.times += 1
        self.ours += ours
        if self.plain_times < self.most_plain:
            self.plain += single_requests(before, after, seed)
            self.plain_times += 1
        self.ranks += mann_whitney(before, after)
        self.limit += threshold(before, after)


@dataclasses.dataclass
class Study:
    """One server and length of run: tallies by what was done to the candidate, and what was visible."""

    name: str
    seconds: float
    plain: int
    changes: list[str] | None = None
    tallies: dict[str, Tally] = dataclasses.field(default_factory=dict)
    visible: list[float] = dataclasses.field(default_factory=list)
    visible_tail: list[float] = dataclasses.field(default_factory=list)

    def once(self, seed: int, *, slower: bool) -> None:
        """A third run of the build is judged by the floors of the first two: nothing is used twice."""
        load, arm = loaded(seed, self.seconds), SERVERS[self.name]
        rngs = [np.random.default_rng([seed, n]) for n in range(8)]
        first, second, third = (arm(load, rngs[n], 1.0, 1.0) for n in range(3))
        floors = floors_of(first, second, seed)
        self._judge("same build", first, third, seed, floors)
        if not slower:
            return
        same = our_diff(first, second, seed, floors)
        self.visible.append(seen_beforehand(same, 0.5))
        self.visible_tail.append(tail_seen_beforehand(same))
        changes = {
            "+3 %": (1.03, 1.0),
            "+5 %": (1.05, 1.0),
            "+10 %": (1.10, 1.0),
            "+ what was visible": (1.0 + self.visible[-1], 1.0),
            "1 in 50, 3x": (1.0, 3.0),
        }
        for n, (change, (factor, tail)) in enumerate(changes.items()):
            if self.changes and change not in self.changes:
                continue
            self._judge(change, first, arm(load, rngs[3 + n], factor, tail), seed, floors)

    def _judge(
        self, change: str, before: RunTable, after: RunTable, seed: int, floors: dict[FloorKey, float]
    ) -> None:
        ours = our_diff(before, after, seed, floors).verdict is Verdict.REGRESSION
        self.tallies.setdefault(change, Tally(self.plain)).add(ours, before, after, seed)


def rows(found: Study) -> list[str]:
    """One line a change: called by us, with the bound of 95 %, and by the others."""
    lines = []
    for change, tally in found.tallies.items():
        said = found.visible_tail if change.startswith("1 in") else found.visible
        shown = f"{100 * np.median(said):.1f} %" if said and change != "same build" else "–"
        counts = [(tally.plain, tally.plain_times), (tally.ranks, tally.times), (tally.limit, tally.times)]
        others = " | ".join(f"{100 * count / max(of, 1):.0f} %" for count, of in counts)
        upper = 100 * stats.beta.ppf(0.95, tally.ours + 1, tally.times - tally.ours)
        lower = 100 * stats.beta.ppf(0.05, tally.ours, tally.times - tally.ours + 1) if tally.ours else 0.0
        bound = f"≤ {upper:.1f} %" if change == "same build" else f"≥ {lower:.0f} %"
        ours = f"{100 * tally.ours / tally.times:.3g} % ({bound})"
        lines.append(
            f"| {found.name}, {found.seconds:g} s | {change} | {shown} | {tally.times} | {ours} | {others} |"
        )
    return lines


HEAD = (
    "| server, run | candidate | visible beforehand | diffs | peaktape (95 % bound) | bootstrap of requests "
    "| Mann–Whitney | threshold 5 % |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--powers", type=int, default=40, help="of these, how many with slower candidates")
    parser.add_argument("--plain", type=int, default=20, help="of each, how many by single requests too")
    parser.add_argument("--changes", nargs="*", help="of the slower candidates, only these")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server", choices=list(SERVERS), default="wandering")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found = Study(given.server, given.seconds, given.plain, given.changes)
    for seed in range(given.times):
        found.once(seed, slower=seed < given.powers)
        text = "\n".join([HEAD, *rows(found)])
        if given.output:
            given.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
