"""Files of frames that outlive their writer: appended to with one system call, begun anew by size, locked.

Nothing is buffered here: what `append` was given is the kernel's when it returns, so that SIGKILL takes
nothing away. A write that was refused half-way leaves no trace. Frames themselves are in `journal`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from capture.journal import Buffer, Frame, read_frames
from capture.shared_numbers import SharedNumbers

SPOOL_FILE_BYTES: Final = 4 << 20
_MOST_PARTS: Final = 1000  # IOV_MAX is 1024
_READ_BYTES: Final = 1 << 20
_PROGRESS_NAME: Final = "progress"
_OLDER_PROGRESS_NAME: Final = "taken"
TAKEN, _WRITTEN = range(2)


class FrameFile:
    """One file that is appended to; made by this, and refused when it is there already.

    Only its owner can read it. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.path = path
        self.size_bytes = 0

    @classmethod
    def in_place_of(cls, spent: Path, path: Path) -> FrameFile:
        """Begin `path` in the pages of a file that nobody needs any more: none are freed and made anew.

        What it held before stays behind what is appended, until that is as long.
        """
        os.rename(spent, path)
        file = cls.__new__(cls)
        file._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        file.path, file.size_bytes = path, 0
        if os.fstat(file._descriptor).st_size > 2 * SPOOL_FILE_BYTES:
            os.ftruncate(file._descriptor, SPOOL_FILE_BYTES)
        return file

    def append(self, parts: Sequence[Buffer]) -> int:
        """Write all `parts`; their length. Raises OSError when they don't fit, then it holds none of them."""
        wanted = sum(map(len, parts))
        try:
            written = os.writev(self._descriptor, parts[:_MOST_PARTS])
            if written < wanted:  # many, large, or nearly full: the rest shows which
                self._write_rest(parts, written)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            os.lseek(self._descriptor, self.size_bytes, os.SEEK_SET)
            raise
        self.size_bytes += wanted
        return wanted

    def _write_rest(self, parts: Sequence[Buffer], written: int) -> None:
        for start in range(0, len(parts), _MOST_PARTS):
            part = parts[start : start + _MOST_PARTS]
            wanted = sum(map(len, part))
            if written >= wanted:  # of the first ones, by the caller
                written -= wanted
                continue
            done = written or os.writev(self._descriptor, part)
            written = 0
            while done < wanted:
                more = os.write(self._descriptor, b"".join(part)[done:])
                if not more:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += more

    def sync(self) -> None:
        """Bring what was appended to the disk; raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class SpoolWriter:
    """What one proxy hands to the recorder: files in a folder, named by the bytes before them.

    The folder lies in memory (a tmpfs): it holds requests as they came. How much was written and how much the
    reader has done with stand in two numbers that both see. A file that is done with is written over from its
    beginning: to make its pages anew takes longer than to fill them. Not thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.written_bytes = 0
        self._lock = FolderLock(folder / "writer.lock")
        while not self._lock.take():  # a reader that looks holds it for an instant
            time.sleep(0.001)
        self._file: FrameFile | None = None
        self._full: deque[tuple[Path, int]] = deque()  # path and end of those that are followed by others
        self.progress = SharedNumbers(folder / _PROGRESS_NAME, 2).view

    def append(self, parts: Sequence[Buffer]) -> None:
        """Hand over one frame. Raises OSError when there is no room for it; then nothing was handed over."""
        file = self._file
        if file is None or file.size_bytes >= SPOOL_FILE_BYTES:
            file = self._begin()
        try:
            self.written_bytes += file.append(parts)
        except OSError as error:
            if error.errno != errno.EFBIG or not file.size_bytes:
                raise
            self.written_bytes += self._begin().append(parts)  # files may not be as large as we make them
        self.progress[_WRITTEN] = self.written_bytes  # last: what lies behind it is not there

    @property
    def waiting_bytes(self) -> int:
        """What was handed over and the reader has not done with."""
        return self.written_bytes - self.progress[TAKEN]

    def _begin(self) -> FrameFile:
        begun = self._next_file(self.folder / f"{self.written_bytes:016d}.frames")
        if self._file is not None:
            self._full.append((self._file.path, self.written_bytes))
            self._file.close()
        self._file = begun
        return begun

    def _next_file(self, path: Path) -> FrameFile:
        spent, taken = None, self.progress[TAKEN]
        while self._full and self._full[0][1] <= taken:
            spent, _ = self._full.popleft()
        if spent is not None:
            with contextlib.suppress(FileNotFoundError):  # the reader keeps one, and that is a later one
                return FrameFile.in_place_of(spent, path)
        return FrameFile(path)

    def close(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()


class SpoolReader:
    """Reads what a `SpoolWriter` wrote while it writes, or after it was killed. `position` is in bytes.

    A writer of a build before 28 November 2026 has a number of its own for what is taken, and none for what
    is written, since it writes nothing over: all that is there counts.
    """

    def __init__(self, folder: Path, position: int = 0) -> None:
        self.folder = folder
        self.name = folder.name
        self.position = position
        self._lock = FolderLock(folder / "writer.lock")
        older = folder / _OLDER_PROGRESS_NAME
        self._is_older = older.exists() and not (folder / _PROGRESS_NAME).exists()
        self._progress = (
            SharedNumbers(older, 1) if self._is_older else SharedNumbers(folder / _PROGRESS_NAME, 2)
        ).view

    def take(self) -> list[Frame]:
        """The next whole frames, about a megabyte of them; moves `position` behind them."""
        while True:
            # The order counts: a writer that is gone adds nothing, and one that has begun a file nothing to
            # those before it; a file in which something up to `written` is unread isn't written over.
            gone = self.is_over
            written = self._written
            if written <= self.position:
                return []
            starts = self._starts()
            here = [start for start in starts if start <= self.position]
            if not here:
                self.position = starts[0] if starts else self.position
                if not starts:
                    return []
                continue
            later = [start for start in starts if start > self.position]
            end = later[0] if later else written
            frames = self._read(here[-1], end, more_may_come=not later and not gone)
            if frames:
                self.position += frames[-1].end
            elif later:
                self.position = later[0]
                continue
            return frames

    def _read(self, start: int, end: int, *, more_may_come: bool) -> list[Frame]:
        """Frames of one file from `position` to `end`; more of it is read until there is one."""
        size_bytes = _READ_BYTES
        with (self.folder / f"{start:016d}.frames").open("rb", buffering=0) as file:
            while True:
                left_bytes = end - self.position
                data = os.pread(file.fileno(), min(size_bytes, left_bytes), self.position - start)
                at_end = size_bytes >= left_bytes
                frames = list(read_frames(data, more_may_come=more_may_come or not at_end))
                if frames or at_end:
                    return frames
                size_bytes *= 4

    def forget(self, position: int) -> None:
        """Have done with what lies before `position`: the files that lie there as a whole go, but for one.

        That one is the writer's, to write over.
        """
        self._progress[TAKEN] = position
        spent = [start for start, following in itertools.pairwise(self._starts()) if following <= position]
        for start in spent[:-1]:
            (self.folder / f"{start:016d}.frames").unlink(missing_ok=True)

    @property
    def unread_bytes(self) -> int:
        """What lies there and has not been taken."""
        return max(0, self._written - self.position)

    @property
    def _written(self) -> int:
        if not self._is_older:
            return self._progress[_WRITTEN]
        try:
            starts = self._starts()
            return starts[-1] + (self.folder / f"{starts[-1]:016d}.frames").stat().st_size if starts else 0
        except FileNotFoundError:  # done with, and removed
            return 0

    @property
    def is_over(self) -> bool:
        """Whether the writer is gone; to be asked before `take` finds nothing."""
        return not self._lock.is_taken()

    def _starts(self) -> list[int]:
        return sorted(int(name[:-7]) for name in os.listdir(self.folder) if name.endswith(".frames"))


class FolderLock:
    """A lock that is held by a process, and given back by its end however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether the lock is ours now; raises OSError when its file can't be made, or is somebody's link."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def is_taken(self) -> bool:
        """Whether a process holds the lock, as far as we may look."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @property
    def descriptor(self) -> int | None:
        """For a child that shall hold the lock as well."""
        return self._descriptor

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
