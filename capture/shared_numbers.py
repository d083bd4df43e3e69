"""Whole numbers that several processes see, in a file that each of them has mapped into its memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

_NUMBER_BYTES: Final = 8


class SharedNumbers:
    """`count` int64s in the file `path`, which is made, all 0, when it is not there. Raises OSError.

    Each is read and written as a whole; one process writes, the others see it at once. `view` is all of them.
    """

    def __init__(self, path: Path, count: int) -> None:
        size_bytes = count * _NUMBER_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < size_bytes:
                os.ftruncate(descriptor, size_bytes)
            self.view: Final = memoryview(mmap.mmap(descriptor, size_bytes)).cast("q")
        finally:
            os.close(descriptor)

    def __getitem__(self, at: int) -> int:
        return self.view[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.view[at] = value
