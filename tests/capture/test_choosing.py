"""Laws of choosing: filters in stages, samples of sessions, the switch, the window; no proxy in here."""

from __future__ import annotations

import datetime
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import flowfilter, http
from mitmproxy.test import tflow
from recording_rig import Desk, ask

from capture.body_condition import holds
from capture.choice import BY_FILTER, OUTSIDE_WINDOW, PAUSED, Choice, Stage, parse_body_limit, parse_sample
from capture.copied_body import BODY_COPY_LIMIT_BYTES
from capture.exchange import Exchange, RequestHead
from capture.failures import BadInput
from capture.filter_stages import decide, parse_filter
from capture.flow_choice import FlowChoice
from capture.recording_switch import NEVER_NS, RecordingSwitch, within
from capture.session_sample import SessionSample
from capture.time_window import TimeWindow, window_of

ATOMS = (
    *("~m POST", "~u /v1/", "~d internal", "~hq x-a", "~tq json", "~src 127", "~http", "~all", "~tcp"),
    *("~h x-", "~t json", "~hs x-b", "~ts html", "~c 200", "~c 500", "~a", "~s", "~q", "~dst address"),
    *("~e", "~websocket", "~marked", "~b word", "~bq word", "~bs word", "~replay", "/plain"),
)


def filters() -> st.SearchStrategy[str]:
    """Expressions in mitmproxy's language."""
    return st.recursive(
        st.sampled_from(ATOMS),
        lambda inner: st.one_of(
            inner.map("!({})".format),
            st.tuples(inner, st.sampled_from("&|"), inner).map(lambda parts: "({} {} {})".format(*parts)),
        ),
        max_leaves=6,
    ).filter(is_taken)


def is_taken(text: str) -> bool:
    """Whether mitmproxy takes it: it doesn't take every negation of what is in parentheses."""
    try:
        flowfilter.parse(text)
    except ValueError:
        return False
    return True


@st.composite
def flows(draw: st.DrawFn) -> tuple[http.HTTPFlow, http.HTTPFlow, http.HTTPFlow]:
    """One flow when its request's head, its response's head, and all of it is known."""
    flow = tflow.tflow()
    flow.request.method = draw(st.sampled_from(("GET", "POST")))
    flow.request.path = draw(st.sampled_from(("/v1/chat", "/plain")))
    flow.request.host = draw(st.sampled_from(("api.internal", "api.example")))
    flow.request.headers = http.Headers(**draw(st.sampled_from(({"x-a": "1"}, {"content-type": "json"}, {}))))
    flow.request.content = None
    asked = flow.copy()
    if answered := draw(st.booleans()):
        flow.response = http.Response.make(draw(st.sampled_from((200, 500))))
        flow.response.headers = http.Headers(
            **draw(
                st.sampled_from(({"x-b": "1"}, {"content-type": "text/html"}, {"content-type": "json"}, {}))
            )
        )
        flow.response.content = None
    head = flow.copy()
    flow.request.content = draw(st.sampled_from((b"", b"a word", b"nothing")))
    if answered and flow.response is not None:
        flow.response.content = draw(st.sampled_from((b"", b"a word", b"nothing")))
    flow.error = None if draw(st.booleans()) else tflow.terr()
    return asked, head, flow


@given(filters(), flows())
@settings(max_examples=15, deadline=None)  # mitmproxy takes its time to parse
def test_what_is_said_early_is_what_mitmproxy_says_of_the_whole_flow(
    text: str, stages: tuple[http.HTTPFlow, http.HTTPFlow, http.HTTPFlow]
) -> None:
    asked, answered, over = stages
    said = bool(flowfilter.match(text, over))
    node = parse_filter(text)
    early = [decide(node, asked, Stage.ASKED)]
    if answered.response is not None:  # without one this stage never comes
        early.append(decide(node, answered, Stage.ANSWERED))
    assert all(decided is said for decided in early if isinstance(decided, bool))
    without_bodies = over.copy()
    without_bodies.request.content = None
    if without_bodies.response is not None:
        without_bodies.response.content = None
    rest = json.loads(json.dumps(decide(node, without_bodies, Stage.OVER)))
    response = over.response.content if over.response is not None else None
    assert holds(rest, over.request.content, response) is said


@pytest.mark.parametrize(
    ("text", "asked", "answered"),
    [
        ("~m POST & ~u /v1/", BY_FILTER, BY_FILTER),
        ("~u /path & ~c 500", "undecided", BY_FILTER),
        ("~u /other & ~c 500", BY_FILTER, BY_FILTER),
        ("~u /path | ~c 500", "", ""),
        ("~u /path & ~bs x", "undecided", "undecided"),
        ("~c 500 & ~bs x", "undecided", BY_FILTER),
        ("!~e", "undecided", "undecided"),
    ],
)
def test_a_filter_is_decided_as_soon_as_it_can_be(text: str, asked: str, answered: str) -> None:
    choice, flow = FlowChoice(Choice(filter=text)), tflow.tflow()
    assert choice.asked(flow) == asked
    flow.response = http.Response.make(200)
    assert choice.answered(flow) == answered


