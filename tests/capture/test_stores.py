"""Stores: URLs, what errors mean, and a trace that is read from one as it is from a folder."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
from moto.core import set_initial_no_auth_action_count
from store_rig import Bucket, write_rows
from typer.testing import CliRunner

from capture.failures import BadInput
from capture.object_store import StoreFailure, StoreUrl, failure_of, is_url
from capture.recording import Output
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import refuse_existing
from replay.cli import app


@pytest.mark.parametrize(
    ("text", "bucket", "path"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/p/q/", "b", "p/q"),
        ("s3://b//p//q.parquet", "b", "p/q.parquet"),
        ("s3://b/p?region=eu-west-1&scheme=http", "b", "p"),
    ],
)
def test_a_url_is_a_bucket_a_path_and_options(text: str, bucket: str, path: str) -> None:
    url = StoreUrl.parse(text)
    assert (url.bucket, url.path) == (bucket, path)
    assert str(url) == f"s3://{bucket}/{path}".rstrip("/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gs://b/p", "gs://b/p: no such place; s3://BUCKET/PREFIX/ wanted"),
        ("s3:///p", "no such place"),
        ("s3://key:hidden@b/p", "s3://b/p: holds credentials"),
        ("s3://b/p?secret_key=hidden", "s3://b/p: holds credentials"),
        ("s3://b/p?colour=red", "'colour' found, only endpoint_override, region"),
        ("s3://b/p#2", "'#2' found"),
    ],
)
def test_what_is_no_such_url_is_refused_and_no_secret_is_said(text: str, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        StoreUrl.parse(text)
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("s3://b/p", True), (Path("s3://b/p"), True), ("prod.parquet", False), ("/s3/b", False), ("C", False)],
)
def test_a_name_is_a_url_also_after_a_path_has_folded_it(name: object, expected: bool) -> None:
    assert is_url(name) is expected


@pytest.mark.parametrize(
    ("said", "reason", "is_refusal"),
    [
        ("AWS Error NO_SUCH_BUCKET during PutObject operation: none", "no such bucket", True),
        ("AWS Error ACCESS_DENIED during HeadObject operation: No response body.", "access denied", True),
        ("AWS Error EXPIRED_TOKEN during PutObject operation: it was", "access denied", True),
        ("AWS Error UNKNOWN (HTTP status 301) during ListObjectsV2 operation: x", "another region", True),
        ("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7, no", "reached: 7, no", False),
        ("AWS Error SLOW_DOWN during PutObject operation: Please (Request ID: 7)", "SLOW_DOWN Please", False),
        ("AWS Error UNKNOWN (HTTP status 503) during PutObject operation: ", "HTTP status 503", False),
        ("something else", "something else", False),
    ],
)
def test_an_error_is_a_refusal_or_goes_by(said: str, reason: str, is_refusal: bool) -> None:
    failure = failure_of(OSError(f"When doing it: {said}"))
    assert reason in failure.reason
    assert failure.is_refusal is is_refusal


def test_what_was_put_is_there_and_can_be_removed(bucket: Bucket, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"a")
    large.write_bytes(bytes(range(256)) * 45_000)  # in several parts
    store = bucket.store()
    store.check()
    store.put(small, "small.parquet")
    store.put(large, "large.parquet")
    assert bucket.get("prod/large.parquet") == large.read_bytes()
    assert [(file.name, file.size_bytes) for file in store.held()] == [
        ("large.parquet", 256 * 45_000),
        ("small.parquet", 1),
    ]
    store.delete("small.parquet")
    store.delete("small.parquet")  # again, as after a crash
    assert bucket.keys() == ["prod/large.parquet"]


def test_a_store_says_what_it_refuses(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    missing = Bucket.store(bucket, "x")
    missing.url = StoreUrl.parse("s3://no-such-bucket/x")
    for attempt in (missing.check, lambda: missing.put(file, "a")):
        with pytest.raises(StoreFailure, match="no such bucket"):
            attempt()
    with bucket.server.away(), pytest.raises(StoreFailure, match="can't be reached") as failed:
        bucket.store().put(file, "a")
    assert not failed.value.is_refusal
    with pytest.raises(FileNotFoundError):
        bucket.store().put(tmp_path / "gone", "a")


def test_of_a_file_that_can_t_be_read_to_its_end_nothing_is_there(bucket: Bucket, tmp_path: Path) -> None:
    class Worn(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().read(3)

    class OnAWornDisk:
        def open(self, mode: str) -> Worn:
            return Worn(b"a whole segment")

    with pytest.raises(OSError, match="Input/output"):
        bucket.store().put(OnAWornDisk(), "a.parquet")  # type: ignore[arg-type]
    assert bucket.keys() == []


def rows(trace: Trace) -> list[dict[str, object]]:
    return [row for batch in trace.iter_batches() for row in batch.to_pylist()]


def test_a_trace_reads_from_a_store_as_from_its_folder(bucket: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    for number, first in ((1, 0), (2, 300), (3, 150)):
        path = write_rows(folder / f"segment-00000{number}.parquet", range(first, first + 200))
        bucket.put(f"prod/{path.name}", path.read_bytes())
    bucket.put("prod/readme.txt", b"not a segment")
    bucket.put("prod/below/segment-000009.parquet", b"another folder's")
    local, stored = open_trace(folder), open_trace(bucket.url())
    assert stored.rows == 600
    assert rows(stored) == rows(local)
    assert stored.fingerprint == local.fingerprint
    assert open_trace(bucket.url("prod")).rows == 600
    assert open_trace(bucket.url("prod/segment-00000[12]*")).rows == 400
    assert open_trace(bucket.url("prod/segment-000003.parquet")).rows == 200
    assert open_trace(f"{bucket.url()}?endpoint_override={bucket.server.endpoint}").rows == 600


def test_a_schedule_remembers_the_store_that_its_trace_is_in(bucket: Bucket, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "samples" / "demo-traffic.parquet"
    bucket.put("prod/demo.parquet", sample.read_bytes())
    schedule = tmp_path / "peak.schedule.parquet"
    done = CliRunner().invoke(app, ["transform", bucket.url(), "-o", str(schedule), "--speed", "5"])
    assert done.exit_code == 0, done.output
    assert f"from {bucket.url()} (" in done.output


def test_a_trace_that_can_t_be_had_is_one_line(bucket: Bucket) -> None:
    for url, said in (
        (bucket.url("nothing/"), "no .parquet object there"),
        ("s3://no-such-bucket/prod/", "no such bucket"),
        ("s3://no-such-bucket", "no such bucket"),
    ):
        with pytest.raises(BadInput, match=said):
            open_trace(url)
    bucket.put("prod/broken.parquet", b"PAR1 no Parquet PAR1")
    with pytest.raises(BadInput, match="not a whole Parquet file"):
        open_trace(bucket.url())
    with bucket.server.away(), pytest.raises(BadInput, match=r"can't be reached.*AWS_ENDPOINT_URL"):
        open_trace(bucket.url())


@set_initial_no_auth_action_count(0)
def test_without_access_the_way_out_is_said(bucket: Bucket) -> None:
    with pytest.raises(BadInput, match=r"access denied.*set AWS_ACCESS_KEY_ID"):
        open_trace(bucket.url())


@pytest.mark.parametrize("name", ["s3://b/x.parquet", "gs://b/x"])
def test_only_capture_writes_to_a_store(name: str) -> None:
    said = f"{name}: only `peaktape capture -o` writes to a store"
    with pytest.raises(BadInput, match=said):
        refuse_existing(Path(name), overwrite=False)
    with pytest.raises(BadInput, match="only `peaktape capture -o` writes to a store"):
        Output.named(Path(name)).prepare(overwrite=False)
    assert not Path("s3:").exists()
