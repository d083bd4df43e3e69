"""What analysis says of load that a service turned away, beyond its counts."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class RetryAfter:
    """How long the answers that turned a request away (429, 503) asked their clients to wait."""

    given: int
    """How many of them said so, in a Retry-After that could be read."""
    p50_s: float
    max_s: float
