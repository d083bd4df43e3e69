"""Sending segments to a store: again when it is away, never twice, none deleted before it is there."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_rig import Bucket, outbox_segment

from capture.counts import UploadCounts
from capture.failures import BadInput
from capture.object_store import ObjectStore, StoreFailure, StoreUrl
from capture.outbox import OutboxRoom, new_capture, remove_ended, waiting_in
from capture.retention import Retention
from capture.segments import MARKER_NAME
from capture.stored_output import StoredOutput
from capture.trace_reader import open_trace
from capture.upload_process import UploadOrder
from capture.uploads import LONGEST_WAIT_S, Uploader, wait_s

FIRST = "prod/segment-20261128T000000Z-0123abcd-000001.parquet"


def uploader(outbox: Path, store: Any, **bounds: Any) -> Uploader:
    return Uploader(outbox, store, Retention(**bounds), np.random.default_rng(1), first_wait_s=0.01)


@given(failures=st.integers(1, 10_000), seed=st.integers(0, 99), first_s=st.floats(0.01, 5))
@settings(max_examples=50)
def test_waits_double_up_to_a_bound_and_half_of_each_is_chance(
    failures: int, seed: int, first_s: float
) -> None:
    waited_s = wait_s(failures, np.random.default_rng(seed), first_s)
    doubled_s = first_s * 2.0 ** min(failures - 1, 60)
    assert min(doubled_s, LONGEST_WAIT_S) / 2 <= waited_s <= min(doubled_s, LONGEST_WAIT_S)


def test_segments_go_oldest_first_and_are_gone_here_once_they_are_there(
    bucket: Bucket, tmp_path: Path
) -> None:
    sent = [outbox_segment(tmp_path, number) for number in (1, 2, 3)]
    held = [path.read_bytes() for path in sent]
    (sent[0].parent / "journal-000003.frames").touch()  # may be made again until its journal has gone
    (sent[0].parent / "segment-000009.parquet.damaged").touch()
    (tmp_path / "somebody's").mkdir()
    working = uploader(tmp_path, bucket.store())
    assert working.turn()
    assert bucket.keys() == [FIRST]
    assert working.turn()
    assert not working.turn()
    assert list(map(bucket.get, bucket.keys())) == held[:2]
    assert sorted(path.name for path in sent[0].parent.iterdir()) == [
        "journal-000003.frames",
        "segment-000003.parquet",
        "segment-000009.parquet.damaged",
    ]
    counts = working.counts()
    assert (counts.sent_segments, counts.sent_bytes) == (2, sum(map(len, held[:2])))


def test_while_the_store_is_away_segments_wait_and_then_they_go(bucket: Bucket, tmp_path: Path) -> None:
    outbox_segment(tmp_path, 1)
    working = uploader(tmp_path, bucket.store())
    with bucket.server.away():
        while working.counts().failures < 3:  # how soon is the machine's business
            assert not working.drain(patience_s=0.3)
        counts = working.counts()
        assert counts.failing_s > 0
        assert "can't be reached" in counts.trouble
        assert (counts.waiting_segments, counts.sent_segments) == (1, 0)
        assert len(waiting_in(tmp_path)) == 1
    assert working.drain(patience_s=10)
    assert working.counts() == UploadCounts(
        sent_segments=1, sent_bytes=len(bucket.get(FIRST)), failures=counts.failures
    )
    assert not tmp_path.exists()  # a capture that has ended leaves nothing


class Fussy(ObjectStore):
    """A store that stores something else than it was given, the first time."""

    stored = 0

    def put(self, path: Path, name: str) -> None:
        self.stored += 1
        if self.stored > 1:
            super().put(path, name)
            return
        half = path.with_name("half")
        half.write_bytes(path.read_bytes()[:-100])
        super().put(half, name)
        half.unlink()
        raise StoreFailure("came back with another end", "look", is_refusal=False)


def test_what_came_back_otherwise_is_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    whole = outbox_segment(tmp_path, 1).read_bytes()
    working = uploader(tmp_path, Fussy(bucket.store().url))
    assert not working.turn()
    assert len(waiting_in(tmp_path)) == 1
    assert bucket.get(FIRST) != whole
    assert working.drain(patience_s=5)
    assert bucket.get(FIRST) == whole


def test_a_store_that_keeps_another_end_is_found_out(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, store = outbox_segment(tmp_path, 1), bucket.store()
    files = store._files

    class Truncating:
        """Opens another object than the one that was stored, as if that had not been stored whole."""

        open_output_stream = files.open_output_stream

        @staticmethod
        def open_input_file(key: str) -> Any:
            bucket.put("prod/other", segment.read_bytes()[:-1] + b"?")
            return files.open_input_file(f"{bucket.name}/prod/other")

    monkeypatch.setattr(ObjectStore, "_files", Truncating)
    with pytest.raises(StoreFailure, match="came back with"):
        store.put(segment, "segment.parquet")


def test_a_segment_that_was_sent_and_not_yet_deleted_is_there_once(bucket: Bucket, tmp_path: Path) -> None:
    """As after SIGKILL between the two: it goes to the same object again."""
    segment = outbox_segment(tmp_path, 1)
    data = segment.read_bytes()
    uploader(tmp_path, bucket.store()).turn()
    segment.write_bytes(data)
    uploader(tmp_path, bucket.store()).drain()
    assert bucket.keys() == [FIRST]
    assert open_trace(bucket.url()).rows == 10


def test_bounds_delete_the_oldest_of_captures_segments_and_nothing_else(
    bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("prod/precious.parquet", bytes(10_000))
    bucket.put("prod/segment-000001.parquet", bytes(10_000))
    bucket.put("prod/below/segment-20261128T000000Z-0123abcd-000001.parquet", bytes(10_000))
    foreign = set(bucket.keys())
    sizes = [outbox_segment(tmp_path, number).stat().st_size for number in range(1, 6)]
    working = uploader(tmp_path, bucket.store(), max_bytes=sum(sizes[-2:]) + 1)
    assert working.drain()
    kept = sorted(set(bucket.keys()) - foreign)
    assert [key[-14:] for key in kept] == ["000004.parquet", "000005.parquet"]
    assert foreign < set(bucket.keys())
    assert working.counts().expired == {"max_size": 3, "bytes": sum(sizes[:3])}
    older = uploader(tmp_path, bucket.store(), max_age_s=1e-9)
    time.sleep(0.01)
    older.drain()
    assert set(bucket.keys()) == foreign
    assert older.counts().expired["max_age"] == 2


def test_the_outbox_is_full_at_its_bound_until_something_has_been_sent(tmp_path: Path) -> None:
    segment = outbox_segment(tmp_path, 1)
    room = OutboxRoom(tmp_path, segment.stat().st_size)
    assert not room.has_room()
    assert room.trouble.startswith("store_away: the outbox is full, ")
    segment.unlink()
    assert not room.has_room()  # looks once a second
    assert OutboxRoom(tmp_path, 1).has_room()


def test_only_what_has_ended_is_removed(tmp_path: Path) -> None:
    ended, runs, waits = (new_capture(tmp_path) for _ in range(3))
    for folder in (ended, runs, waits):
        folder.mkdir()
    (runs / MARKER_NAME).touch()
    (waits / "segment-000001.parquet").touch()
    remove_ended(tmp_path)
    assert [folder.exists() for folder in (ended, runs, waits)] == [False, True, True]


def test_what_is_to_be_sent_is_told_to_the_process_that_sends(tmp_path: Path) -> None:
    order = UploadOrder(tmp_path, StoreUrl.parse("s3://b/p?region=x"), Retention(max_age_s=3600.0))
    assert UploadOrder.from_json(order.to_json()) == order


def test_recover_sends_what_waits_and_says_what_does_not_go(bucket: Bucket, tmp_path: Path) -> None:
    stored = StoredOutput.named(bucket.url(), tmp_path)
    with pytest.raises(BadInput, match=f"nothing waits for it in {tmp_path}"):
        stored.recover(lambda counts: None)
    outbox_segment(stored.outbox, 1)
    recovered, counts = stored.recover(lambda counts: None)
    assert (recovered, counts.sent_segments) == ([], 1)
    assert bucket.keys() == [FIRST]
    left = stored.left(UploadCounts(waiting_segments=2, waiting_bytes=3000, trouble="can't be reached: no"))
    assert left == (
        f"{stored.url}: can't be reached: no; 2 segments wait in {stored.outbox} (3.0 KB); "
        f"send what waits with `peaktape recover {stored.url} --outbox {tmp_path}`"
    )


def test_counts_can_be_asked_while_it_sends(bucket: Bucket, tmp_path: Path) -> None:
    for number in range(8):
        outbox_segment(tmp_path, number)
    working = uploader(tmp_path, bucket.store())
    thread = threading.Thread(target=working.drain)
    thread.start()
    seen = []
    while thread.is_alive():
        seen.append(working.counts())
        time.sleep(0.005)
    sent = [counts.sent_segments for counts in [*seen, working.counts()]]
    assert sent == sorted(sent)
    assert sent[-1] == 8
