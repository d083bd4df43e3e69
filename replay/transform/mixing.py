"""Steps by what requests are: a shift of the mix, and limits per tenant. What is asked, as values."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from replay.transform.selecting import Selection
from replay.transform.settings import COUNT, FACTOR, FACTOR_OR_0, WORD, YES_OR_NO, Settings, setting

Float64 = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mix(Selection):
    """`x` times as many of the sessions with a selected request, whole, all the time.

    With `keep_total` the others become fewer, so that the number of requests stays what it was.
    """

    word: ClassVar[str] = "mix"

    x: float = setting("x", FACTOR_OR_0)
    keep_total: bool = setting("keep_total", YES_OR_NO, False)

    def __post_init__(self) -> None:
        if self.all:
            raise BadInput(
                f"{self}: nothing selected found, one of endpoint, model, tenant, min_input_tokens, … wanted"
            )

    def others(self, share: float) -> float:
        """The factor of the others, when selected sessions hold `share` of all requests; or `BadInput`."""
        if not self.keep_total:
            return 1.0
        left = (1 - share * self.x) / (1 - share) if share < 1 else 0.0
        if left <= 0:
            raise BadInput(
                f"{self}: {share:.1%} of the requests are such, {self.x:g} times as many leave no room for "
                "others; lower x, or leave keep_total out"
            )
        return left


@dataclasses.dataclass(frozen=True, kw_only=True)
class TenantLimit(Settings):
    """At most `per_s` requests a second for each value of the header `tenant`, and `burst` at once.

    What is above is left out, as a rate limiter before the service would refuse it.
    """

    word: ClassVar[str] = "limit"

    tenant: str = setting("tenant", WORD)
    per_s: float = setting("per_s", FACTOR)
    burst: int = setting("burst", COUNT, 1)


class TokenBuckets:
    """Which requests pass limiters of `per_s` and `burst`, one for each tenant, asked in the order of due.

    The generic cell rate algorithm (ITU-T I.371, A.1): a request passes when its tenant's theoretical arrival
    time lies at most (burst − 1)/per_s ahead of it.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._step_ns = 1e9 / per_s
        self._ahead_ns = (burst - 1) * self._step_ns
        self._next_ns: dict[int, float] = {}

    def passes(self, due_ns: npt.NDArray[np.int64], tenant: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """bool[n] for instants (ascending over all calls) and tenants; a tenant of −1 has no limit."""
        passed = np.ones(len(due_ns), np.bool_)
        known = np.flatnonzero(tenant >= 0)
        following = self._next_ns
        for at, due, who in zip(known.tolist(), due_ns[known].tolist(), tenant[known].tolist(), strict=True):
            expected = following.get(who, 0.0)
            if due < expected - self._ahead_ns:
                passed[at] = False
            else:
                following[who] = max(expected, due) + self._step_ns
        return passed
