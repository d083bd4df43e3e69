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
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from capture.journal import Buffer, Frame, read_frames
from capture.shared_numbers import SharedNumbers

SPOOL_FILE_BYTES: Final = 4 << 20
_MOST_PARTS: Final = 1000  # IOV_MAX is 1024
_READ_BYTES: Final = 1 << 20


class FrameFile:
    """One file that is appended to; made by this, and refused when it is there already.

    Only its owner can read it. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self.size_bytes = 0

    def append(self, parts: Sequence[Buffer]) -> int:
        """Write all `parts`; their length. Raises OSError when they don't fit, then it holds none of them."""
        try:
            written = 0
            for start in range(0, len(parts), _MOST_PARTS):
                written += self._write(parts[start : start + _MOST_PARTS])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size_bytes)
            raise
        self.size_bytes += written
        return written

    def _write(self, parts: Sequence[Buffer]) -> int:
        wanted = sum(map(len, parts))
        written = os.writev(self._descriptor, parts)
        while written < wanted:  # large, or nearly full: the rest shows which
            more = os.write(self._descriptor, b"".join(parts)[written:])
            if not more:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written += more
        return written

    def sync(self) -> None:
        """Bring what was appended to the disk; raises OSError."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class SpoolWriter:
    """What one proxy hands to the recorder: files in a folder, named by the bytes before them.

    The folder lies in memory (a tmpfs): it holds requests as they came. The reader removes what it has read.
    Not thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.written_bytes = 0
        self._lock = FolderLock(folder / "writer.lock")
        while not self._lock.take():  # a reader that looks holds it for an instant
            time.sleep(0.001)
        self._file: FrameFile | None = None
        self._taken = SharedNumbers(folder / "taken", 1)

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

    @property
    def waiting_bytes(self) -> int:
        """What was handed over and the reader has not done with."""
        return self.written_bytes - self._taken[0]

    def _begin(self) -> FrameFile:
        begun = FrameFile(self.folder / f"{self.written_bytes:016d}.frames")
        if self._file is not None:
            self._file.close()
        self._file = begun
        return begun

    def close(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()


class SpoolReader:
    """Reads what a `SpoolWriter` wrote while it writes, or after it was killed. `position` is in bytes."""

    def __init__(self, folder: Path, position: int = 0) -> None:
        self.folder = folder
        self.name = folder.name
        self.position = position
        self._lock = FolderLock(folder / "writer.lock")
        self._taken = SharedNumbers(folder / "taken", 1)

    def take(self) -> list[Frame]:
        """The next whole frames, about a megabyte of them; moves `position` behind them."""
        while True:
            # The order counts: a writer that is gone, or has begun a file, adds nothing to this one.
            gone = not self._lock.is_taken()
            starts = self._starts()
            here = [start for start in starts if start <= self.position]
            if not here:
                self.position = starts[0] if starts else self.position
                if not starts:
                    return []
                continue
            later = [start for start in starts if start > self.position]
            frames = self._read(here[-1], more_may_come=not later and not gone)
            if frames:
                self.position += frames[-1].end
            elif later:
                self.position = later[0]
                continue
            return frames

    def _read(self, start: int, *, more_may_come: bool) -> list[Frame]:
        """Frames of one file from `position` on; more of it is read until there is one, or its end."""
        size_bytes = _READ_BYTES
        with (self.folder / f"{start:016d}.frames").open("rb") as file:
            while True:
                file.seek(self.position - start)
                data = file.read(size_bytes)
                at_end = len(data) < size_bytes
                frames = list(read_frames(data, more_may_come=more_may_come or not at_end))
                if frames or at_end:
                    return frames
                size_bytes *= 4

    def forget(self, position: int) -> None:
        """Have done with what lies before `position`: the files that lie there as a whole go."""
        self._taken[0] = position
        starts = self._starts()
        for start, following in itertools.pairwise(starts):
            if following <= position:
                (self.folder / f"{start:016d}.frames").unlink(missing_ok=True)

    @property
    def unread_bytes(self) -> int:
        """What lies there and has not been taken."""
        starts = self._starts()
        if not starts:
            return 0
        last = self.folder / f"{starts[-1]:016d}.frames"
        return max(0, starts[-1] + last.stat().st_size - self.position)

    @property
    def is_over(self) -> bool:
        """Whether the writer is gone; to be asked before `take` finds nothing."""
        return not self._lock.is_taken()

    def _starts(self) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob("*.frames"))


class FolderLock:
    """A lock that is held by a process, and given back by its end however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether the lock is ours now; raises OSError when its file can't be made."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
