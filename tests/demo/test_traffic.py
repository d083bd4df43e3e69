"""Driving the demo's traffic at a running server: all ends as its kind should, and it can be broken off."""

from __future__ import annotations

import asyncio
import itertools

import aiohttp.test_utils
import numpy as np
import pytest

from replay.demo.build import Build
from replay.demo.launch import RunningServer
from replay.demo.traffic import EXPECTED, Kind, drive, plan_traffic

QUICK = Build(prefill_ms=5, prefill_token_ms=0.01, decode_ms=3)


@pytest.fixture(scope="module")
def server():
    with RunningServer(QUICK) as running:
        yield running


@pytest.mark.slow
async def test_every_request_ends_as_its_kind_should(server):
    plan = plan_traffic(np.random.default_rng(3), 5, 12)
    told = []
    counts = await drive(server.base_url, plan, lambda ended, planned: told.append((ended, planned)))
    assert counts.requests == 60
    assert counts.unexpected == 0
    assert {kind for kind, _ in counts.outcomes} == set(Kind)
    assert told == [(ended, 60) for ended in range(1, 61)]


async def test_a_conversation_grows_by_the_real_answers():
    seen = []

    async def answer(request):
        form = await request.json()
        seen.append((request.headers["Authorization"], request.headers.get("x-session-id"), form["messages"]))
        text = b'data: {"choices":[{"delta":{"content":"word %d"}}]}\n\ndata: [DONE]\n\n' % len(seen)
        return aiohttp.web.Response(body=text, content_type="text/event-stream")

    plan = plan_traffic(np.random.default_rng(0), 3, 20)
    session = next(visit for visit in plan if len(visit.turns) >= 3 and visit.session_id)
    app = aiohttp.web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with aiohttp.test_utils.TestServer(app) as listener:
        await drive(str(listener.make_url("/")), [session])
    assert len(seen) == len(session.turns)
    assert {(credential, name) for credential, name, _ in seen} == {
        (f"Bearer {session.credential}", session.session_id)
    }
    for number, (earlier, later) in enumerate(itertools.pairwise(seen), start=1):
        assert later[2][: len(earlier[2])] == earlier[2]
        assert later[2][-2] == {"role": "assistant", "content": f"word {number}"}


async def test_a_server_that_is_gone_is_an_outcome_and_no_later_turn_is_asked():
    plan = plan_traffic(np.random.default_rng(0), 1, 20)
    counts = await drive(f"http://127.0.0.1:{aiohttp.test_utils.unused_port()}", plan)
    assert {outcome for _, outcome in counts.outcomes} <= {"failed", "skipped"}
    assert sum(counts.outcomes.values()) == counts.unexpected == 20


async def test_it_can_be_broken_off(server):
    plan = plan_traffic(np.random.default_rng(0), 30, 20)
    begun = asyncio.Event()
    driving = asyncio.create_task(drive(server.base_url, plan, lambda *_: begun.set()))
    await begun.wait()
    driving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driving
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_every_kind_has_an_expected_end():
    assert set(EXPECTED) == set(Kind)
