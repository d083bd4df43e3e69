"""Segments in a store come under a new key, each replaced by a whole one, whatever is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_rig import Bucket, write_rows
from typer.testing import CliRunner

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.object_store import ObjectStore
from capture.rekeying import Rekeyed, rekey
from capture.trace_reader import open_trace
from replay.cli import app

OLD = Keys.of("env:K", {"K": "a5" * 32})
NEW = Keys.of("env:K", {"K": "5a" * 32})
NAMES = [f"prod/segment-20261128T000000Z-0123abcd-{number:06d}.parquet" for number in range(3)]


@pytest.fixture
def prod(bucket: Bucket, tmp_path: Path) -> Bucket:
    """Two segments under the old key, one in the clear, and a note that is none."""
    for number, name in enumerate(NAMES):
        rows = range(10 * number, 10 * number + 10)
        bucket.put(name, write_rows(tmp_path / name, rows, OLD if number else None).read_bytes())
    bucket.put("prod/README", b"whose this is")
    return bucket


def rows_of(bucket: Bucket, keys: Keys) -> list[str]:
    trace = open_trace(bucket.url(), keys)
    return [row["request_id"] for batch in trace.iter_batches() for row in batch.to_pylist()]


def test_a_prefix_comes_under_the_new_key_and_is_the_same_trace(prod: Bucket) -> None:
    before, seen = rows_of(prod, OLD), []
    assert rekey(prod.url(), OLD, NEW, lambda done, total: seen.append(done / total)) == Rekeyed(3, 0)
    assert rows_of(prod, NEW) == before
    assert prod.keys() == ["prod/README", *NAMES]
    assert (seen[0], seen[-1], len(seen)) == (0, 1, 4)
    with pytest.raises(KeyRefused):
        open_trace(prod.url(), OLD)


def test_cut_off_each_object_is_whole_and_the_same_command_goes_on(
    prod: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, put = rows_of(prod, OLD), ObjectStore.put

    def put_and_die(store: ObjectStore, path: Path, name: str) -> None:
        put(store, path, name)
        if "-000001" in name:
            raise KeyboardInterrupt

    monkeypatch.setattr(ObjectStore, "put", put_and_die)
    with pytest.raises(KeyboardInterrupt):
        rekey(prod.url(), OLD, NEW)
    monkeypatch.setattr(ObjectStore, "put", put)
    assert len(prod.keys()) == 5, "the successor that was not put in its place"
    assert rows_of(prod, Keys.of("env:N,env:O", {"N": "5a" * 32, "O": "a5" * 32})) == before
    assert rekey(prod.url(), OLD, NEW) == Rekeyed(2, 1)
    assert (rows_of(prod, NEW), prod.keys()) == (before, ["prod/README", *NAMES])


def test_without_the_old_key_or_the_store_nothing_is_changed(prod: Bucket) -> None:
    before = [prod.get(name) for name in NAMES]
    with pytest.raises(KeyRefused, match=r"s3://.*-000001\.parquet: encrypted, and no key is given"):
        rekey(prod.url(), None, NEW)
    with prod.server.away(), pytest.raises(BadInput, match="can't be reached"):
        rekey(prod.url(), OLD, NEW)
    with pytest.raises(BadInput, match=r"no \.parquet object there"):
        rekey(prod.url("elsewhere/"), OLD, NEW)
    assert [prod.get(name) for name in NAMES] == before


def test_the_verb_takes_one_object_too(prod: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEW", "5a" * 32)
    url = prod.url(NAMES[0])
    said = CliRunner().invoke(app, ["rekey", url, "--new-key", "env:NEW"])
    assert said.output.endswith(f"{url}: 1 file under env:NEW now\n"), said.output
    stored = open_trace(url, NEW).segments[0].path
    assert open_parquet(stored, NEW).metadata.num_rows == 10
