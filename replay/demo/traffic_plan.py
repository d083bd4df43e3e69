"""What the demo's clients are going to ask, and when: a pure function of a generator of chance.

A plan is a list of visits. A visit is one client with its own (invented) credential: a single request, or a
chat of several turns, whose later turns resend the growing conversation. Sending it is in `traffic`.
"""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.demo.protocol import CHAT_MODEL, EMBED_MODEL, FLAKY_MODEL, PREDICT_MODEL

SECOND_NS: Final = 1_000_000_000


class Kind(StrEnum):
    """What a request is, and with it how it should end."""

    CHAT_STREAM = "chat, streamed"
    CHAT_WHOLE = "chat, not streamed"
    EMBED = "embeddings"
    PREDICT = "predict"
    UNKNOWN_MODEL = "unknown model"
    MALFORMED = "malformed JSON"
    FAULT = "server fault"
    HANG_UP = "client hangs up"


CHATS: Final = (Kind.CHAT_STREAM, Kind.CHAT_WHOLE, Kind.UNKNOWN_MODEL, Kind.FAULT, Kind.HANG_UP)
STREAMED: Final = (Kind.CHAT_STREAM, Kind.HANG_UP)

# Shares of all requests; streamed chats are the rest. Rare kinds appear at least once.
_SHARES: Final = {
    Kind.CHAT_WHOLE: 0.13,
    Kind.EMBED: 0.14,
    Kind.PREDICT: 0.11,
    Kind.UNKNOWN_MODEL: 0.012,
    Kind.MALFORMED: 0.008,
    Kind.FAULT: 0.012,
    Kind.HANG_UP: 0.012,
}
_SESSION_SHARE: Final = 0.5
_BURST_WINDOW_S: Final = 1.0
_BURST_SHAPE: Final = 10.0
_ANSWER_GUESS_S: Final = 1.0

_SYSTEM: Final = (
    "You are the assistant of a shop that sells bicycles. Answer in short sentences, name the part that is "
    "meant, give prices in euro, and say so when you do not know."
)
_ENQUIRIES: Final = (
    "my bike order chain brake wheel saddle light invoice arrived late broken please change address refund "
    "which size fits a rider of medium height and how long does the repair take when I bring it on Monday "
    "the front tyre loses air every night do you have another colour in stock what is the price with "
    "delivery to the island thank you it worked but now gear three slips under load is that normal"
)
_VOCABULARY: Final = tuple(_ENQUIRIES.split())


@dataclasses.dataclass(frozen=True)
class Turn:
    """One request of a visit."""

    kind: Kind
    think_ns: int
    """Time between the end of the turn before and this one; 0 for the first."""
    text: str
    """What a chat's user says; empty for the other kinds."""
    body: bytes
    """The body of a request that is no chat; empty for chats, which grow with the conversation."""
    with_usage: bool
    chunks_read: int
    """After how many content chunks a client that hangs up is gone."""

    def model(self) -> str:
        """The model that a chat names."""
        return {Kind.FAULT: FLAKY_MODEL, Kind.UNKNOWN_MODEL: "gpt-nonexistent"}.get(self.kind, CHAT_MODEL)

    def path(self) -> str:
        """Where it is sent to."""
        return {
            Kind.EMBED: "/v1/embeddings",
            Kind.PREDICT: f"/v2/models/{PREDICT_MODEL}/infer",
        }.get(self.kind, "/v1/chat/completions")


@dataclasses.dataclass(frozen=True)
class Visit:
    """One client's requests: the first `at_ns` after the start, the others after an answer and a think."""

    at_ns: int
    credential: str
    session_id: str | None
    """The x-session-id header, which not every client sends."""
    system: str
    turns: tuple[Turn, ...]


