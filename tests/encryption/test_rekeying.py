"""A key that changes: segments under several keys are one trace, and a folder comes under a new one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from key_rig import CANARY, KEY, OTHER, holding, key_file, keys
from test_encrypted_files import peaktape, refused, write

from capture import rekeying
from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import KeyRefused
from capture.rekeying import Rekeyed, rekey
from capture.sealing import opened_text, sealed_text
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import write_trace

THIRD = "3c" * 32
NAMES = {"NEW": KEY, "OLD": OTHER, "OLDER": THIRD}


def several(*names: str) -> Keys:
    return Keys.of(",".join(f"env:{name}" for name in names), NAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three segments under three keys."""
    place = tmp_path / "prod"
    place.mkdir()
    for number, key in enumerate((THIRD, OTHER, KEY), 1):
        write(place / f"segment-{number:06d}.parquet", rows=5, key=key)
    return place


def test_segments_under_several_keys_are_one_trace(folder: Path) -> None:
    trace = open_trace(folder, several("NEW", "OLD", "OLDER"))
    assert trace.rows == sum(batch.num_rows for batch in trace.iter_batches()) == 15


def test_a_segment_that_no_key_opens_is_named_with_the_keys_that_were_tried(folder: Path) -> None:
    with pytest.raises(KeyRefused) as failure:
        open_trace(folder, several("NEW", "OLD"))
    assert "segment-000001.parquet: none of the keys opens it" in str(failure.value)
    assert "env:NEW" in str(failure.value)
    assert "env:OLD" in str(failure.value)


def test_the_first_key_encrypts_and_children_and_pickles_have_them_all() -> None:
    one = several("NEW", "OLD")
    sealed = sealed_text("left", keys(OTHER))
    for other in (one, Keys.taken_over(one.handed_over()), pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert opened_text(sealed, other, "here") == "left"
        assert other is not None
        assert opened_text(sealed_text("new", other), keys(KEY), "here") == "new"


def test_a_file_whose_name_has_a_comma_is_one_key(tmp_path: Path) -> None:
    path = key_file(tmp_path, "a,b.key")
    assert Keys.of(f"file:{path}").others == ()
    assert Keys.of(f"file:{path},env:OLD", NAMES).paths == (path,)


def test_a_folder_comes_under_the_new_key_and_is_the_same_trace(folder: Path) -> None:
    before = [
        list(open_trace(path, several("NEW", "OLD", "OLDER")).iter_batches()) for path in segments(folder)
    ]
    times = [path.stat().st_mtime_ns for path in segments(folder)]
    encodings = [_encodings(path, several("OLDER", "OLD", "NEW")) for path in segments(folder)]
    assert rekey(folder, several("OLD", "OLDER"), several("NEW")) == Rekeyed(2, 1)
    assert [list(open_trace(path, keys(KEY)).iter_batches()) for path in segments(folder)] == before
    assert open_trace(folder, keys(KEY)).metadata.source == CANARY
    assert [path.stat().st_mtime_ns for path in segments(folder)] == times, "retention counts them"
    assert [_encodings(path, keys(KEY)) for path in segments(folder)] == encodings
    assert holding(folder, CANARY) == []
    with pytest.raises(KeyRefused):
        open_trace(folder, several("OLD", "OLDER"))
    assert rekey(folder, None, several("NEW")) == Rekeyed(0, 3)


def test_cut_off_it_goes_on_and_nothing_was_in_the_clear(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rekeying._rewrite
    done: list[Path] = []

    def until_killed(path: Path, *given: Keys) -> None:
        if done:
            raise KeyboardInterrupt
        whole(path, *given)
        done.append(path)

    monkeypatch.setattr(rekeying, "_rewrite", until_killed)
    with pytest.raises(KeyboardInterrupt):
        rekey(folder, several("OLD", "OLDER"), several("NEW"))
    monkeypatch.undo()
    assert len(list(folder.iterdir())) == 3
    assert rekey(folder, several("OLD", "OLDER"), several("NEW")) == Rekeyed(1, 2)
    assert holding(tmp_path, CANARY) == []


SERVICE = """
import base64

class Client:  # opens whatever it wrapped, under whichever of its keys
    def __init__(self, *_): ...

    def wrap_key(self, key_bytes, master_key_identifier):
        return base64.b64encode(master_key_identifier.encode() + b":" + key_bytes).decode()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return base64.b64decode(wrapped_key).removeprefix(master_key_identifier.encode() + b":")
"""


def test_another_key_of_the_same_service_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service_of_two.py").write_text(SERVICE)
    monkeypatch.syspath_prepend(tmp_path)
    old, new = (Keys.of(f"kms:service_of_two:Client:{master}") for master in ("spring", "autumn"))
    path = tmp_path / "t.parquet"
    write_trace(path, (), TraceMetadata(0, "test"), keys=old)
    assert rekey(path, old, new) == Rekeyed(1, 0)
    seen = new.alone()
    open_parquet(path, seen).close()
    assert seen.masters_asked == {"autumn"}
    assert rekey(path, old, new) == Rekeyed(0, 1)


def test_one_new_key_is_wanted(folder: Path) -> None:
    with pytest.raises(KeyRefused, match="--new-key: 2 keys found, one wanted"):
        rekey(folder, several("OLD", "OLDER"), several("NEW", "OLD"))


def test_without_the_old_key_nothing_is_changed(folder: Path) -> None:
    before = [path.read_bytes() for path in segments(folder)]
    with pytest.raises(KeyRefused, match=r"segment-000001\.parquet: encrypted with another key"):
        rekey(folder, several("OLD"), several("NEW"))
    assert [path.read_bytes() for path in segments(folder)] == before


def test_the_verb_encrypts_what_was_plain_and_refuses_what_is_not_over(tmp_path: Path) -> None:
    plain, key = write(tmp_path / "plain.parquet", rows=5, key=None), key_file(tmp_path)
    plain.chmod(0o600)
    said = peaktape("rekey", plain, "--new-key", f"file:{key}").output
    assert said == f"{plain}: 1 file under file:{key} now\n"
    assert holding(tmp_path, CANARY) == []
    assert plain.stat().st_mode & 0o777 == 0o600
    assert "1 had it before" in peaktape("rekey", plain, "--new-key", f"file:{key}").output
    assert "no such file" in refused("rekey", tmp_path / "gone", "--new-key", f"file:{key}")
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / ".capture.json").touch()
    assert "`peaktape recover` it first" in refused("rekey", tmp_path / "running", "--new-key", f"file:{key}")
    assert "nothing is written over an input" in refused("rekey", key, "--new-key", f"file:{key}")
    (tmp_path / "notes.txt").write_text("no trace")
    assert "not a whole Parquet file" in refused("rekey", tmp_path / "notes.txt", "--new-key", f"file:{key}")


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _encodings(path: Path, keys: Keys) -> list[tuple[str, tuple[str, ...]]]:
    file: pq.ParquetFile = open_parquet(path, keys)
    columns = [file.metadata.row_group(0).column(at) for at in range(file.metadata.num_columns)]
    return [(column.path_in_schema, tuple(sorted(column.encodings))) for column in columns]
