"""What a comparison says beside effects: where they are, which requests changed most, what answers say.

Plain frozen dataclasses as in `values`, where runs and effects are; a quantity that can't be had is NaN.
"""

from __future__ import annotations

import dataclasses

from replay.analysis.vocabulary import Group, Verdict

TYPICAL = "typical change"
"""The geometric mean over pairs of candidate/baseline, less 1."""

SLOWED = "share slowed"
"""The share of pairs that took half as long again or more, less the share that was as much faster."""


@dataclasses.dataclass(frozen=True)
class Location:
    """How one band of requests changed, of a group with a decided effect, beside the group's others."""

    parent: Group
    metric: str
    figure: str
    """`TYPICAL`, where the effect is in the median or near; `SLOWED`, where only a tail has changed."""
    dimension: str
    """endpoint | model | phase | prompt length | request size | output length | session turn | connection."""
    band: str
    pairs: int
    change_ratio: float
    low_ratio: float
    high_ratio: float
    """95 % confidence interval of `change_ratio`, simultaneous over all bands (Bonferroni)."""
    elsewhere_ratio: float
    """The same figure over the parent's other pairs."""
    p_value: float
    """That the band changed as the others did, Holm-adjusted over all bands; NaN where not judged."""
    stands_out: bool
    """Whether the band certainly changed more than the others, in the direction of the effect."""


@dataclasses.dataclass(frozen=True)
class RequestTimeline:
    """One request in one run: instants in ns from the run's zero, NaN where there is none."""

    due_ns: float
    sent_ns: float
    first_byte_ns: float
    first_token_ns: float
    read_ns: tuple[float, ...]
    """Reads that held body bytes, thinned evenly to at most 120; `reads` is how many there were."""
    reads: int
    end_ns: float
    status: int
    error: str
    output_tokens: float
    connection_reused: bool


@dataclasses.dataclass(frozen=True)
class ChangedRequest:
    """A request whose answer changed much; `change_ns` of E2E from due, NaN where one run has no answer."""

    request_id: str
    copy: int
    endpoint: str
    model: str
    phase: str
    input_tokens: float
    change_ns: float
    baseline: RequestTimeline
    candidate: RequestTimeline


@dataclasses.dataclass(frozen=True)
class AnswerChange:
    """Change of what was answered: `measure` of one group, in both runs, over pairs answered in both.

    A change is a regression where the candidate certainly does less, an improvement never: answers that
    differ are for people to judge, and are `changed`.
    """

    group: Group
    measure: str
    baseline: float
    candidate: float
    change_ratio: float
    low_ratio: float
    high_ratio: float
    """95 % confidence interval of the change, NaN where there is none; Holm-adjusted with the others."""
    noise_ratio: float
    """The same change between two runs of one build; NaN where none were given."""
    pairs: int
    p_value: float
    changed: bool
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class BodyChange:
    """One field of the answers' bodies, by JSON path, or all of it: how often it differs.

    `differing_ratio` is the share of compared requests in which baseline and candidate differ, `noise_ratio`
    that between two runs of one build (NaN where none were given); `changed` where the former is certainly
    larger, `p_value` Holm-adjusted over all fields.
    """

    path: str
    compared: int
    differing_ratio: float
    noise_ratio: float
    p_value: float
    changed: bool


@dataclasses.dataclass(frozen=True)
class TailChange:
    """How many pairs of a group took half as long again in the candidate, and how many were as much faster.

    Ratios are of all `pairs`: `net_ratio` is (slower − faster)/pairs with its 95 % confidence interval, NaN
    where too few changed to tell. `minimum_detectable_ratio` is the share that would have been seen four
    times in five; `p_value` is Holm-adjusted over all groups.
    """

    group: Group
    metric: str
    pairs: int
    slower: int
    faster: int
    net_ratio: float
    low_ratio: float
    high_ratio: float
    minimum_detectable_ratio: float
    p_value: float
    verdict: Verdict
