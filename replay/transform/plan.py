"""A whole transformation as one value: which steps, in which order, under which seed.

Order: slice (in the trace's time), then speed, thin, amplify, mix, shapes as they are listed, limits; times
of shapes and phases are those of the replay. What requests say (`content`) changes as they are sent.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from capture.choice import shares_told
from capture.failures import BadInput
from capture.quantities import check_factor
from capture.trace_reader import Trace
from replay.transform import draws, steps
from replay.transform.amplification.amplify import MEASURED, METHODS, Amplify
from replay.transform.amplification.settling import settled
from replay.transform.content_rules import CLONES, KEEP, ContentRules
from replay.transform.ground import Ground
from replay.transform.laying import LabelPhases, Lay, Limit
from replay.transform.mixing import Mix, TenantLimit
from replay.transform.moments import Instant, Moment
from replay.transform.pipeline import schedule_rows
from replay.transform.rows import Rows, Step
from replay.transform.schedule_format import Schedule
from replay.transform.settings import INSTANT, LENGTH, WORD, Settings, setting, times_of_day
from replay.transform.shapes import Curve, PhaseLabel, Quiet, Setting, Shape
from replay.transform.shapes.curves import constant
from replay.transform.shapes.phases import BASE, OWN, partition
from replay.transform.trace_rows import TraceRows
from replay.transform.wall_clock import WallTime, Window, show_instant

Float64 = npt.NDArray[np.float64]

DEFAULT_CONTENT: Final = ContentRules(prompts=CLONES)
"""Clones stand for other users: what they say is their own, else a prefix cache would know it all."""


_GRAINS: Final = 1 << 20


@dataclasses.dataclass(frozen=True)
class NamedPhase(Settings):
    """A phase that no shape makes: a name for a stretch of the replay."""

    word: ClassVar[str] = "phase"

    name: str = setting("name", WORD)
    at: Instant = setting("at", INSTANT)
    lasting: Moment = setting("for", LENGTH)

    def label(self, over: Setting) -> PhaseLabel:
        """The phase in a given replay."""
        start_ns = over.start(self.at)
        return PhaseLabel(self.name, start_ns, over.until(self.at, self.lasting), OWN, named=True)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The transformation flags of `transform` and `replay`, or a recipe, parsed."""

    slice_: Window | None = None
    speed: float = 1.0
    thin: float = 1.0
    amplify: float = 1.0
    unsample: bool = False
    method: str = "auto"
    jitter_ns: int = steps.DEFAULT_JITTER_NS
    mix: tuple[Mix, ...] = ()
    shapes: tuple[Shape, ...] = ()
    limits: tuple[TenantLimit, ...] = ()
    phases: tuple[NamedPhase, ...] = ()
    content: ContentRules = DEFAULT_CONTENT
    seed: int = 0
    about: str = ""

    def __post_init__(self) -> None:
        check_factor(self.speed, "--speed")
        check_factor(self.amplify, "--amplify")
        if not 0 < self.thin <= 1:
            raise BadInput(f"--thin: {self.thin:g} found, a share above 0 and up to 1 wanted")
        if self.method not in METHODS:
            raise BadInput(f"--method: {self.method!r} found, one of {', '.join(METHODS)} wanted")
        if self.seed < 0:
            raise BadInput(f"--seed: {self.seed} found, 0 or more wanted")
        if sum(mix.keep_total for mix in self.mix) > 1:
            raise BadInput("mix: keep_total found in several, in one wanted; the last would undo the others")

    def bound(self, ground: Ground) -> tuple[Step, ...]:
        """The steps in order, for a given trace. Each draws by its own key, so one does not shift another's.

        Raises `BadInput` for a shape that lies outside the replay, and phases that overlap.
        """
        found = self._settled(ground)
        streams = np.random.default_rng(self.seed).spawn(2 + len(self.shapes) + len(self.mix))
        if not (self.shapes or self.mix or self.phases or self.limits):
            return tuple(found)
        laid = _Laid(ground, self, found)
        for mix, stream in zip(self.mix, streams[2 + len(self.shapes) :], strict=True):
            laid.mix(mix, stream)
        for shape, stream in zip(self.shapes, streams[2:], strict=False):
            laid.shape(shape, stream)
        labels = [*laid.labels, *(phase.label(laid.setting(phase)) for phase in self.phases)]
        if labels:
            found.append(LabelPhases(partition(labels)))
        found += (Limit(limit, ground.tenants(limit.tenant)) for limit in self.limits)
        return tuple(found)

    def _settled(self, ground: Ground) -> list[Step]:
        """The steps that act on all of the time, with the amplification that suits the arrivals."""
        asked = tuple(self._whole(ground))
        if self.amplify == 1:
            return [step for step in asked if isinstance(step, Step)]
        by_session = any(isinstance(step, steps.Thin) for step in asked)
        batches = functools.partial(ground.batches, numbered=by_session)
        return list(settled(asked, batches, ground.span_ns, ground.count, ground.tick_ns))

    def _whole(self, ground: Ground) -> Iterator[Step | Amplify]:
        streams = np.random.default_rng(self.seed).spawn(2)
        for_thin, for_amplify = map(draws.key_of, streams)
        if self.slice_ is not None:
            yield _sliced(self.slice_, ground)
        if self.speed != 1:
            yield steps.Speed(self.speed)
        if self.thin != 1:
            yield steps.Thin(self.thin, for_thin)
        if self.amplify != 1:
            yield Amplify(self.amplify, for_amplify, self.method, self.jitter_ns)

    def times(self, samples: Sequence[float], place: str) -> float:
        """How many times `unsample` amplifies a trace that holds these shares of sessions: 1 over the share.

        Raises `BadInput` naming `place` when they are several: no one factor would be right for all parts.
        """
        if not self.unsample:
            return 1.0
        if len(samples) > 1:
            raise BadInput(
                f"{place}: parts with {shares_told(samples)} of sessions found, one share wanted to unsample "
                "by; name the segments of one alone, or say --amplify"
            )
        return 1 / samples[0]

    def passes_to_bind(self, *, has_sessions: bool) -> int:
        """How often `bound` reads the whole trace, which has sessions or not."""
        chosen = [shape for shape in self.shapes if not shape.all]
        masks = {step.selection for step in (*self.mix, *chosen)}
        rates = sum(shape.wants_rate for shape in self.shapes)
        by_session = 2 * len(self.mix) if has_sessions else 0
        return self.measures + len(masks) + by_session + len(chosen) + rates + len(self.limits)

    @property
    def measures(self) -> bool:
        """Whether the arrivals are read once more, to settle the amplification."""
        return self.amplify > 1 and self.method in MEASURED

    @property
    def clones(self) -> bool:
        """Whether a request may become several."""
        amplified = self.amplify > 1 and self.method != "speed"
        shaped = any(not isinstance(shape, Quiet) or shape.x > 1 for shape in self.shapes)
        return amplified or shaped or any(mix.x > 1 for mix in self.mix)

    @property
    def rules(self) -> ContentRules:
        """What becomes of the requests' content, under the plan's seed."""
        rules = dataclasses.replace(self.content, seed=self.seed)
        if rules.prompts == CLONES and not self.clones:
            rules = dataclasses.replace(rules, prompts=KEEP)
        return rules

    def told(self, bound: Sequence[Step], ground: Ground) -> tuple[str, ...]:
        """The steps in order, as a person writes them, for the lineage; `bound` are they for the trace."""
        whole = [step for step in bound if not isinstance(step, Lay | LabelPhases | Limit)]
        given: tuple[Settings, ...] = (*self.mix, *self.shapes, *self.limits, *self.phases)
        placed = (_told(step, ground, whole) for step in given)
        return (*map(str, whole), *placed, *self.rules.steps)


