"""Sessions are found by header, by what the body names, by growth of the messages, and last by user."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.sessions import USER_IDLE_NS, SessionFinder, Talk


class Teller:
    """Makes talks with ascending ids and instants, and asks the finder about them."""

    def __init__(self) -> None:
        self.finder = SessionFinder()
        self.number = 0

    def tell(
        self,
        *messages: str,
        answer: str | None = "ok",
        headers: tuple[tuple[str, str], ...] = (),
        at_ns: int | None = None,
        end_ns: int | None = None,
        answer_id: str | None = None,
        **fields: Any,
    ) -> tuple[str | None, int]:
        """Messages alternate between user and assistant, as chats do."""
        roles = ("user", "assistant")
        listed = [{"role": roles[i % 2], "content": text} for i, text in enumerate(messages)]
        self.number += 1
        at_ns = self.number * 10 if at_ns is None else at_ns
        request = {**({"messages": listed} if listed else {}), **fields}
        end_ns = at_ns + 5 if end_ns is None else end_ns
        return self.finder.find(Talk(f"r{self.number}", headers, request, answer, answer_id, at_ns, end_ns))


def test_a_session_header_wins_over_everything() -> None:
    teller = Teller()
    header = (("X-Session-Id", "s-1"),)
    assert teller.tell("hello", headers=header, user="ann") == ("s-1", 0)
    assert teller.tell("something else", headers=header, user="bob") == ("s-1", 1)
    assert teller.finder.by_header([("x-session-id", "s-1")]) == ("s-1", 2)
    assert teller.finder.by_header([("x-other", "s-1")]) is None


@pytest.mark.parametrize("field", ["session_id", "conversation_id"])
def test_the_body_may_name_the_conversation(field: str) -> None:
    teller = Teller()
    assert teller.tell("a", **{field: "c"}) == ("c", 0)
    assert teller.tell("b", **{field: "c"}) == ("c", 1)


def test_a_previous_response_continues_its_session() -> None:
    teller = Teller()
    session, turn = teller.tell(input="plain text", prompt="p", answer_id="resp_1")
    assert teller.tell(prompt="q", previous_response_id="resp_1") == (session, turn + 1)


def test_growing_messages_are_one_conversation() -> None:
    teller = Teller()
    session, _ = teller.tell("q1", answer="a1")
    assert teller.tell("q1", "a1", "q2", answer="a2") == (session, 1)
    assert teller.tell("q1", "a1", "q2", "a2", "q3") == (session, 2)


def test_equal_first_questions_are_told_apart_by_their_answers() -> None:
    teller = Teller()
    one, _ = teller.tell("hi", answer="hello, Ann")
    two, _ = teller.tell("hi", answer="hello, Bob")
    assert teller.tell("hi", "hello, Bob", "more") == (two, 1)
    assert teller.tell("hi", "hello, Ann", "more") == (one, 1)


def test_conversations_equal_so_far_are_continued_one_each() -> None:
    teller = Teller()
    sessions = {teller.tell("hi", answer="hello")[0] for _ in range(3)}
    continued = {teller.tell("hi", "hello", f"more {i}")[0] for i in range(3)}
    assert len(sessions) == 3
    assert continued == sessions


def test_an_unknown_answer_matches_any_but_a_known_one_only_itself() -> None:
    teller = Teller()
    cut_off, _ = teller.tell("q1", answer=None)
    assert teller.tell("q1", "whatever the client kept", "q2") == (cut_off, 1)
    known, _ = teller.tell("Q1", answer="a1")
    assert teller.tell("Q1", "another answer", "q2")[0] != known


def test_thinking_and_white_space_that_clients_strip_do_not_matter() -> None:
    teller = Teller()
    session, _ = teller.tell("q", answer="<think>let me see</think>\n\n42\n")
    assert teller.tell("q", "42", "why?") == (session, 1)


def test_moving_cache_marks_and_part_lists_do_not_matter() -> None:
    finder = SessionFinder()
    marked = {"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"type": "x"}}]}
    plain = {"role": "user", "content": "q"}
    first = finder.find(Talk("r1", (), {"messages": [marked]}, "a", None, 0, 1))
    grown = [plain, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}, plain]
    assert finder.find(Talk("r2", (), {"messages": grown}, "b", None, 2, 3)) == (first[0], 1)


def test_a_user_is_one_session_only_while_requests_follow_one_another() -> None:
    teller = Teller()
    session, _ = teller.tell("a", user="ann", at_ns=0, end_ns=100)
    assert teller.tell("b", user="ann", at_ns=100, end_ns=200) == (session, 1)
    beside, _ = teller.tell("c", user="ann", at_ns=150, end_ns=300)
    assert beside != session, "an overlapping request can't be the session's next turn"
    later, _ = teller.tell("d", user="ann", at_ns=301 + USER_IDLE_NS)
    assert later not in (session, beside)


def test_what_is_no_generation_has_no_session() -> None:
    teller = Teller()
    assert teller.tell(input="embed me", model="e") == (None, 0)
    assert teller.finder.find(Talk("x", (), None, None, None, 0, 1)) == (None, 0)
    assert teller.finder.find(Talk("y", (), {"messages": "not a list"}, None, None, 0, 1)) == (None, 0)


def test_memory_is_bounded() -> None:
    finder = SessionFinder(limit=10)
    for number in range(1000):
        messages = [{"role": "user", "content": f"q{number}"}]
        finder.find(Talk(f"r{number}", (), {"messages": messages, "user": f"u{number}"}, "a", "i", 0, 1))
    tables = [value for value in vars(finder).values() if hasattr(value, "__len__")]
    assert len(tables) == 5
    assert all(len(table) <= 10 for table in tables)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_interleaved_conversations_are_each_one_session_in_order(order: list[int]) -> None:
    teller = Teller()
    talks: dict[int, list[str]] = {}
    found: dict[int, list[tuple[str | None, int]]] = {}
    for who in order:
        said = talks.setdefault(who, [])
        said.append(f"question {len(said)} of {who}")
        found.setdefault(who, []).append(teller.tell(*said, answer=f"answer {len(said)} to {who}"))
        said.append(f"answer {len(said)} to {who}")
    for turns in found.values():
        assert [turn for _, turn in turns] == list(range(len(turns)))
        assert len({session for session, _ in turns}) == 1
    assert len({turns[0][0] for turns in found.values()}) == len(found)
