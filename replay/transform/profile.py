"""A profile: what traffic is like, in numbers that hold nothing of any request. Values only.

A profile says how often sessions begin and how bursty that is, which classes of requests there are, how many
turns a session has and how long people think, how long prompts and answers are, and which share of prompts
begins alike. It holds no word of a prompt, no id, no host, no header and no path of the traffic. Figures of
fewer than `at_least` requests or sessions stand in it only as parts of larger ones.

`fitting` makes a profile of a trace, `client_table` of ServeGen's parameters, `generated` makes requests of
it; how it stands in YAML is in `profile_file`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

AT_LEAST: Final = 10
"""Nothing in a profile is the property of fewer requests or sessions than this, unless told otherwise."""

EXPONENTIAL, GAMMA, WEIBULL = "exponential", "gamma", "weibull"
FAMILIES: Final = (EXPONENTIAL, GAMMA, WEIBULL)
"""Distributions of the time between session starts; `cv` gives the shape."""

PATHS: Final = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
}
"""Kinds of requests that can be generated, and where they go: OpenAI's three, and Anthropic's messages."""


@dataclasses.dataclass(frozen=True)
class Quantiles:
    """A distribution by its quantiles, linear between them; nothing lies beyond the outermost ones."""

    levels: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, level: Float64) -> Float64:
        """The quantile at each level, float64 of the shape given."""
        return np.interp(level, self.levels, self.values)

    @property
    def median(self) -> float:
        """The quantile at one half."""
        return float(np.interp(0.5, self.levels, self.values))


@dataclasses.dataclass(frozen=True)
class Burst:
    """A random factor of the rate, gamma-distributed with mean 1, drawn anew every `scale_s` seconds."""

    scale_s: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """How sessions begin: a renewal process in the time that the rate (curve × bursts) makes.

    `rate_per_s` is the expected rate of session starts in each window of `window_s`; `family` and `cv` (the
    coefficient of variation) tell the gaps, one for all windows or one each; `mix` gives for each class its
    share of the sessions in each of several equal parts of the span (one part: it doesn't change).
    """

    window_s: float
    rate_per_s: tuple[float, ...]
    mix: Mapping[str, tuple[float, ...]]
    family: tuple[str, ...] = (EXPONENTIAL,)
    cv: tuple[float, ...] = (1.0,)
    bursts: tuple[Burst, ...] = ()

    @property
    def span_s(self) -> float:
        """The time that the rate curve covers."""
        return self.window_s * len(self.rate_per_s)


@dataclasses.dataclass(frozen=True)
class SharedPrefix:
    """A beginning of `tokens` tokens that `share` of a class's sessions have in common, such as a system
    prompt."""

    share: float
    tokens: int


@dataclasses.dataclass(frozen=True)
class ClientClass:
    """Requests that are alike in kind, model and streaming; a session belongs to the class of its first turn.

    `turns` gives the share of sessions by their number of turns. `growth_tokens` is how much longer a later
    turn's prompt is than the one before; `keeps_history` the share of later turns whose prompt begins with
    that one. `answer_s` is arrival to end, `think_s` that end to the next arrival (negative where turns
    overlap); both None where sessions have one turn. `repeats` is the share of sessions whose first prompt
    begins with an earlier session's, beyond what many share (chats without an id, documents asked about
    twice), `repeated` the share of such a prompt that is the earlier one's. `rank_correlation` is Spearman's,
    of input and output.
    """

    kind: str
    model: str
    stream: bool
    input_tokens: Quantiles
    output_tokens: Quantiles | None = None
    rank_correlation: float = 0.0
    turns: Mapping[int, float] = dataclasses.field(default_factory=lambda: {1: 1.0})
    growth_tokens: Quantiles | None = None
    keeps_history: float = 0.0
    answer_s: Quantiles | None = None
    think_s: Quantiles | None = None
    prefixes: tuple[SharedPrefix, ...] = ()
    repeats: float = 0.0
    repeated: Quantiles | None = None


@dataclasses.dataclass(frozen=True)
class Profile:
    """Independent streams of session starts, and the classes that they draw from."""

    arrivals: tuple[Arrivals, ...]
    classes: Mapping[str, ClientClass]
    origin: str
    at_least: int = AT_LEAST
    notes: tuple[str, ...] = ()

    @property
    def span_s(self) -> float:
        """The longest span of the streams."""
        return max(stream.span_s for stream in self.arrivals)

    @property
    def sessions(self) -> float:
        """How many sessions it expects over its span."""
        return sum(sum(stream.rate_per_s) * stream.window_s for stream in self.arrivals)
