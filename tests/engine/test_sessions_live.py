"""Partly-open replays on real sockets, and weaving: later turns wait for the answer before them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_rig import MS, chat, replay_rows
from test_replay_end_to_end import answer, hang, scripted_server
from test_two_senders import answering

from replay.analysis.run_table import RunTable
from replay.analysis.validity import judge
from replay.demo.build import Build
from replay.demo.launch import RunningServer
from replay.engine.run_format import PARTLY_OPEN
from replay.engine.sender import SENDERS
from replay.engine.turns import followers
from replay.engine.weaving import messages_in, weave
from replay.transform.pipeline import base_schedule


def turns(
    session: str, count: int, at_ns: int, think_ns: int, answer_ns: int = 20 * MS
) -> list[dict[str, Any]]:
    """A recorded conversation: each answer took `answer_ns`, each thought `think_ns`."""
    rows = []
    messages: list[dict[str, str]] = []
    for turn in range(count):
        messages = [*messages, {"role": "user", "content": f"{session} says {turn}"}]
        start_ns = at_ns + turn * (answer_ns + think_ns)
        row = chat(0, start_ns, tokens=4) | {
            "request_id": f"{session}-{turn}",
            "session_id": session,
            "turn": turn,
            "end_ns": start_ns + answer_ns,
        }
        row["request_body"] = json.dumps(json.loads(row["request_body"]) | {"messages": messages}).encode()
        rows.append(row)
        messages = [*messages, {"role": "assistant", "content": f"recorded answer {turn}"}]
    return rows


def traffic() -> list[dict[str, Any]]:
    rows = [row for i in range(6) for row in turns(f"s{i}", 4, i * 30 * MS, 50 * MS)]
    return sorted(rows, key=lambda row: row["arrival_ns"])


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_later_turns_are_due_when_the_answer_has_come_and_the_user_has_thought(
    tmp_path: Path, sender: str
) -> None:
    with RunningServer(Build()) as server:
        done = replay_rows(tmp_path, traffic(), server.base_url, sender=sender, mode=PARTLY_OPEN, workers=2)
    assert done.metadata.mode == PARTLY_OPEN
    for session in range(6):
        first = done.rows[f"s{session}-0", 0]
        assert first["due_ns"] == session * 30 * MS
        for turn in range(1, 4):
            before, row = (done.rows[f"s{session}-{t}", 0] for t in (turn - 1, turn))
            assert row["due_ns"] == before["end_ns"] + 50 * MS
            assert row["sent_ns"] >= row["due_ns"]
            assert row["status"] == 200


@pytest.mark.slow
def test_a_conversation_that_broke_off_is_not_continued_and_not_held_against_the_run(tmp_path: Path) -> None:
    rows = turns("s", 3, 0, 20 * MS)
    with scripted_server(answer(then=hang)) as url:
        done = replay_rows(tmp_path, rows, url, mode=PARTLY_OPEN, timeout_s=0.5)
    assert [row["error"] for _, row in sorted(done.rows.items())] == ["timeout", "not_sent", "not_sent"]
    validity = judge(RunTable.of(done.table, done.metadata))
    assert "2 later turns were never due" in " ".join(validity.warnings)
    assert "achieved load" not in [check.name for check in validity.checks if not check.passed]


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_live_answers_are_woven_into_what_is_said_next(tmp_path: Path, sender: str) -> None:
    seen: list[bytes] = []

    def reply(request: bytes) -> bytes:
        said = json.loads(request.partition(b"\r\n\r\n")[2])["messages"]
        content = f"live answer to {len(said)}"
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )

    with answering(reply, seen) as url:
        replay_rows(tmp_path, turns("s", 3, 0, 10 * MS), url, sender=sender, mode=PARTLY_OPEN, weaving=True)
    asked = [messages_in(request.partition(b"\r\n\r\n")[2]) for request in seen]
    assert [[message["content"] for message in messages or []] for messages in asked] == [
        ["s says 0"],
        ["s says 0", "live answer to 1", "s says 1"],
        ["s says 0", "live answer to 1", "s says 1", "live answer to 3", "s says 2"],
    ]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_each_turn_has_at_most_one_follower_and_none_is_lost(sessions: list[int], random: Any) -> None:
    arrival_ns = np.cumsum([random.randrange(1, 100) for _ in sessions])
    end_ns = arrival_ns + np.array([random.randrange(0, 200) for _ in sessions])
    schedule = base_schedule(arrival_ns, end_ns, np.array(sessions))
    following = followers(schedule)
    for index, follower in enumerate(following):
        if follower >= 0:
            assert schedule.after[follower] == index
    assert sorted(following[following >= 0]) == np.flatnonzero(schedule.after >= 0).tolist()


SYSTEM = {"role": "system", "content": "s"}
USER = {"role": "user", "content": "u"}
TOLD = {"role": "assistant", "content": "recorded", "name": "x"}


@pytest.mark.parametrize(
    ("messages", "before", "woven"),
    [
        ([SYSTEM, USER, TOLD, USER], [SYSTEM, USER], [SYSTEM, USER, TOLD | {"content": "live"}, USER]),
        (
            [USER, TOLD, USER],
            [USER | {"content": "changed"}],
            [USER | {"content": "changed"}, TOLD | {"content": "live"}, USER],
        ),
        ([USER, TOLD, USER], [USER, USER], None),
        ([USER, TOLD | {"tool_calls": [1]}, USER], [USER], None),
        ([USER, USER, USER], [USER], None),
        ([USER], [USER], None),
    ],
    ids=["answer", "what came before", "another conversation", "tool calls", "no answer", "nothing new"],
)
def test_what_is_woven_and_what_is_left_alone(
    messages: list[Any], before: list[Any], woven: list[Any] | None
) -> None:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    found = weave(body, before, "live")
    if woven is None:
        assert found == body
    else:
        assert json.loads(found) == {"model": "m", "messages": woven}


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"messages": "x"}', b'{"messages": [1]}'])
def test_bodies_without_a_conversation_stay(body: bytes) -> None:
    assert messages_in(body) is None
    assert weave(body, [], "live") == body
