"""What of the traffic a capture records: filter, sample of sessions, longest body, time window. Values only.

Settled when a capture begins, and known to its proxies and its recorder. How a filter is read is in
`filter_stages`, which session is in a sample in `session_sample`, when recording is on in `recording_switch`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any, Final

from capture.copied_body import BODY_COPY_LIMIT_BYTES
from capture.failures import BadInput
from capture.quantities import parse_bytes, parse_share

BY_FILTER: Final = "filter"
BY_SAMPLE: Final = "sample"
PAUSED: Final = "paused"
OUTSIDE_WINDOW: Final = "outside_window"
"""Why a request is not chosen; none of them is a loss."""
UNDECIDED: Final = "undecided"
"""Whether it is can't be said yet."""


class Stage(enum.IntEnum):
    """How much of an exchange is known."""

    ASKED = 0  # the request's head
    ANSWERED = 1  # and the response's head
    OVER = 2  # and everything else


@dataclasses.dataclass(frozen=True)
class Choice:
    """`filter` in mitmproxy's language ("" takes all), `sample` the share of sessions in 0 … 1, drawn by
    `sample_seed`. Bodies longer than `max_body_bytes` are kept as a size. `paused` is how it begins."""

    filter: str = ""
    sample: float = 1.0
    sample_seed: str = ""
    max_body_bytes: int = BODY_COPY_LIMIT_BYTES
    paused: bool = False

    @property
    def sampling(self) -> str:
        """The trace's `sampling`: "all", or the share and what it is a share of."""
        return "all" if self.sample >= 1 else f"{self.sample * 100:g}% of sessions, seed {self.sample_seed}"

    def described(self) -> dict[str, Any]:
        """What a trace's metadata says of the choice, nothing where all was taken."""
        said: dict[str, Any] = {}
        if self.filter:
            said["filter"] = self.filter
        if self.sample < 1:
            said |= {"sample": self.sample, "sample_seed": self.sample_seed}
        if self.max_body_bytes < BODY_COPY_LIMIT_BYTES:
            said["max_body_bytes"] = self.max_body_bytes
        return said


def shares_told(shares: Sequence[float]) -> str:
    """(0.01, 0.1) → "1% and 10%"."""
    return " and ".join(f"{100 * share:g}%" for share in shares)


def parse_sample(text: str, place: str) -> float:
    """ "1%" or "0.01" → 0.01; raises `BadInput` naming `place` unless it is above 0 and at most 1."""
    share = parse_share(text, place)
    if not share:
        raise BadInput(
            f"{place}: {text!r} found, a share above 0 wanted, such as 1%; --paused records nothing"
        )
    return share


def parse_body_limit(text: str, place: str) -> int:
    """ "1MB", "64KiB", "1000" → bytes; raises `BadInput` naming `place` unless it lies in 0 … 64 MiB."""
    size_bytes = parse_bytes(text, place, "1MB, 64KiB or 0")
    if size_bytes > BODY_COPY_LIMIT_BYTES:
        most = BODY_COPY_LIMIT_BYTES >> 20
        raise BadInput(f"{place}: {text!r} found, at most {most}MiB wanted: no copy grows beyond that")
    return size_bytes
