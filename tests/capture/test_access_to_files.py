"""Who may read what a capture writes, and that links which others laid are not followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from capture_rig import rows_of

from capture.capture_facts import RecorderOptions
from capture.compaction import write_segment
from capture.failures import BadInput
from capture.frame_files import FolderLock
from capture.recorder import Recorder
from capture.recording import Output, conclude
from capture.trace_format import TraceMetadata
from capture.trace_writer import replace_when_whole, write_trace


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """An umask that keeps nothing from anybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_all_that_a_capture_writes_is_kept_from_others(tmp_path: Path, spools: Path) -> None:
    output = Output.named(tmp_path / "prod")
    output.prepare(overwrite=False)
    recorder = Recorder(output.folder, RecorderOptions(segment_s=0.05), "test")
    recorder.start()
    within = [path for path in spools.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in spools.iterdir()), (
        "nobody gets to what lies in it"
    )
    assert within
    conclude(recorder, output)
    assert rows_of(output.folder) == []
    for path in output.folder.iterdir():
        assert path.stat().st_mode & 0o137 == 0, f"{path.name}: its owner's, its group's to read"


def test_a_trace_file_is_kept_from_others_too(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.parquet", [], TraceMetadata(0, "test"))
    assert (tmp_path / "t.parquet").stat().st_mode & 0o777 == 0o640


def test_a_link_in_a_segments_place_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".segment-000001.parquet.tmp").symlink_to(precious)
    write_segment(tmp_path / "segment-000001.parquet", [], TraceMetadata(0, "test"))
    assert precious.read_text() == "precious"
    assert not (tmp_path / "segment-000001.parquet").is_symlink()


def test_a_link_in_the_markers_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".capture.json").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        FolderLock(tmp_path / ".capture.json").take()
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_is_written_over_a_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "t.parquet").symlink_to(tmp_path / "precious")
    with pytest.raises(BadInput, match="exists already"), replace_when_whole(tmp_path / "t.parquet"):
        pass
    write_trace(tmp_path / "t.parquet", [], TraceMetadata(0, "test"), overwrite=True)
    assert (tmp_path / "precious").read_text() == "precious"
