"""A capture into a store as a whole: the store away, the capture killed, gone on with, and read back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from capture_rig import PEAKTAPE, Proxy, Upstream, eventually, processes_of, running_capture
from recording_rig import eventually as until
from recording_rig import exchange, give
from store_rig import Bucket, outbox_segment, write_rows
from typer.testing import CliRunner

from capture.counts import Counts, UploadCounts
from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.health import HealthWatch
from capture.metrics import registry_of
from capture.recorder import Recorder, RecorderOptions
from capture.stored_output import StoredOutput
from capture.trace_reader import open_trace
from replay.cli import app
from replay.cli.capture_flags import Keeping
from replay.cli.capture_output import destination_of


def names_in(bucket: Bucket) -> list[str]:
    batches = open_trace(bucket.url()).iter_batches(["path"]) if bucket.keys() else ()
    return [path.partition("?n=")[2] for batch in batches for path in batch.column(0).to_pylist()]


async def ask(proxy: Proxy, *names: str) -> None:
    async with httpx.AsyncClient(base_url=proxy.url, timeout=20) as client:
        for name in names:
            assert (await client.post(f"/echo?n={name}", content=b"asked")).content == b"asked"


@pytest.mark.slow
async def test_nothing_is_lost_or_doubled_by_a_store_that_is_away_and_a_capture_that_is_killed(
    bucket: Bucket, upstream: Upstream, tmp_path: Path
) -> None:
    outbox = tmp_path / "outbox"
    command = [*PEAKTAPE, "capture", "--listen", "127.0.0.1:0", "--upstream", upstream.url]
    command += ["-o", bucket.url(), "--outbox", str(outbox), "--segment-s", "0.2"]
    async with contextlib.AsyncExitStack() as stack:
        with bucket.server.away():
            proxy = await stack.enter_async_context(running_capture(tmp_path / "x", command=command))
            assert any("can't be reached" in line for line in proxy.said), "told at the start"
            await ask(proxy, "a", "b")
            await eventually(lambda: list(outbox.rglob("segment-*.parquet")))
        await eventually(lambda: set(names_in(bucket)) >= {"a"})
        await ask(proxy, "c")
        for pid in processes_of(proxy):
            os.kill(pid, signal.SIGKILL)
        await proxy.process.wait()
    recovered = await asyncio.to_thread(CliRunner().invoke, app, ["recover", *_place(bucket, outbox)])
    assert recovered.exit_code == 0, recovered.output
    assert sorted(names_in(bucket)) == ["a", "b", "c"]
    assert list(outbox.rglob("*")) == [], "left lying about"


def _place(bucket: Bucket, outbox: Path) -> list[str]:
    return [bucket.url(), "--outbox", str(outbox)]


class Said:
    """Notes that are kept."""

    show_every_s = 1.0

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: list[UploadCounts] = []

    def say(self, event: str, text: str, **fields: object) -> None:
        self.lines.append(text)

    @contextlib.contextmanager
    def sending(self) -> Iterator[Callable[[UploadCounts], None]]:
        yield self.shown.append


@pytest.mark.slow
def test_at_the_end_all_is_sent_also_by_a_process_that_was_killed(bucket: Bucket, tmp_path: Path) -> None:
    goes_to = destination_of(bucket.url(), Keeping(max_age="7d", outbox=tmp_path, outbox_size="1GB"))
    assert goes_to.bounded(RecorderOptions()).outbox_bytes == 10**9
    outbox_segment(StoredOutput.named(bucket.url(), tmp_path).outbox, 7)  # of an earlier capture
    notes = Said()
    keys = Keys.of("env:K", {"K": "5a" * 32})
    with goes_to.opened(notes, keys, overwrite=False, append=False) as place:  # type: ignore[arg-type]
        sending = place.sending
        assert sending is not None
        write_rows(place.output.folder / "segment-000001.parquet", range(10))
        until(lambda: sending.counts().sent_segments == 2)
        os.kill(sending._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        write_rows(place.output.folder / "segment-000002.parquet", range(10, 20), keys)
    assert notes.lines == [f"{sending.counts().line()} · {bucket.url().rstrip('/')}"]
    assert notes.lines[0].startswith("sent 3 · s3://")
    assert notes.shown
    assert open_trace(bucket.url(), keys).rows == 30
    with pytest.raises(KeyRefused, match="encrypted, and no key is given"):
        open_trace(bucket.url())
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_a_full_outbox_costs_what_comes_then_and_recording_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "20261128T000000Z-0123abcd"
    folder.mkdir()
    options = RecorderOptions(segment_s=0.1, spool_bytes=20_000, outbox_bytes=1)
    recorder = Recorder(folder, options, "test")
    recorder.start()
    give(recorder, exchange(0))
    until(lambda: recorder.counts().trouble.startswith("store_away: the outbox is full"))
    number = 1
    while not recorder.counts().dropped:
        give(recorder, exchange(number, body=bytes(1000)))
        number += 1
    assert set(recorder.counts().dropped) == {"store_away"}
    for segment in folder.glob("segment-*.parquet"):
        segment.unlink()  # the store is back, and has it
    until(lambda: not recorder.counts().trouble)
    give(recorder, exchange(number))
    recorder.stop()
    counts = recorder.counts()
    recorder.forget()
    assert counts.seen == number + 1 == counts.recorded + sum(counts.dropped.values())
    assert set(counts.dropped) == {"store_away"}


def test_what_can_never_go_is_refused_at_the_start(bucket: Bucket, tmp_path: Path) -> None:
    common = ["capture", "--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0"]
    for output, more, said in (
        ("s3://no-such-bucket/prod/", [], "s3://no-such-bucket/prod: no such bucket; make it"),
        (bucket.url(), ["--overwrite"], "a store is added to"),
        (bucket.url(), ["--outbox-size", "much"], "--outbox-size: 'much' found, a size such as 10GB wanted"),
        ("prod/", ["--max-size", "0"], "a bound above 0 wanted"),
        ("prod/", ["--max-age", "7 days"], "--max-age: '7 days' found, a duration such as"),
        ("gs://b/p", [], "s3://BUCKET/PREFIX/ wanted"),
    ):
        refused = CliRunner().invoke(app, [*common, "-o", output, "--outbox", str(tmp_path), *more])
        assert isinstance(refused.exception, BadInput), refused.output
        assert said in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def test_recover_says_what_it_sent(bucket: Bucket, tmp_path: Path) -> None:
    outbox_segment(StoredOutput.named(bucket.url(), tmp_path).outbox, 1)
    done = CliRunner().invoke(app, ["recover", bucket.url(), "--outbox", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"{bucket.url()}: sent 1 segments, " in done.output
    assert open_trace(bucket.url()).rows == 10


def test_a_store_that_is_away_for_long_and_a_silent_sender_are_complained_of() -> None:
    def said(**uploads: float | int | str) -> list[str]:
        return HealthWatch().complaints(Counts(uploads=UploadCounts(**uploads)), 0.0)  # type: ignore[arg-type]

    assert said(failing_s=100.0, trouble="away") == []
    assert said(failing_s=130.0, trouble="away", waiting_segments=3, waiting_bytes=2000) == [
        "the store has taken nothing for 130 s (away); 3 segments, 2.0 KB, wait"
    ]
    assert said(silent_s=11.0) == ["the process that sends segments has said nothing for 11 s"]


def test_the_outbox_is_in_the_metrics_where_there_is_one() -> None:
    uploads = UploadCounts(
        *(4, 900, 2, 500, 7.5, 3, 60.0),
        expired={"max_age": 5, "bytes": 70},
    )
    with_store = registry_of(lambda: Counts(uploads=uploads)).get_sample_value
    found = {
        name: with_store(f"peaktape_capture_{name}")
        for name in (
            *("uploaded_segments_total", "uploaded_bytes_total", "outbox_segments", "outbox_bytes"),
            *("outbox_age_seconds", "upload_failures_total", "store_away_seconds"),
        )
    }
    assert list(found.values()) == [4, 900, 2, 500, 7.5, 3, 60.0]
    assert with_store("peaktape_capture_segments_expired_total", {"bound": "max_age"}) == 5
    without = registry_of(lambda: Counts(expired={"max_size": 1})).get_sample_value
    assert without("peaktape_capture_outbox_bytes") is None
    assert without("peaktape_capture_segments_expired_total", {"bound": "max_size"}) == 1
