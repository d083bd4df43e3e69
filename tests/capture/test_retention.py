"""Bounds on what is kept: the oldest whole segments go, they are counted, and the trace says so."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_rig import eventually, exchange, give
from store_rig import write_rows

from capture.capture_facts import CaptureFacts
from capture.counts import UploadCounts
from capture.intake import Intake
from capture.journal_folder import JournalFolder, journals_in, left_behind
from capture.merged_metadata import merged
from capture.quantities import parse_bytes, parse_duration_ns
from capture.recorder import Recorder, RecorderOptions
from capture.retention import FolderRetention, Held, Retention, notes_of, outdated
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace

SEGMENTS = st.lists(
    st.builds(Held, st.uuids().map(str), st.integers(0, 100), st.floats(0, 1000)), unique_by=lambda s: s.name
)


@given(held=SEGMENTS, most=st.integers(1, 500), age_s=st.floats(1, 1000), now_s=st.floats(0, 2000))
@settings(max_examples=60)
def test_what_is_left_fits_and_nothing_goes_without_need(
    held: list[Held], most: int, age_s: float, now_s: float
) -> None:
    gone = dict(outdated(held, Retention(most, age_s), now_s))
    left = [segment for segment in held if segment not in gone]
    assert all(now_s - segment.written_s <= age_s for segment in left)
    assert sum(segment.size_bytes for segment in left) <= most or len(left) == 1
    for segment, bound in gone.items():
        assert all(segment.written_s <= other.written_s for other in left), "an older one stayed"
        if bound == "max_age":
            assert now_s - segment.written_s > age_s
    by_size = [segment for segment, bound in gone.items() if bound == "max_size"]
    if by_size:
        assert sum(segment.size_bytes for segment in (by_size[-1], *left)) > most, "it would have fitted"
    assert len(list(outdated(held, Retention(), now_s))) == 0
    assert list(outdated(left, Retention(most, age_s), now_s)) == []


def test_in_a_folder_only_whole_segments_go(tmp_path: Path) -> None:
    for number in range(1, 5):
        write_rows(tmp_path / f"segment-{number:06d}.parquet", range(10))
        os.utime(tmp_path / f"segment-{number:06d}.parquet", (number, number))
    others = [
        "segment-000009.parquet.damaged",
        ".segment-000009.parquet.tmp",
        "notes.parquet",
        ".capture.json",
    ]
    for name in others:
        (tmp_path / name).write_bytes(bytes(100_000))
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "journal-000002.frames").touch()  # segment 2 may be made again, and would be
    size_bytes = (tmp_path / "segment-000001.parquet").stat().st_size
    gone = FolderRetention(tmp_path, Retention(max_bytes=size_bytes)).turn()
    assert gone == {"max_size": 2, "bytes": 2 * size_bytes}
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*others, "segment-000002.parquet", "segment-000004.parquet", "journal-000002.frames"}
    assert FolderRetention(tmp_path, Retention(max_age_s=60)).turn()["max_age"] == 1
    assert not FolderRetention(tmp_path / "gone", Retention(max_age_s=1)).turn()


@pytest.mark.slow
def test_a_capture_keeps_its_bounds_and_its_trace_says_what_went(tmp_path: Path) -> None:
    bounds = Retention(max_bytes=40_000)
    recorder = Recorder(tmp_path, RecorderOptions(segment_s=0.1, retention=bounds), "test")
    assert CaptureFacts.from_json(recorder.facts.to_json(), "x").options.retention == bounds
    recorder.start()
    for number in range(6):
        give(recorder, *(exchange(100 * number + n, body=os.urandom(2000)) for n in range(5)))
        eventually(lambda wanted=5 * (number + 1): recorder.counts().recorded == wanted)
        time.sleep(0.02)
    # Segments say what went before them.
    eventually(lambda: recorder.counts().expired.get("max_size", 0) > 0)
    give(recorder, *(exchange(600 + n, body=os.urandom(2000)) for n in range(5)))
    eventually(lambda: recorder.counts().recorded == 35)
    recorder.stop()
    counts = recorder.counts()
    recorder.forget()
    assert counts.recorded == 35
    assert sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) <= 40_000
    trace = open_trace(tmp_path)
    told = trace.metadata.counts
    assert 0 < trace.rows < 35
    assert told["recorded"] + told["elsewhere"] == told["seen"] == 35
    (note,) = trace.metadata.notes
    assert note.startswith("older segments were deleted while this was recorded: ")
    assert "by --max-size" in note
    assert counts.expired["max_size"] > 0


def test_a_trace_counts_what_is_in_none_of_its_files() -> None:
    def said(recorded: int, *notes: str, source: str = "a") -> TraceMetadata:
        counts = {"seen": recorded, "recorded": recorded, "dropped": {}}
        return TraceMetadata(wall_zero_ns=1, source=source, counts=counts, notes=notes)

    told = merged([(said(50, "old"), 10), (said(90, "two went"), 40), (said(5, source="b"), 5)])
    assert told.counts == {"seen": 95, "recorded": 55, "dropped": {}, "elsewhere": 40}
    assert told.notes == ("two went",)


def test_what_went_in_a_store_is_told_to_the_recorder_and_outlives_it(tmp_path: Path) -> None:
    class Gone:
        """Stands for the sending process."""

        def counts(self) -> UploadCounts:
            return UploadCounts(expired={"max_age": 3, "bytes": 2000})

    recorder = Recorder(tmp_path, RecorderOptions(), "test", (), Gone())  # type: ignore[arg-type]
    give(recorder, exchange(1))
    recorder.report()
    journal = JournalFolder(tmp_path)
    intake = Intake(recorder.facts, journal)
    assert intake.turn()
    intake.own_expired["max_size"] += 1
    intake.begin_journal()
    again = Intake(recorder.facts, journal, left_behind(journals_in(tmp_path)[-1], to_last_state=True))
    assert again.expired == {"max_age": 3, "max_size": 1, "bytes": 2000}
    (note,) = recorder.facts.metadata({}, expired=again.expired).notes
    assert note.endswith("1 by --max-size, 3 by --max-age, 2.0 KB")
    recorder.forget()


def test_nothing_is_said_where_nothing_went() -> None:
    assert notes_of({}) == notes_of({"bytes": 0}) == ()
    assert notes_of({"max_age": 2, "bytes": 3000}) == (
        "older segments were deleted while this was recorded: 2 by --max-age, 3.0 KB",
    )


def test_bounds_are_said_in_the_usual_units() -> None:
    assert parse_duration_ns("7d", "--max-age") == 7 * 24 * 3600 * 10**9
    assert parse_bytes("50GB", "--max-size") == 50 * 10**9
    assert parse_bytes("1.5 GiB", "--max-size") == 3 << 29
