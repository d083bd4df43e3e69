"""The words that all values of analysis share: which requests are meant, and what a comparison says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Protocol


class Verdict(StrEnum):
    """What a comparison says, of one effect and of the whole."""

    REGRESSION = "regression"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


GROUP_KINDS: Final = ("all", "endpoint", "model", "phase")
"""In the order in which they are read."""


@dataclasses.dataclass(frozen=True)
class Group:
    """A set of requests: `kind` is all | endpoint | model | phase, `name` its value ("" for all)."""

    kind: str
    name: str


class Clocked(Protocol):
    """A figure of a metric on a clock: see `values.CLOCKS`."""

    @property
    def metric(self) -> str: ...

    @property
    def clock(self) -> str: ...


def headline_clock(figures: Iterable[Clocked]) -> str:
    """The clock that users' waits are told by: "due", or "sent" where no due instant is known of the run."""
    clocks = {figure.clock for figure in figures if figure.metric in ("ttft", "e2e")}
    return "due" if "due" in clocks or not clocks else "sent"


def is_headline(figure: Clocked, clock: str) -> bool:
    """Whether a figure is one on the headline `clock`; ITL and TPOT, which know no start, always are."""
    return figure.clock == clock or figure.metric not in ("ttft", "e2e")
