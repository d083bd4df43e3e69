"""A stream of bytes in a file that only a key opens, whatever ends its writer: sealed frame after frame.

For what is appended to while a replay runs. How frames are sealed is in `capture.sealing`; what the bytes are
is not known here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from capture.encryption_keys import Keys
from capture.journal import HEADER_BYTES, Frame, Kind, frame_parts, payload_bytes, read_frames
from capture.sealing import Opener, Seal, is_sealed

_FRAME_BYTES: Final = 8 << 20


class SealedWriter(io.RawIOBase):
    """A file that is written anew; what was written up to the last `flush` can be read whatever happens."""

    def __init__(self, path: Path, keys: Keys) -> None:
        """Raises OSError, and `KeyRefused` when a key service gives no key."""
        super().__init__()
        self._seal = Seal(keys)
        self._waiting = bytearray()
        self._file = path.open("wb", buffering=0)
        self._file.write(b"".join(self._seal.head))

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """Seal what was written and hand it to the kernel."""
        waiting, self._waiting = memoryview(bytes(self._waiting)), bytearray()
        for start in range(0, len(waiting), _FRAME_BYTES):
            parts = self._seal.sealed(frame_parts(Kind.BYTES, [waiting[start : start + _FRAME_BYTES]]))
            left = memoryview(b"".join(parts))
            while left:
                left = left[self._file.write(left) :]

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()  # which flushes
            finally:
                self._file.close()


def open_stream(path: Path, keys: Keys | None) -> IO[bytes] | io.BufferedReader:
    """A file's bytes from its first, opened with `keys` if it is sealed, up to its last whole frame.

    Raises OSError, and `KeyRefused` when the key is missing or wrong.
    """
    file = path.open("rb")
    if not is_sealed(file.peek(HEADER_BYTES)):
        return file
    try:
        return io.BufferedReader(_SealedReader(file, Opener(keys, str(path))))
    except BaseException:
        file.close()
        raise


def starts_sealed(path: Path) -> bool:
    """Whether the file is a sealed one; raises OSError."""
    with path.open("rb") as file:
        return is_sealed(file.peek(HEADER_BYTES))


class _SealedReader(io.RawIOBase):
    def __init__(self, file: IO[bytes], opener: Opener) -> None:
        super().__init__()
        self._file = file
        self._pieces = (frame.payload for frame in opener.opened(_frames_in(file)))
        self._piece = next(self._pieces, memoryview(b""))  # a wrong key is found out now

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = piece
        taken = self._piece[: len(buffer)]
        buffer[: len(taken)] = taken
        self._piece = self._piece[len(taken) :]
        return len(taken)

    def close(self) -> None:
        self._file.close()
        super().close()


def _frames_in(file: IO[bytes]) -> Iterator[Frame]:
    """The frames of a file one by one, up to its end or to the first that is not whole."""
    while len(header := file.read(HEADER_BYTES)) == HEADER_BYTES:
        found = next(read_frames(header + file.read(payload_bytes(header))), None)
        if found is None:
            return
        yield found
