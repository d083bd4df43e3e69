"""The journal on disk: one file of frames after the other, each complete in itself, until it is a segment.

A file begins with the requests that were in flight when it was begun and a STATE frame, and appears with
both by rename: so the newest file alone tells how far the spools are read and what is in flight, and an
older one can go as soon as it is compacted. Journal k becomes segment k. With keys, each file is sealed.
Everything here raises OSError, and `KeyRefused` where there are keys, or should be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capture.encryption_keys import Keys
from capture.frame_files import FrameFile
from capture.journal import Buffer, Kind
from capture.row_frames import readable_columns
from capture.sealing import Seal, opened_frames
from capture.segments import SEGMENT_NAME, sync_path

_ROOMY_BYTES: Final = 1 << 30
JOURNAL_NAME: Final = "journal-{number:06d}.frames"
_NAME: Final = re.compile(r"journal-(\d{6,})\.frames")
SEGMENT_FILE: Final = re.compile(r"segment-\d{6,}\.parquet")
_NUMBERED: Final = re.compile(r"(?:journal|segment)-(\d{6,})\.(?:frames|parquet)(?:\.damaged)?")


@dataclasses.dataclass
class LeftBehind:
    """What the newest journal tells: the state, the columns of each request in flight, rows since the state.

    `facts` is what the capture was, as the file's first state says.
    """

    state: dict[str, Any] = dataclasses.field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rows_since: int = 0
    facts: str = ""


class JournalFolder:
    """Writes the journal of one capture; the newest file is `number`. Not thread-safe but for `sync`."""

    def __init__(self, folder: Path, keys: Keys | None = None) -> None:
        self.folder = folder
        self._keys = keys
        self._seal: Seal | None = None
        self.number = max(numbers_in(folder), default=0)
        self._file: FrameFile | None = None
        self._begun_bytes = 0
        self._synced_bytes = 0
        self._roomy_until_s = 0.0
        self._closing = threading.Lock()

    @property
    def new_bytes(self) -> int:
        """What was appended to the newest file since it was begun."""
        return 0 if self._file is None else self._file.size_bytes - self._begun_bytes

    @property
    def path(self) -> Path | None:
        """The newest file, None when none is begun or it is closed."""
        return None if self._file is None else self.folder / JOURNAL_NAME.format(number=self.number)

    def begin(self, first: Sequence[Buffer]) -> None:
        """Begin the next file with the frames `first`; when that fails the file before goes on."""
        final = self.folder / JOURNAL_NAME.format(number=self.number + 1)
        temporary = final.with_name(f".{final.name}.tmp")
        temporary.unlink(missing_ok=True)
        seal = None if self._keys is None else Seal(self._keys)
        begun = FrameFile(temporary)
        try:
            begun.append(first if seal is None else [*seal.head, *seal.sealed(first)])
            begun.sync()
            temporary.replace(final)
        except OSError:
            begun.close()
            temporary.unlink(missing_ok=True)
            raise
        self.close()
        self.number += 1
        self._seal = seal
        self._file, self._begun_bytes, self._synced_bytes = begun, begun.size_bytes, begun.size_bytes

    def check_room(self, more_bytes: int) -> None:
        """Raise OSError unless the disk has room for so much more and for the segments of all that is there.

        Else journals would fill the last of it, and nothing could be compacted until somebody made room.
        """
        if time.monotonic() < self._roomy_until_s and more_bytes < (1 << 20):
            return
        disk = os.statvfs(self.folder)
        waiting_bytes = sum(path.stat().st_size for path in journals_in(self.folder))
        room_bytes = disk.f_bavail * disk.f_frsize - 2 * more_bytes - waiting_bytes
        if room_bytes < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if room_bytes > _ROOMY_BYTES:
            self._roomy_until_s = time.monotonic() + 0.2

    def append(self, parts: Sequence[Buffer]) -> None:
        """Append frames: all of them, or none and OSError."""
        if self._file is None:
            raise OSError("no journal is begun")
        self._file.append(parts if self._seal is None else self._seal.sealed(parts))

    def sync(self) -> None:
        """Bring the newest file to the disk; to be called by a thread that may wait."""
        with self._closing:
            file = self._file
            if file is not None and file.size_bytes > self._synced_bytes:
                size_bytes = file.size_bytes
                file.sync()
                self._synced_bytes = size_bytes

    def close(self) -> None:
        """Close the newest file, synced as far as the disk allows; it takes nothing more."""
        with self._closing:
            if self._file is not None:
                file, self._file = self._file, None
                with contextlib.suppress(OSError):
                    file.sync()
                file.close()


def numbers_in(folder: Path) -> list[int]:
    """The numbers that journals and segments in `folder` have taken; none when it is not there."""
    found = (_NUMBERED.fullmatch(name) for name in _names_in(folder))
    return [int(match[1]) for match in found if match]


def journals_in(folder: Path) -> list[Path]:
    """The journal files in `folder`, oldest first; none when it is not there."""
    found = (folder / name for name in _names_in(folder) if _NAME.fullmatch(name))
    return sorted(path for path in found if path.is_file())


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def segment_of(journal: Path) -> Path:
    """The segment that a journal file becomes."""
    return journal.with_name(SEGMENT_NAME.format(number=int(journal.stem.rpartition("-")[2])))


def journal_of(segment: Path) -> Path:
    """The journal that a segment was made of; as long as it is there, the segment may be made again."""
    return segment.with_name(JOURNAL_NAME.format(number=int(segment.stem.rpartition("-")[2])))


def left_behind(journal: Path, keys: Keys | None = None, *, to_last_state: bool) -> LeftBehind:
    """What the newest journal file tells of a capture that was cut off; its damaged frames are passed over.

    With `to_last_state` what stands behind the last STATE frame is cut off the file: the spool has it still,
    and it is taken from there again. Without, it counts.
    """
    data = journal.read_bytes()
    frames = list(opened_frames(data, keys, str(journal)))
    states = [at for at, frame in enumerate(frames) if frame.kind == Kind.STATE]
    if to_last_state and states:
        frames = frames[: states[-1] + 1]
        if frames[-1].end < len(data):
            os.truncate(journal, frames[-1].end)
            sync_path(journal)
    left = LeftBehind()
    for kind, columns in readable_columns(frames):
        _count_in(left, kind, columns)
    return left


def ended_in(journal: Path, keys: Keys | None = None) -> int:
    """The rows that a journal file holds."""
    frames = opened_frames(journal.read_bytes(), keys, str(journal))
    return sum(frame.kind == Kind.END for frame in frames)


def _count_in(left: LeftBehind, kind: int, columns: Mapping[str, Any]) -> None:
    if kind == Kind.STATE:
        left.state, left.rows_since = dict(columns), 0
        left.facts = columns.get("facts", left.facts)
    elif kind == Kind.REQUEST:
        left.requests[columns["request_id"]] = dict(columns)
    elif kind in (Kind.END, Kind.LOST):
        left.requests.pop(columns["request_id"], None)
        left.rows_since += kind == Kind.END