def _sliced(window: Window, ground: Ground) -> steps.Slice:
    start, end = window
    if isinstance(start, WallTime) and isinstance(end, WallTime):
        clock = ground.clock
        from_ns, to_ns = clock.window_ns(start, end, "slice")
        asked = "..".join(show_instant(clock.began_ns + since_ns) for since_ns in (from_ns, to_ns))
        return steps.Slice(from_ns, to_ns, asked)
    return steps.Slice(*window)


def due_ns_of(at: WallTime, ground: Ground, whole: Sequence[Step], place: str) -> int:
    """When what came at a time of day is due, in ns, after steps that act on all of the time.

    Raises `BadInput` naming `place` where the trace, or what `whole` cuts out of it, doesn't have that time.
    """
    clock = ground.clock
    for step in whole:
        if isinstance(step, steps.Slice):
            clock = clock.part(step.from_ns, step.to_ns)
    due_ns = clock.since_began_ns(at, place)
    for step in whole:
        due_ns = due_ns if isinstance(step, steps.Slice) else step.at(due_ns)
    return due_ns


def _told(step: Settings, ground: Ground, whole: Sequence[Step]) -> str:
    """A step as it was given; of its times of day, when they are due."""
    due = [
        f"{at} is due at {due_ns_of(at, ground, whole, str(step)) / 1e9:g}s"
        for at in times_of_day(step).values()
    ]
    return f"{step} ({', '.join(due)})" if due else str(step)