def conversation(number: int, turn: int, **fields: Any) -> dict[str, Any]:
    said = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"question {number}"}]
    for later in range(turn):
        said += [{"role": "assistant", "content": f"a{later}"}, {"role": "user", "content": f"q{later}"}]
    return {"messages": said, "stream": bool(turn % 2), **fields}


@given(st.integers(0, 10**6), st.integers(1, 30), st.floats(0.05, 0.95), st.text(max_size=8))
@settings(max_examples=60)
def test_all_turns_of_a_conversation_are_in_or_out(number: int, turns: int, share: float, seed: str) -> None:
    sample = SessionSample(share, seed)
    for fields in ({}, {"user": f"u{number}"}, {"session_id": f"s{number}"}):
        names = {sample.name_of(conversation(number, turn, **fields), f"r{turn}") for turn in range(turns)}
        assert len(names) == 1
    chained, answered = {"input": "hello"}, ""
    name = sample.name_of(chained, "r0")
    for turn in range(turns):
        answered = f"resp_{turn}"
        sample.answered(name, answered)
        assert sample.name_of({"input": "more", "previous_response_id": answered}, f"r{turn}") == name
    assert SessionSample(share, seed).takes(name) is sample.takes(name), "in every process"


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_share_that_is_kept_is_the_one_asked_for(share: float) -> None:
    count = 20_000
    for kind in ("prompt", "user", "alone"):
        sample = SessionSample(share, f"seed {kind}")
        kept = 0
        for number in range(count):
            request = {
                "prompt": conversation(number, 0),
                "user": {"prompt": "p", "user": f"u{number}"},
                "alone": {"input": ["text to embed"]},
            }[kind]
            kept += sample.takes(sample.name_of(request, f"r{number}"))
        assert abs(kept - count * share) < 5 * math.sqrt(count * share * (1 - share))


def test_a_sample_of_all_has_all_and_two_seeds_differ() -> None:
    assert all(SessionSample(1.0, "s").takes(f"n{n}") for n in range(1000))
    drawn = [{n for n in range(1000) if SessionSample(0.5, seed).takes(f"n{n}")} for seed in ("a", "b")]
    assert drawn[0] != drawn[1]


def chat_exchange(request_id: str, number: int, turn: int = 0) -> Exchange:
    made = Exchange(request_id, RequestHead("POST", "http", "h:1", "/v1/chat", "HTTP/1.1", []), turn)
    made.whole(json.dumps(conversation(number, turn)).encode(), turn + 1)
    return made


def test_what_the_sample_refuses_is_out_of_the_journal_also_after_a_recorder_died(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "capture", choice=Choice(sample=0.5, sample_seed="s"))
    asked = [chat_exchange(f"r{number}", number) for number in range(30)]
    for made in asked:
        ask(desk.recorder, made)
    desk.taken()
    assert 0 < desk.intake.in_flight < 30
    desk.intake = desk.new_intake()
    for made in asked[:20]:
        made.answered(200, [], 5)
        made.finish(6)
        desk.recorder.closed(made)
    desk.recorder.report()
    desk.taken()
    assert desk.intake.own_not_chosen["sample"] + desk.intake.rows == 20
    assert desk.intake.cut_off()
    intake = desk.intake
    assert not intake.dropped
    assert intake.seen == 30 == intake.rows + intake.not_chosen.total()
    assert len(desk.journaled()) == intake.rows
    lots = SessionSample(0.5, "s")
    taken = {f"r{n}" for n in range(30) if lots.takes(lots.name_of(conversation(n, 0), ""))}
    assert {row["request_id"] for row in desk.journaled()} == taken
    questions = set(re.findall(rb"question (\d+)", desk.on_disk()))
    assert questions == {request_id[1:].encode() for request_id in taken}, "nothing of the others"


def test_a_request_cut_off_within_its_body_is_drawn_by_what_is_known(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "capture", choice=Choice(sample=0.5, sample_seed="s"))
    for number in range(40):
        head = RequestHead("POST", "http", "h:1", "/v1/chat", "HTTP/1.1", [])
        desk.recorder.opened()
        desk.recorder.asked(Exchange(f"r{number}", head, number))
    desk.taken()
    assert desk.intake.cut_off()
    assert 0 < desk.intake.rows < 40
    assert desk.intake.own_not_chosen == {"sample": 40 - desk.intake.rows}


