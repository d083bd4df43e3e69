"""From spool to journal: what is written, what is not, and nothing is lost or doubled wherever it stops."""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from capture_rig import rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_rig import SECRET, Desk, ask, exchange, give

from capture import intake as intake_module
from capture.exchange import Exchange, RequestHead
from capture.journal import Kind
from capture.journal_folder import JournalFolder, journals_in


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "capture")


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["request_id"] for row in rows]


def test_a_row_is_in_the_journal_without_its_credentials_and_nowhere_else(desk: Desk) -> None:
    give(desk.recorder, exchange(1))
    assert desk.taken()
    (row,) = desk.journaled()
    assert (row["request_id"], row["request_body"], row["response_body"]) == ("r1", b"q", b"answer")
    assert row["request_headers"] == [["authorization", "REDACTED"]]
    assert row["response_headers"] == [["set-cookie", "REDACTED"]]
    assert row["path"] == "/x?key=REDACTED"
    assert SECRET.encode() not in desk.on_disk()


def test_a_request_in_flight_is_in_the_journal_too_without_its_credentials(desk: Desk) -> None:
    ask(desk.recorder, exchange(1, end=False))
    desk.taken()
    assert (desk.intake.in_flight, desk.intake.rows) == (1, 0)
    assert b"r1" in desk.on_disk()
    assert SECRET.encode() not in desk.on_disk()
    assert desk.intake.cut_off()
    (row,) = desk.journaled()
    assert (row["outcome"], row["status"], row["request_body"]) == ("in_flight", None, b"q")
    assert SECRET.encode() not in desk.on_disk()


def test_a_request_known_by_its_head_is_replaced_when_it_is_whole(desk: Desk) -> None:
    made = exchange(1)
    desk.recorder.asked(made, head_alone=True)
    desk.taken()
    give(desk.recorder, made)
    desk.taken()
    (row,) = desk.journaled()
    assert (row["request_body"], desk.intake.opened) == (b"q", 1)


def test_a_body_that_the_spool_had_no_room_for_is_told_by_the_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = exchange(1)
    desk.recorder.asked(made, head_alone=True)
    with monkeypatch.context() as patched:
        patched.setattr(desk.recorder, "_limit_bytes", 0)
        desk.recorder.asked(made)
    desk.recorder.closed(made)
    desk.taken()
    (row,) = desk.journaled()
    assert (row["request_body"], row["request_body_ns"]) == (b"q", made.arrival_ns + 1)


def test_a_body_that_only_the_end_tells_goes_by_the_policy_as_well(desk: Desk) -> None:
    made = exchange(1, body=b'{"password": "' + SECRET.encode() + b'", "note": "kept"}')
    desk.recorder.asked(made, head_alone=True)
    desk.recorder.closed(made)
    desk.taken()
    (row,) = desk.journaled()
    assert json.loads(row["request_body"])["note"] == "kept"
    assert SECRET.encode() not in row["request_body"]
    assert SECRET.encode() not in desk.on_disk()
    assert desk.intake.left_out.total() > 0


def test_a_row_that_cannot_be_redacted_is_never_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, place in ((1, "request_as_kept"), (2, "row_as_kept")):
        with monkeypatch.context() as patched:
            patched.setattr(intake_module, place, lambda *_: 1 / 0)
            give(desk.recorder, exchange(number))
            desk.taken()
    give(desk.recorder, exchange(3))
    desk.taken()
    assert ids(desk.journaled()) == ["r3"]
    assert desk.intake.dropped == {"not_redacted": 2}
    assert desk.intake.cut_off()
    assert ids(desk.journaled()) == ["r3"], "nor is it taken for one in flight"


def test_a_row_whose_meaning_cannot_be_read_is_recorded_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "fill_semantics", lambda *_: 1 / 0)
    give(desk.recorder, exchange(1))
    desk.taken()
    assert ids(desk.journaled()) == ["r1"]
    assert SECRET.encode() not in desk.on_disk()


def test_an_end_without_its_request_is_counted(desk: Desk) -> None:
    desk.recorder._put(Kind.ENDED, exchange(9).ended_values())
    desk.recorder._hand_over(Kind.ENDED, {"no": "exchange"})
    give(desk.recorder, exchange(1))
    desk.taken()
    assert desk.intake.dropped == {"request_lost": 1, "recorder_error": 1}
    assert ids(desk.journaled()) == ["r1"]