def plan_traffic(rng: np.random.Generator, duration_s: float, rate_per_s: float) -> list[Visit]:
    """About `duration_s` seconds of mixed traffic, `rate_per_s` requests a second; visits by `at_ns`.

    The number of requests is round(duration_s x rate_per_s), their kinds are fixed shares of it. Arrivals
    are a mildly bursty Cox process given its total: a gamma-distributed rate (shape 10) each second.
    """
    total = max(1, round(duration_s * rate_per_s))
    turns = _visits_turns(rng, _counts_by_kind(total), duration_s)
    spans_s = np.array([_span_s(visit) for visit in turns])
    starts_s = _burst_instants_s(rng, len(turns), duration_s)
    starts_s *= np.maximum(0.0, 1 - spans_s / duration_s)
    visits = [
        Visit(
            at_ns=int(start_s * SECOND_NS),
            credential=f"sk-demo-{rng.bytes(16).hex()}",
            session_id=f"s-{rng.bytes(6).hex()}" if len(visit) > 1 and rng.random() < 0.5 else None,
            system=_SYSTEM,
            turns=visit,
        )
        for start_s, visit in zip(starts_s, turns, strict=True)
    ]
    return sorted(visits, key=lambda visit: visit.at_ns)


def _counts_by_kind(total: int) -> dict[Kind, int]:
    least = 1 if total >= 4 * len(Kind) else 0
    counts = {kind: max(least, round(share * total)) for kind, share in _SHARES.items()}
    counts[Kind.CHAT_STREAM] = total - sum(counts.values())
    return counts


def _visits_turns(
    rng: np.random.Generator, counts: dict[Kind, int], duration_s: float
) -> list[tuple[Turn, ...]]:
    """The turns of every visit, in random order; half of the streamed chats belong to sessions of 2 to 5."""
    visits: list[tuple[Turn, ...]] = []
    left = round(counts[Kind.CHAT_STREAM] * _SESSION_SHARE)
    singles = {**counts, Kind.CHAT_STREAM: counts[Kind.CHAT_STREAM] - left}
    while left:
        length = min(left, int(rng.integers(2, 6)))
        left -= length
        thinks_s = np.clip(rng.lognormal(np.log(1.5), 0.5, length), 0.3, 6.0) * min(1.0, duration_s / 30)
        thinks_s[0] = 0.0
        visits.append(tuple(_turn(rng, Kind.CHAT_STREAM, float(think_s)) for think_s in thinks_s))
    for kind, count in singles.items():
        visits.extend((_turn(rng, kind, 0.0),) for _ in range(count))
    return [visits[index] for index in rng.permutation(len(visits))]


def _turn(rng: np.random.Generator, kind: Kind, think_s: float) -> Turn:
    return Turn(
        kind=kind,
        think_ns=int(think_s * SECOND_NS),
        text=_words(rng, 220, 600) if kind in CHATS else "",
        body=_body(rng, kind),
        with_usage=bool(rng.random() < 0.9),
        chunks_read=int(rng.integers(3, 9)),
    )


def _body(rng: np.random.Generator, kind: Kind) -> bytes:
    if kind is Kind.MALFORMED:
        return b'{"model": "demo-chat", "messages": [{"role": "user", "content": "the client was cut of'
    if kind is Kind.EMBED:
        texts = [_words(rng, 60, 200) for _ in range(int(rng.integers(1, 4)))]
        return json.dumps({"model": EMBED_MODEL, "input": texts}).encode()
    if kind is Kind.PREDICT:
        rows = int(rng.integers(1, 33))
        table = rng.normal(size=(rows, 8)).round(4)
        tensor = {"name": "features", "shape": [rows, 8], "datatype": "FP32", "data": table.ravel().tolist()}
        return json.dumps({"inputs": [tensor]}).encode()
    return b""


def _words(rng: np.random.Generator, median: float, most: int) -> str:
    """Random words, their number lognormal around `median`, from 20 to `most`."""
    count = int(np.clip(rng.lognormal(np.log(median), 0.6), 20, most))
    return " ".join(_VOCABULARY[index] for index in rng.integers(0, len(_VOCABULARY), count))


def _span_s(turns: tuple[Turn, ...]) -> float:
    """About how long a visit goes on after its first request."""
    return sum(turn.think_ns / SECOND_NS + _ANSWER_GUESS_S for turn in turns[1:])


def _burst_instants_s(rng: np.random.Generator, count: int, duration_s: float) -> npt.NDArray[np.float64]:
    """`count` instants in [0, duration_s): a gamma-distributed rate per window, uniform within it."""
    windows = max(1, round(duration_s / _BURST_WINDOW_S))
    rates = rng.gamma(_BURST_SHAPE, 1 / _BURST_SHAPE, windows)
    chosen = rng.choice(windows, size=count, p=rates / rates.sum())
    instants: npt.NDArray[np.float64] = (chosen + rng.random(count)) * (duration_s / windows)
    return instants
