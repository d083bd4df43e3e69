"""Driving the demo's traffic: clients that ask what a plan says, when it says, and weave in the answers.

This is the demo's stand-in for production clients, not the load generator: nothing is measured here, and a
client behaves as real ones do (keep-alive, whole conversations, now and then hanging up). What is asked is
in `traffic_plan`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp

from capture.sse import EventStream, parse_json
from replay.demo.traffic_plan import CHATS, SECOND_NS, STREAMED, Kind, Turn, Visit, plan_traffic

__all__ = ["EXPECTED", "Kind", "TrafficCounts", "drive", "plan_traffic"]

OK: Final = "ok"
CLIENT_ERROR: Final = "4xx"
SERVER_ERROR: Final = "5xx"
HUNG_UP: Final = "hung up"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
"""A turn that was not asked, because the turn before it got no answer."""

EXPECTED: Final[Mapping[Kind, str]] = {
    Kind.CHAT_STREAM: OK,
    Kind.CHAT_WHOLE: OK,
    Kind.EMBED: OK,
    Kind.PREDICT: OK,
    Kind.UNKNOWN_MODEL: CLIENT_ERROR,
    Kind.MALFORMED: CLIENT_ERROR,
    Kind.FAULT: SERVER_ERROR,
    Kind.HANG_UP: HUNG_UP,
}
"""How a request of each kind ends on a server that is well."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60, sock_connect=10)


@dataclasses.dataclass(frozen=True)
class TrafficCounts:
    """How many requests of each kind ended in which way."""

    outcomes: Mapping[tuple[Kind, str], int]

    @property
    def requests(self) -> int:
        """Requests that were sent."""
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome != SKIPPED)

    @property
    def unexpected(self) -> int:
        """Requests that ended otherwise than their kind should, or were never sent."""
        return sum(count for (kind, outcome), count in self.outcomes.items() if outcome != EXPECTED[kind])


async def drive(
    base_url: str, plan: Sequence[Visit], on_progress: Callable[[int, int], None] | None = None
) -> TrafficCounts:
    """Send `plan` to `base_url`, each visit when it is due; the outcomes once the last answer is in.

    `on_progress(ended, planned)` is told of every request that ended. Network failures are outcomes, not
    exceptions. Cancelling it hangs up on everybody and closes all connections.
    """
    outcomes: Counter[tuple[Kind, str]] = Counter()
    planned = sum(len(visit.turns) for visit in plan)

    def note(kind: Kind, outcome: str) -> None:
        outcomes[kind, outcome] += 1
        if on_progress is not None:
            on_progress(outcomes.total(), planned)

    zero_ns = time.monotonic_ns()
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(base_url, connector=connector, timeout=_TIMEOUT) as session,
        asyncio.TaskGroup() as visits,
    ):
        for visit in sorted(plan, key=lambda visit: visit.at_ns):
            await asyncio.sleep((zero_ns + visit.at_ns - time.monotonic_ns()) / SECOND_NS)
            visits.create_task(_make_visit(session, visit, note))
    return TrafficCounts(outcomes)


async def _make_visit(
    session: aiohttp.ClientSession, visit: Visit, note: Callable[[Kind, str], None]
) -> None:
    """Make one visit, turn by turn; the answers become part of the conversation."""
    headers = {"Authorization": f"Bearer {visit.credential}", "Content-Type": "application/json"}
    if visit.session_id is not None:
        headers["x-session-id"] = visit.session_id
    messages = [{"role": "system", "content": visit.system}]
    for at, turn in enumerate(visit.turns):
        await asyncio.sleep(turn.think_ns / SECOND_NS)
        messages.append({"role": "user", "content": turn.text})
        outcome, answer = await _ask(session, turn, headers, messages)
        note(turn.kind, outcome)
        if outcome != OK:
            for skipped in visit.turns[at + 1 :]:
                note(skipped.kind, SKIPPED)
            return
        messages.append({"role": "assistant", "content": answer})


async def _ask(
    session: aiohttp.ClientSession,
    turn: Turn,
    headers: Mapping[str, str],
    messages: Sequence[Mapping[str, str]],
) -> tuple[str, str]:
    """Send one request; its outcome and what a chat answered."""
    body = turn.body
    if turn.kind in CHATS:
        body = json.dumps(_chat_form(turn, messages), ensure_ascii=False).encode()
    try:
        async with session.post(turn.path(), data=body, headers=headers) as response:
            if response.status >= 400:
                await response.read()
                return SERVER_ERROR if response.status >= 500 else CLIENT_ERROR, ""
            if turn.kind in STREAMED:
                return await _listen(response, turn)
            answer = await response.read()
            return OK, _said(parse_json(answer), "message")
    except (aiohttp.ClientError, TimeoutError, OSError):
        return FAILED, ""


def _chat_form(turn: Turn, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    form: dict[str, Any] = {"model": turn.model(), "messages": messages}
    if turn.kind in STREAMED:
        form["stream"] = True
        if turn.with_usage:
            form["stream_options"] = {"include_usage": True}
    return form


async def _listen(response: aiohttp.ClientResponse, turn: Turn) -> tuple[str, str]:
    """Read a stream to its end, or hang up in its midst; a stream without [DONE] has failed."""
    events, said, done, heard = EventStream(), [], False, 0
    async for piece in response.content.iter_any():
        for event in events.feed(piece):
            done = done or event.strip() == b"[DONE]"
            word = _said(parse_json(event), "delta")
            said.append(word)
            heard += bool(word)
        if turn.kind is Kind.HANG_UP and heard >= turn.chunks_read:
            response.close()
            return HUNG_UP, ""
    return (OK if done else FAILED), "".join(said)


def _said(message: Any, part: str) -> str:
    """The content of the first choice of a chat's message or chunk; empty where there is none."""
    choices = message.get("choices") if isinstance(message, dict) else None
    if not choices:
        return ""
    return str(choices[0].get(part, {}).get("content") or "")