edges = st.lists(st.integers(1, 1000), min_size=1, max_size=8).map(sorted)


@given(edges, st.integers(0, 500), st.integers(501, 1100), st.integers(0, 1100))
def test_the_spans_that_a_trace_tells_are_those_in_which_arrivals_are_recorded(
    tmp_path_factory: pytest.TempPathFactory, turns: list[int], start: int, end: int, arrival: int
) -> None:
    path = tmp_path_factory.mktemp("switch") / "switch"
    turner, asker = RecordingSwitch(path), RecordingSwitch(path)
    assert asker.why_not(arrival) == PAUSED
    turner.limit(start, end)
    said = PAUSED
    for at, instant in enumerate(turns):
        if instant <= arrival or at == 0:
            said = asker.why_not(arrival) if instant <= arrival else PAUSED
        (turner.turn_off if at % 2 else turner.turn_on)(instant)
        if instant <= arrival:
            said = asker.why_not(arrival)
    inside = any(first <= arrival and (last is None or arrival < last) for first, last in turner.recorded())
    assert inside is (said == "")
    if not start <= arrival < end:
        assert said in (PAUSED, OUTSIDE_WINDOW)


def test_within_keeps_an_open_end_open_unless_the_window_ends_it() -> None:
    assert within([(0, 5), (7, None)], 3, NEVER_NS) == [(3, 5), (7, None)]
    assert within([(0, 5), (7, None)], 3, 9) == [(3, 5), (7, 9)]
    assert within([(0, 5), (7, None)], 5, 7) == []


NOW = datetime.datetime(2026, 11, 25, 8, 0, tzinfo=datetime.UTC)


def instant(hour: int, minute: int = 0, day: int = 25) -> int:
    at = datetime.datetime(2026, 11, day, hour, minute, tzinfo=datetime.UTC)
    return round(at.timestamp()) * 10**9


@pytest.mark.parametrize(
    ("given_flags", "window"),
    [
        ((None, None, None), TimeWindow()),
        (("2026-11-25T09:00Z", "10:30", None), TimeWindow(instant(9), instant(10, 30))),
        (("09:00", "2026-11-26T10:00+00:00", None), TimeWindow(instant(9), instant(10, 0, 26))),
        (("07:00", "09:00", None), TimeWindow(instant(7), instant(9))),
        ((None, None, "1m30s"), TimeWindow(for_ns=90 * 10**9)),
        (("09:00", None, "10m"), TimeWindow(instant(9), None, 600 * 10**9)),
    ],
)
def test_windows_as_they_are_typed(given_flags: tuple[str | None, ...], window: TimeWindow) -> None:
    assert window_of(*given_flags, NOW) == window


@pytest.mark.parametrize(
    ("given_flags", "words"),
    [
        (("09:00", "08:30", None), "--to 08:30: 2026-11-25T08:30 is not after --from 2026-11-25T09:00"),
        ((None, "07:59", None), "--to 07:59: is past, it is 2026-11-25T08:00:00 now"),
        (("noon", None, None), "--from noon: 2026-11-25T09:00 or 09:00 wanted"),
        ((None, "10:00", "5m"), "leave one of them out"),
        ((None, None, "0"), "a duration above 0"),
        ((None, None, "soon"), "a duration such as"),
    ],
)
def test_windows_that_make_no_sense(given_flags: tuple[str | None, ...], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        window_of(*given_flags, NOW)


def test_a_window_that_lasts_begins_with_the_capture_or_at_its_start() -> None:
    assert TimeWindow(for_ns=5).until(100) == 105
    assert TimeWindow(from_ns=200, for_ns=5).until(100) == 205
    assert TimeWindow(from_ns=50, for_ns=5).until(100) == 105
    assert TimeWindow(until_ns=300).until(100) == 300


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1000", 1000), ("1MB", 10**6), ("64KiB", 65536), ("64MiB", 1 << 26)]
)
def test_body_limits(text: str, size: int) -> None:
    assert parse_body_limit(text, "--max-body") == size


@pytest.mark.parametrize("text", ["1GB", "65MiB", "-1", "many", "1 TB"])
def test_body_limits_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadInput, match="--max-body: "):
        parse_body_limit(text, "--max-body")


def test_samples_as_they_are_typed_and_told() -> None:
    assert parse_sample("1%", "--sample") == 0.01
    with pytest.raises(BadInput, match="a share above 0"):
        parse_sample("0", "--sample")
    assert (Choice().sampling, Choice().described()) == ("all", {})
    assert Choice(sample=0.01, sample_seed="s").sampling == "1% of sessions, seed s"
    assert Choice().max_body_bytes == BODY_COPY_LIMIT_BYTES
