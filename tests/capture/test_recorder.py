"""The recorder with its processes: what is on disk after it, what a full spool costs, what a death costs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from capture_rig import children_of, metadata_of, rows_of
from recording_rig import Desk, ask, eventually, exchange, give

from capture.compaction import write_segment
from capture.counts import Counts, readable_bytes
from capture.failures import BadInput
from capture.frame_files import FolderLock
from capture.recorder import Recorder, RecorderOptions
from capture.recording import Output, conclude, merge_segments, record, recover
from capture.segments import clear_folder, drop_cause, prepare_folder, was_cut_off
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of


def ids(folder: Path) -> list[str]:
    return [row["request_id"] for row in rows_of(folder)]


@pytest.mark.slow
def test_everything_given_is_in_segments_after_stop_in_arrival_order(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(segment_bytes=1 << 20), "test", ("h:1",))
    recorder.start()
    arrivals = [(number * 7919) % 1000 for number in range(1000)]
    for number, arrival in enumerate(arrivals):
        give(recorder, exchange(number, arrival_ns=arrival, body=bytes(3000)))
    recorder.stop()
    segments = sorted(tmp_path.glob("*.parquet"))
    assert len(segments) > 1
    found = [pq.read_table(path, columns=["arrival_ns"])["arrival_ns"].to_pylist() for path in segments]
    assert all(part == sorted(part) for part in found)
    assert sorted(itertools.chain.from_iterable(found)) == sorted(arrivals)
    totals = [metadata_of(segment)["counts"]["recorded"] for segment in segments]
    assert totals == sorted(totals)
    assert metadata_of(segments[-1])["counts"] == {"seen": 1000, "recorded": 1000, "dropped": {}}
    assert metadata_of(segments[-1])["upstreams"] == ["h:1"]
    assert recorder.counts().totals() == {"seen": 1000, "recorded": 1000, "dropped": {}}
    recorder.forget()
    assert not recorder.facts.spool.exists()


@pytest.mark.slow
def test_a_full_spool_drops_and_counts_and_never_waits(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(spool_bytes=3000), "test")
    give(recorder, *(exchange(n) for n in range(20)))
    assert recorder.counts().dropped["queue_full"] > 0
    recorder.stop()
    counts = recorder.counts()
    assert counts.seen == 20
    assert counts.dropped["queue_full"] == 20 - counts.recorded > 0
    assert metadata_of(tmp_path)["counts"] == counts.totals()
    recorder.forget()


def recorder_process() -> int:
    """The one that runs: a killed one is still a child until it has been waited for."""

    def running() -> list[int]:
        told = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="], capture_output=True, text=True
        )
        lines = [line.split(maxsplit=1) for line in told.stdout.splitlines()]
        return [int(pid) for pid, command in lines if "recorder_process" in command]

    eventually(lambda: len(running()) == 1)
    return running()[0]


@pytest.mark.slow
def test_a_recorder_that_is_killed_is_started_again_and_goes_on(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(segment_s=0.2), "test")
    recorder.start()
    long = exchange(0)
    ask(recorder, long)
    for round_ in range(1, 4):
        give(recorder, *(exchange(10 * round_ + n) for n in range(5)))
        child = recorder_process()
        os.kill(child, signal.SIGKILL)
        give(recorder, *(exchange(10 * round_ + 5 + n) for n in range(5)))
        eventually(lambda wanted=round_: recorder.counts().restarts == wanted)
    eventually(lambda: recorder.counts().recorded >= 30)
    recorder.closed(long)
    recorder.stop()
    assert sorted(ids(tmp_path)) == sorted(f"r{n}" for n in (0, *range(10, 40)))
    assert recorder.counts().totals() == {"seen": 31, "recorded": 31, "dropped": {}}
    recorder.forget()


@pytest.mark.slow
def test_a_compactor_that_is_killed_is_started_again_and_its_journal_stays(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(segment_s=0.1), "test")
    recorder.start()
    give(recorder, exchange(1))
    eventually(lambda: recorder.counts().recorded == 1)
    child = recorder_process()
    (compactor,) = children_of(child)
    os.kill(compactor, signal.SIGKILL)
    give(recorder, exchange(2))
    eventually(lambda: recorder.counts().recorded == 2)
    recorder.stop()
    assert sorted(ids(tmp_path)) == ["r1", "r2"]
    recorder.forget()


@pytest.mark.slow
def test_a_disk_that_refuses_to_the_end_is_counted_and_does_not_hang(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    recorder = Recorder(folder, RecorderOptions(), "test")
    give(recorder, *(exchange(n) for n in range(3)))
    recorder.start()
    recorder._process.kill()  # type: ignore[union-attr]
    recorder._process.wait()  # type: ignore[union-attr]
    (folder / ".journal-000001.frames.tmp").mkdir()  # in the way of any journal
    recorder.stop()
    assert recorder.counts().totals() == {"seen": 3, "recorded": 0, "dropped": {"disk_error": 3}}
    recorder.forget()


@pytest.mark.slow
def test_something_in_the_way_of_a_segment_is_set_aside(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, RecorderOptions(segment_s=0.1), "test")
    (tmp_path / "segment-000001.parquet").write_bytes(b"PAR1 rubbish")
    recorder.start()
    give(recorder, exchange(1))
    eventually(lambda: recorder.counts().recorded == 1)
    (tmp_path / "segment-000003.parquet").write_bytes(b"rubbish")
    give(recorder, exchange(2))
    eventually(lambda: recorder.counts().recorded == 2)
    recorder.stop()
    (tmp_path / "segment-000001.parquet").unlink()  # was there before, is nobody's number, and was left alone
    assert sorted(ids(tmp_path)) == ["r1", "r2"]
    assert (tmp_path / "segment-000003.parquet.damaged").read_bytes() == b"rubbish"
    recorder.forget()


@pytest.mark.parametrize(
    ("number", "cause"),
    [(28, "disk_full"), (122, "disk_full"), (27, "disk_full"), (5, "disk_error"), (None, "disk_error")],
)
def test_the_cause_of_a_loss_is_the_kernels(number: int | None, cause: str) -> None:
    assert drop_cause(OSError(number, "refused") if number else OSError("refused")) == cause


def segment(folder: Path, number: int, arrivals: list[int], metadata: TraceMetadata) -> None:
    rows = [exchange(arrival).row() for arrival in arrivals]
    write_segment(folder / f"segment-{number:06d}.parquet", [batch_of(rows)], metadata)


def test_overlapping_segments_become_one_sorted_file(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    prepare_folder(folder, overwrite=False)
    metadata = TraceMetadata(wall_zero_ns=1, source="test", counts={"recorded": 6})
    segment(folder, 1, [5, 1, 3], metadata)
    segment(folder, 2, [4, 0, 2], metadata)
    file = tmp_path / "one.parquet"
    assert merge_segments(folder, file, metadata) == 6
    assert pq.read_table(file)["request_id"].to_pylist() == [f"r{number}" for number in range(6)]


@pytest.mark.slow
def test_a_failing_merge_leaves_the_segments(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "t.parquet")
    output.prepare(overwrite=False)

    def serve(recorder: Recorder) -> None:
        recorder.start()
        give(recorder, exchange(1))
        (output.folder / "segment-999999.parquet").write_bytes(b"no parquet")

    ended = record(
        serve, output, RecorderOptions(), source="t", upstreams=(), show=lambda counts: None, show_every_s=9
    )
    assert "segment-999999" in ended.trouble
    assert ended.trace == output.folder
    assert not (tmp_path / "t.parquet").exists()
    recovered, trace = recover(tmp_path / "t.parquet")
    assert [path.name for path in recovered.damaged] == ["segment-999999.parquet.damaged"]
    assert trace == tmp_path / "t.parquet"
    assert ids(trace) == ["r1"]


@pytest.mark.slow
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
    assert ids(output.folder) == ["r1"]


def test_a_serve_that_raises_before_anything_was_seen_leaves_nothing(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "folder")
    output.prepare(overwrite=False)

    def serve(recorder: Recorder) -> None:
        raise BadInput("no port")

    with pytest.raises(BadInput, match="no port"):
        record(serve, output, RecorderOptions(), source="t", upstreams=(), show=print, show_every_s=9)
    assert not output.folder.exists()


@pytest.mark.slow
def test_what_a_capture_left_is_recovered_once_and_the_next_one_goes_on_beside_it(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "t.parquet")
    output.prepare(overwrite=False)
    desk = Desk(output.folder)
    desk.recorder._mark()
    give(desk.recorder, exchange(1))
    desk.taken()
    ask(desk.recorder, exchange(2, end=False))  # in the spool alone
    desk.recorder._spool.close()
    desk.recorder._lock.release()
    with pytest.raises(BadInput, match="earlier capture"):
        prepare_folder(output.folder, overwrite=False)
    recovered = output.prepare(overwrite=False)
    assert recovered is not None
    assert (recovered.rows, recovered.in_flight) == (2, 1)
    assert not was_cut_off(output.folder)
    assert not desk.facts.spool.exists()
    recorder = Recorder(output.folder, RecorderOptions(), "test")
    recorder.start()
    give(recorder, exchange(3))
    ended = conclude(recorder, output)
    assert (ended.trouble, ended.trace) == ("", tmp_path / "t.parquet")
    trace = open_trace(ended.trace)
    assert sorted(trace.column("request_id").to_pylist()) == ["r1", "r2", "r3"]
    assert trace.metadata.counts == {"seen": 3, "recorded": 3, "dropped": {}}
    assert trace.metadata.wall_zero_ns == desk.facts.wall_zero_ns
    assert not output.folder.exists()


@pytest.mark.slow
def test_a_machine_that_went_down_leaves_its_journal_and_no_spool(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "folder")
    desk.recorder._mark()
    give(desk.recorder, exchange(1))
    ask(desk.recorder, exchange(2, end=False))
    desk.taken()
    desk.recorder._lock.release()
    desk.recorder._spool.close()
    desk.recorder.forget()
    (tmp_path / "folder" / ".capture.json").write_text("{half")
    recovered, trace = recover(tmp_path / "folder")
    assert (recovered.rows, recovered.in_flight) == (2, 1)
    assert [row["outcome"] for row in rows_of(trace)] == ["complete", "in_flight"]
    with pytest.raises(BadInput, match="nothing to recover"):
        recover(tmp_path / "folder")


def test_a_capture_that_runs_is_not_recovered_or_overwritten(tmp_path: Path) -> None:
    output = Output.named(tmp_path / "folder")
    output.prepare(overwrite=False)
    lock = FolderLock(output.folder / ".capture.json")
    assert lock.take()
    with pytest.raises(BadInput, match="another capture writes here"):
        output.prepare(overwrite=True)
    from capture.recovery import recover_folder

    with pytest.raises(BadInput, match="writes here still"):
        recover_folder(output.folder, patience_s=0)


def test_overwrite_removes_segments_and_nothing_else(tmp_path: Path) -> None:
    for name in ("segment-000001.parquet", ".segment-000002.parquet.tmp", "journal-000003.frames"):
        (tmp_path / name).touch()
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
