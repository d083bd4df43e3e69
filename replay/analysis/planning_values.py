"""What one run says to whoever plans how much hardware to have: the load that it held, and what it cost."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Capacity:
    """Up to which level of a staircase every objective was met. Levels are phases, in rising order."""

    levels: tuple[str, ...]
    held: str | None
    """The highest level below `missed` that met all of them; None where none did."""
    held_per_s: float
    """Requests per second that it offered; NaN for None."""
    missed: str | None
    """The first level that missed one by more than chance; None where none did."""
    undecided: tuple[str, ...]
    """Levels below `missed` that missed one, by no more than chance may do."""
    met_again: tuple[str, ...]
    """Levels above `missed` that met all of them."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the replay's time cost at a price per hour, in its currency; NaN where nothing was made."""

    price_per_hour: float
    total: float
    per_1000_answers: float
    per_1000_good_answers: float
    """Of those that met every objective; NaN without objectives."""
    per_million_output_tokens: float
    per_million_tokens: float
    """Input and output together."""