def test_a_request_that_the_proxy_gave_up_is_no_row(desk: Desk) -> None:
    ask(desk.recorder, exchange(1))
    desk.recorder.lost("addon_error", "r1")
    desk.recorder.report()
    desk.taken()
    assert desk.intake.cut_off()
    assert desk.journaled() == []
    assert (desk.intake.seen, desk.intake.dropped) == (1, {"addon_error": 1})


def test_a_disk_that_refuses_for_a_while_costs_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    give(desk.recorder, exchange(1))
    desk.taken()
    with monkeypatch.context() as patched:
        patched.setattr(JournalFolder, "append", no_space)
        give(desk.recorder, exchange(2))
        assert not desk.taken()
        assert desk.intake.trouble == "disk_full: No space left on device"
        give(desk.recorder, exchange(3))
        assert not desk.taken()
    assert desk.taken()
    assert desk.intake.trouble == ""
    assert ids(desk.journaled()) == ["r1", "r2", "r3"]


def no_space(journal: JournalFolder, parts: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_refuses_to_the_end_is_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.taken()
    give(desk.recorder, exchange(1), exchange(2))
    ask(desk.recorder, exchange(3, end=False))
    desk.recorder.report()
    monkeypatch.setattr(JournalFolder, "append", no_space)
    desk.taken()
    assert not desk.intake.cut_off()
    desk.intake.give_up()
    assert (desk.intake.seen, desk.intake.rows, desk.intake.dropped) == (3, 0, {"disk_full": 3})


def test_the_newest_journal_holds_all_that_is_in_flight_and_rows_stay_whole(desk: Desk) -> None:
    long, short = exchange(1), exchange(2)
    ask(desk.recorder, long)
    give(desk.recorder, short)
    desk.taken()
    assert desk.intake.begin_journal()
    assert desk.intake.begin_journal()
    journals_in(desk.folder)[0].unlink()
    desk.recorder.closed(long)
    desk.taken()
    assert ids(desk.journaled()) == ["r1"]
    assert desk.journaled()[0]["request_body"] == b"q"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_killed_anywhere_and_started_again_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    desk = Desk(tmp_path_factory.mktemp("capture"))
    open_: list[Exchange] = []
    for number in range(data.draw(st.integers(1, 12))):
        made = exchange(number)
        ask(desk.recorder, made)
        open_.append(made)
        if data.draw(st.booleans()):
            desk.recorder.closed(open_.pop(data.draw(st.integers(0, len(open_) - 1))))
        what = data.draw(st.sampled_from(["nothing", "take", "roll", "kill", "tear"]))
        if what == "take":
            desk.taken()
        if what == "roll":
            desk.intake.begin_journal()
        if what in ("kill", "tear"):
            if what == "tear":
                killed_in_a_write(desk, data.draw(st.floats(0, 1)))
            desk.intake = desk.new_intake()
    desk.taken()
    closed = desk.intake.rows
    assert desk.intake.cut_off()
    rows = desk.journaled()
    assert sorted(ids(rows)) == sorted(f"r{number}" for number in range(number + 1))
    assert {row["request_id"] for row in rows if row["outcome"] == "in_flight"} == {
        made.request_id for made in open_
    }
    assert closed == len(rows) - len(open_)
    desk.recorder.forget()


def killed_in_a_write(desk: Desk, share: float) -> None:
    """Let the intake take what has come, and be killed when `share` of what it writes is in the journal."""
    whole = JournalFolder.append

    def torn(journal: JournalFolder, parts: list[bytes]) -> None:
        data = b"".join(parts)
        whole(journal, [data[: int(share * len(data))]])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(JournalFolder, "append", torn)
        desk.taken()


def test_rows_of_journals_are_the_rows_of_segments_each_once(desk: Desk) -> None:
    for number in range(5):
        give(desk.recorder, exchange(number, arrival_ns=100 - number))
        desk.taken()
        desk.intake.begin_journal()
    assert list(desk.compacted()) == [{}] * 6
    assert journals_in(desk.folder) == []
    assert ids(rows_of(desk.folder)) == [f"r{number}" for number in (4, 3, 2, 1, 0)]
    assert SECRET.encode() not in desk.on_disk()


def test_one_row_that_arrow_refuses_does_not_take_the_others_along(desk: Desk) -> None:
    bad = Exchange("bad", RequestHead("GET", "http", "h", "/\ud800", "HTTP/1.1", []), 5)
    bad.cut_off()
    give(desk.recorder, exchange(1), bad, exchange(2))
    desk.taken()
    assert list(desk.compacted()) == [{"unwritable": 1}]
    assert ids(rows_of(desk.folder)) == ["r1", "r2"]
