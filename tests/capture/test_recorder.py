"""The recorder in this process: bounds, segments, what a full disk costs, what is never written."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from capture_rig import metadata_of, rows_of

from capture import recorder as recorder_module
from capture.counts import Counts, readable_bytes
from capture.exchange import Exchange, RequestHead
from capture.failures import BadInput
from capture.recorder import Recorder, RecorderOptions
from capture.recording import Output, merge_segments, record
from capture.segments import SegmentFolder, clear_folder, drop_cause, prepare_folder
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of


def exchange(number: int, *, body: bytes = b"q", arrival_ns: int | None = None) -> Exchange:
    head = RequestHead("POST", "http", "h:1", "/x?key=secret", "HTTP/1.1", [("authorization", "secret")])
    made = Exchange(f"r{number}", head, number if arrival_ns is None else arrival_ns)
    made.whole(body, made.arrival_ns + 1)
    made.answered(200, [("set-cookie", "secret")], made.arrival_ns + 2)
    made.finish(made.arrival_ns + 3)
    return made


def give(recorder: Recorder, *exchanges: Exchange) -> None:
    for made in exchanges:
        recorder.opened()
        recorder.closed(made)


def eventually(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("what was waited for did not happen")


def test_everything_given_is_on_disk_after_stop_in_arrival_order(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(), "test", ("h:1",))
    recorder.start()
    arrivals = [(number * 7919) % 1000 for number in range(1000)]
    give(recorder, *(exchange(n, arrival_ns=arrival) for n, arrival in enumerate(arrivals)))
    recorder.stop()
    (segment,) = tmp_path.glob("*.parquet")
    found = pq.read_table(segment, columns=["arrival_ns"])["arrival_ns"].to_pylist()
    assert found == sorted(arrivals)
    metadata = metadata_of(tmp_path)
    assert metadata["counts"] == {"seen": 1000, "recorded": 1000, "dropped": {}}
    assert metadata["upstreams"] == ["h:1"]


def test_segments_are_closed_by_size_and_carry_running_totals(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(segment_bytes=1 << 20), "test")
    recorder.start()
    give(recorder, *(exchange(n, body=bytes(300_000)) for n in range(12)))
    recorder.stop()
    segments = sorted(tmp_path.glob("*.parquet"))
    assert len(segments) > 1
    totals = [metadata_of(segment)["counts"]["recorded"] for segment in segments]
    assert totals == sorted(totals)
    assert totals[-1] == 12 == len(rows_of(tmp_path))


@pytest.mark.parametrize("options", [{"queue_rows": 5}, {"queue_bytes": 3000}])
def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path: Path, options: dict[str, Any]) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(**options), "test")
    give(recorder, *(exchange(n) for n in range(20)))
    recorder.start()
    recorder.stop()
    counts = recorder.counts()
    assert counts.seen == 20
    assert counts.dropped["queue_full"] == 20 - counts.recorded > 0
    assert metadata_of(tmp_path)["counts"] == counts.totals()


def test_a_disk_that_refuses_for_a_while_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    recorder = Recorder(folder, RecorderOptions(segment_s=0.05), "test")
    recorder.start()
    give(recorder, exchange(1))
    eventually(lambda: "disk_error" in recorder.counts().trouble)
    assert recorder.counts().waiting == 1
    folder.mkdir()
    eventually(lambda: recorder.counts().recorded == 1)
    assert recorder.counts().trouble == ""
    recorder.stop()
    assert [row["request_id"] for row in rows_of(folder)] == ["r1"]


def test_a_disk_that_refuses_to_the_end_is_counted_and_does_not_hang(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "gone", RecorderOptions(), "test")
    recorder.start()
    give(recorder, *(exchange(n) for n in range(3)))
    recorder.stop()
    assert recorder.counts().totals() == {"seen": 3, "recorded": 0, "dropped": {"disk_error": 3}}


def test_rows_that_do_not_fit_at_the_end_are_told_by_a_segment_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SegmentFolder._write

    def no_space(self: SegmentFolder, path: Path, metadata: TraceMetadata) -> None:
        if self.rows > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, path, metadata)

    monkeypatch.setattr(SegmentFolder, "_write", no_space)
    recorder = Recorder(tmp_path, RecorderOptions(segment_s=0.05), "test")
    recorder.start()
    give(recorder, exchange(1))
    eventually(lambda: recorder.counts().recorded == 1)
    give(recorder, *(exchange(n) for n in range(2, 5)))
    recorder.stop()
    counts = {"seen": 4, "recorded": 1, "dropped": {"disk_full": 3}}
    assert recorder.counts().totals() == counts == metadata_of(tmp_path)["counts"]
    assert open_trace(tmp_path).metadata.counts == counts
    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r1"]


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EIO, "disk_error"),
        (None, "disk_error"),
    ],
)
def test_the_cause_of_a_loss_is_the_kernels(number: int | None, cause: str) -> None:
    assert drop_cause(OSError(number, "refused") if number else OSError("refused")) == cause


def test_a_row_that_cannot_be_redacted_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: dict[str, Any], policy: object, tally: object) -> None:
        if row["request_id"] == "r1":
            raise RuntimeError("no")

    monkeypatch.setattr(recorder_module, "redact", fail)
    recorder = Recorder(tmp_path, RecorderOptions(), "test")
    recorder.start()
    give(recorder, exchange(1), exchange(2))
    recorder.stop()
    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r2"]
    assert recorder.counts().dropped == {"not_redacted": 1}


def test_a_row_whose_meaning_cannot_be_read_is_recorded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: dict[str, Any], sessions: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(recorder_module, "fill_semantics", fail)
    recorder = Recorder(tmp_path, RecorderOptions(), "test")
    recorder.start()
    give(recorder, exchange(1))
    recorder.stop()
    (row,) = rows_of(tmp_path)
    assert row["request_body"] == b"q"
    assert "secret" not in repr(row)


def test_one_row_that_arrow_refuses_does_not_take_the_others_along(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(), "test")
    bad = Exchange("bad", RequestHead("GET", "http", "h", "/\ud800", "HTTP/1.1", []), 5)
    bad.cut_off()
    give(recorder, exchange(1), bad, exchange(2))
    recorder.start()
    recorder.stop()
    assert [row["request_id"] for row in rows_of(tmp_path)] == ["r1", "r2"]
    assert recorder.counts().totals() == {"seen": 3, "recorded": 2, "dropped": {"unwritable": 1}}


def test_overlapping_segments_become_one_sorted_file(tmp_path: Path) -> None:
    folder = SegmentFolder(tmp_path / "segments")
    prepare_folder(folder.folder, overwrite=False)
    metadata = TraceMetadata(wall_zero_ns=1, source="test", counts={"recorded": 6})
    for numbers in ([5, 1, 3], [4, 0, 2]):
        folder.add(batch_of([exchange(number).row() for number in numbers]))
        assert folder.close_segment(metadata) == 3
    file = tmp_path / "one.parquet"
    assert merge_segments(folder.folder, file, metadata) == 6
    assert pq.read_table(file)["request_id"].to_pylist() == [f"r{number}" for number in range(6)]


def test_a_failing_merge_leaves_the_segments(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "t.parquet")
    output.prepare(overwrite=False)

    def serve(recorder: Recorder) -> None:
        give(recorder, exchange(1))
        (output.folder / "segment-999999.parquet").write_bytes(b"no parquet")

    ended = record(
        serve, output, RecorderOptions(), source="t", upstreams=(), show=lambda counts: None, show_every_s=9
    )
    assert "segment-999999" in ended.trouble
    assert ended.trace == output.folder
    assert not (tmp_path / "t.parquet").exists()
    assert (output.folder / "segment-000001.parquet").exists()


def test_a_serve_that_raises_still_leaves_what_was_seen(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "folder")
    output.prepare(overwrite=False)

    def serve(recorder: Recorder) -> None:
        give(recorder, exchange(1))
        raise BadInput("stop")

    with pytest.raises(BadInput, match="stop"):
        record(
            serve,
            output,
            RecorderOptions(),
            source="t",
            upstreams=(),
            show=lambda counts: None,
            show_every_s=9,
        )
    assert len(rows_of(output.folder)) == 1


def test_overwrite_removes_segments_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "segment-000001.parquet").touch()
    (tmp_path / ".segment-000002.parquet.tmp").touch()
    with pytest.raises(BadInput, match="earlier capture"):
        prepare_folder(tmp_path, overwrite=False)
    prepare_folder(tmp_path, overwrite=True)
    assert (tmp_path / "segment-000001.parquet").exists(), "only asked so far"
    clear_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").touch()
    with pytest.raises(BadInput, match=r"mine\.txt"):
        prepare_folder(tmp_path, overwrite=True)
    clear_folder(tmp_path)
    assert (tmp_path / "mine.txt").exists()


def test_the_counter_line_accounts_for_every_request() -> None:
    counts = Counts(
        seen=1010, recorded=900, dropped={"disk_full": 5}, in_flight=7, segment=3, disk_bytes=4_200_000
    )
    assert counts.waiting == 1010 - 900 - 5 - 7
    assert counts.line() == (
        "seen 1,010 · recorded 900 · dropped 5 (disk_full 5) · waiting 98 · in flight 7 · segment 3"
        " · disk 4.2 MB"
    )
    assert readable_bytes(999) == "999 B"
