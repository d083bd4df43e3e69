"""Files of frames: nothing half-written, a reader that keeps up with a writer or outlives it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import frame_files
from capture.frame_files import FolderLock, FrameFile, SpoolReader, SpoolWriter
from capture.journal import Kind, frame_parts, read_frames


def parts(payload: bytes) -> list[bytes]:
    return [bytes(part) for part in frame_parts(Kind.END, [payload])]


def taken(reader: SpoolReader) -> list[bytes]:
    return [bytes(frame.payload) for frame in reader.take()]


def test_what_was_appended_is_in_the_file_at_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = FrameFile(tmp_path / "f")
    file.append(parts(b"one"))
    assert [bytes(frame.payload) for frame in read_frames((tmp_path / "f").read_bytes())] == [b"one"]
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        FrameFile(tmp_path / "f")


def test_more_parts_than_one_call_takes_are_written_all_the_same(tmp_path: Path) -> None:
    file = FrameFile(tmp_path / "f")
    file.append([part for number in range(2000) for part in parts(b"%d" % number)])
    assert len(list(read_frames((tmp_path / "f").read_bytes()))) == 2000


@pytest.mark.parametrize("room", [0, 1, 5, 14])
def test_a_write_that_does_not_fit_leaves_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    file = FrameFile(tmp_path / "f")
    file.append(parts(b"before"))
    writev = os.writev

    def nearly_full(descriptor: int, buffers: list[bytes]) -> int:
        return writev(descriptor, [b"".join(buffers)[:room]])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", nearly_full)
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.append(parts(b"too much"))
    file.append(parts(b"after"))
    found = (tmp_path / "f").read_bytes()
    assert found == b"".join([*parts(b"before"), *parts(b"after")])


def test_a_reader_takes_what_comes_and_each_frame_once(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    assert taken(reader) == []
    for round_ in (b"a", b"b"):
        writer.append(parts(round_))
        writer.append(parts(round_ * 2))
        assert taken(reader) == [round_, round_ * 2]
        assert taken(reader) == []
    assert reader.position == writer.written_bytes


def test_files_are_begun_by_size_and_go_once_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_files, "SPOOL_FILE_BYTES", 100)
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    sent = [bytes([number]) * 60 for number in range(7)]
    for payload in sent:
        writer.append(parts(payload))
    assert len(list((tmp_path / "s").glob("*.frames"))) == 4
    assert writer.waiting_bytes == writer.written_bytes == 7 * 72
    found = []
    while payloads := taken(reader):
        found += payloads
        reader.forget(reader.position)
    assert found == sent
    assert len(list((tmp_path / "s").glob("*.frames"))) == 2, "the one that may still grow, and one spare"
    assert writer.waiting_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3)), min_size=1, max_size=60))
def test_a_file_that_is_done_with_is_written_over_and_nothing_of_it_is_taken_again(
    steps: list[tuple[int, int]],
) -> None:
    sent, found = [], []
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(frame_files, "SPOOL_FILE_BYTES", 100)
        folder = Path(place) / "s"
        writer, reader = SpoolWriter(folder), SpoolReader(folder)
        for number, (size, then) in enumerate(steps):
            sent.append(b"%d:" % number + bytes(size))
            writer.append(parts(sent[-1]))
            if then:
                found += taken(reader)
            if then == 2:
                reader.forget(reader.position)
            if then == 3:
                reader = SpoolReader(folder, reader.position)
        while payloads := taken(reader):
            found += payloads
        writer.close()
    assert found == sent


def test_a_spent_files_pages_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_files, "SPOOL_FILE_BYTES", 100)
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    files = set()
    for _ in range(20):
        writer.append(parts(bytes(100)))
        reader.take()
        reader.forget(reader.position)
        files |= {path.stat().st_ino for path in (tmp_path / "s").glob("*.frames")}
    assert len(files) == 2


def test_a_reader_goes_on_where_another_left_off(tmp_path: Path) -> None:
    writer, first = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    writer.append(parts(b"a"))
    first.take()
    writer.append(parts(b"b"))
    assert taken(SpoolReader(tmp_path / "s", first.position)) == [b"b"]


def test_what_waits_is_what_the_reader_has_not_done_with(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    writer.append(parts(bytes(100)))
    reader.take()
    assert writer.waiting_bytes == 112, "taken is not done: it may not be safe yet"
    reader.forget(reader.position)
    assert writer.waiting_bytes == 0


def test_a_frame_larger_than_a_reading_is_read_whole(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    large = os.urandom(5_000_000)
    writer.append(parts(large))
    writer.append(parts(b"next"))
    assert taken(reader) == [large]
    assert taken(reader) == [b"next"]


def test_half_a_frame_is_waited_for_while_its_writer_lives_and_then_passed_over(tmp_path: Path) -> None:
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    whole = b"".join(parts(b"torn by SIGKILL"))
    writer.append([whole[:20]])
    assert taken(reader) == []
    writer.append([whole[20:], *parts(b"and another")[:1]])
    assert taken(reader) == [b"torn by SIGKILL"]
    assert not reader.is_over
    writer.close()
    assert reader.is_over
    assert taken(reader) == []


def test_damage_in_a_closed_file_costs_what_it_hits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_files, "SPOOL_FILE_BYTES", 50)
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    for payload in (b"a" * 20, b"b" * 20, b"c" * 20):
        writer.append(parts(payload))
    first = tmp_path / "s" / f"{0:016d}.frames"
    data = bytearray(first.read_bytes())
    data[40] ^= 1
    first.write_bytes(bytes(data))
    assert [*taken(reader), *taken(reader)] == [b"a" * 20, b"c" * 20]


def test_files_that_may_not_grow_are_followed_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = SpoolWriter(tmp_path / "s"), SpoolReader(tmp_path / "s")
    append = FrameFile.append

    def limited(self: FrameFile, given: list[bytes]) -> int:
        if self.size_bytes + sum(map(len, given)) > 30:
            raise OSError(errno.EFBIG, "File too large")
        return append(self, given)

    monkeypatch.setattr(FrameFile, "append", limited)
    writer.append(parts(b"one"))
    writer.append(parts(b"two"))
    writer.append(parts(b"three"))
    with pytest.raises(OSError, match="File too large"):
        writer.append(parts(bytes(100)))
    writer.append(parts(b"four"))
    found = []
    while payloads := taken(reader):
        found += payloads
    assert found == [b"one", b"two", b"three", b"four"]


def test_a_lock_is_held_by_one_and_seen_by_all(tmp_path: Path) -> None:
    one, other = FolderLock(tmp_path / "lock"), FolderLock(tmp_path / "lock")
    assert not other.is_taken()
    assert one.take()
    assert other.is_taken()
    assert not other.take()
    one.release()
    assert other.take()