class _Laid:
    """Lays mixes and shapes over a ground, one after the other; knows the phases that came of it."""

    def __init__(self, ground: Ground, plan: Plan, found: list[Step]) -> None:
        self._ground = ground
        self._plan = plan
        self._found = found
        self._whole = tuple(found)
        self.span_ns = ground.span_ns
        for step in found:
            if isinstance(step, steps.Slice):
                self.span_ns = min(self.span_ns, step.to_ns - 1)
            self.span_ns = max(0, step.at(self.span_ns))
        self._curves: list[tuple[Curve, npt.NDArray[np.bool_] | None]] = []
        self.labels: list[PhaseLabel] = []

    def mix(self, mix: Mix, stream: np.random.Generator) -> None:
        """Add the steps of a mix."""
        mine = self._ground.sessions_with(mix.selection)
        others = mix.others(float(mine.mean()))
        over = self.setting(mix)
        for factor, chosen, key in ((mix.x, mine, stream), (others, ~mine, stream)):
            if factor != 1 and chosen.any():
                borders = np.array([0, over.end_ns], np.int64)
                curve = Curve(borders, constant(np.array([factor])), max(1.0, factor))
                self._lay(str(mix), curve, key, chosen)

    def shape(self, shape: Shape, stream: np.random.Generator) -> None:
        """Add the step of a shape."""
        chosen = None if shape.all else self._ground.selected(shape.selection)
        curve = shape.curve(self.setting(shape, chosen), stream)
        if chosen is not None:
            start_ns, end_ns = int(curve.borders_ns[0]), int(curve.borders_ns[-1])
            if not self._expected(start_ns, end_ns, chosen):
                raise BadInput(
                    f"{shape}: none of the requests that it is for is due in its window, "
                    f"{start_ns / 1e9:g}s to {end_ns / 1e9:g}s; move it, or let it last longer"
                )
        self._lay(str(shape), curve, stream, chosen)
        self.labels += curve.labels

    def _lay(
        self, name: str, curve: Curve, stream: np.random.Generator, chosen: npt.NDArray[np.bool_] | None
    ) -> None:
        copies = math.prod(step.most_copies for step in self._found)
        self._found.append(Lay(name, curve, draws.key_of(stream), self._plan.jitter_ns, copies, chosen))
        self._curves.append((curve, chosen))

    def setting(self, given: Settings, chosen: npt.NDArray[np.bool_] | None = None) -> Setting:
        """The replay as it is after the steps so far, for the mix, shape or phase that comes next."""
        end_ns = self.span_ns + 1 + sum(step.spread_ns for step in self._found)

        def due_ns(at: WallTime) -> int:
            return due_ns_of(at, self._ground, self._whole, str(given))

        setting = Setting(self.span_ns, end_ns, due_ns=due_ns)
        if not (isinstance(given, Shape) and given.wants_rate):
            return setting
        start_ns, until_ns = given.window(setting)
        until_ns = min(until_ns, end_ns)
        expected = self._expected(start_ns, until_ns, chosen)
        return dataclasses.replace(setting, per_s=expected / max(1e-9, (until_ns - start_ns) / 1e9))

    def _expected(self, start_ns: int, end_ns: int, chosen: npt.NDArray[np.bool_] | None) -> float:
        """How many requests to expect in [start, end) of the replay after the steps so far."""
        first_ns = next((step.from_ns for step in self._found if isinstance(step, steps.Slice)), 0)
        faster = self._plan.amplify if self._plan.method == "speed" else 1.0
        factor = self._plan.thin * self._plan.amplify / faster
        grains = 0
        for rows in self._ground.batches():
            due_ns = (rows.due_ns - first_ns) / (self._plan.speed * faster)
            inside = (due_ns >= start_ns - 0.5) & (due_ns < end_ns + 0.5)
            at_ns, row = np.rint(due_ns[inside]).astype(np.int64), rows.row[inside]
            kept = (at_ns >= start_ns) & (at_ns < end_ns)
            if chosen is not None:
                kept &= chosen[row]
            at_ns, row = at_ns[kept], row[kept]
            expected = np.full(len(at_ns), factor)
            for curve, mine in self._curves:
                factors = curve.factors(at_ns)
                expected *= factors if mine is None else np.where(mine[row], factors, 1.0)
            # Summed as whole numbers: the sum is the same for batches of any size.
            grains += int(np.rint(expected * _GRAINS).astype(np.int64).sum())
        return grains / _GRAINS


def phase_names(found: Sequence[Step]) -> tuple[str, ...]:
    """The names of the phases that bound steps put on rows, in the order of their numbers."""
    names = [step.phases.names for step in found if isinstance(step, LabelPhases)]
    return names[-1] if names else (BASE,)


def apply_plan(rows: Rows, plan: Plan, trace: Trace | None = None) -> Schedule:
    """All steps of `plan` on the rows of a whole trace, in memory; raises what `pipeline.stream` raises.

    `trace` is needed where steps are for some of the requests.
    """
    return schedule_rows(rows, plan.bound(Ground(trace, rows)))


def rows_of_trace(trace: Trace) -> tuple[Rows, dict[str, int]]:
    """The trace as it was, as rows of a schedule (see `base_rows`), and the counts of rows left out.

    See `replayable` for what is left out. Raises `BadInput` when nothing is left.
    """
    read = TraceRows(trace)
    rows = Rows.joined(list(read.batches()))
    return rows, read.left_out
