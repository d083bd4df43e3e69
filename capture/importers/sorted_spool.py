"""Sorting more than memory holds: items go in as they come and come out by key, in flat memory.

Sorted runs lie in one temporary file that has no name (it is gone with the process, whatever kills it), and
are merged as they are drawn. What is on the disk is encrypted, block by block, with a key that never leaves
this process: items may be requests that no policy has seen yet. What they are is the importers' business.
"""

from __future__ import annotations

import heapq
import marshal
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from capture.failures import BadInput

HELD_BYTES: Final = 32 << 20
_BLOCK_BYTES: Final = 64 << 10

type Entry = tuple[Any, int, Any, int]
"""(key, number, item, size in bytes); numbers differ, so that items are never compared."""


class SortedSpool:
    """Items by ascending key; equal keys keep their order.

    Keys and items are built of None, bool, int, float, str, bytes, lists, tuples and dictionaries. The
    temporary file lies in `folder` (default: the system's), and only once `held_bytes` are exceeded.
    """

    def __init__(self, folder: Path | None = None, *, held_bytes: int = HELD_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = held_bytes
        self._held: list[Entry] = []
        self._held_bytes = 0
        self._descriptor: int | None = None
        self._end = 0
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._runs: list[list[tuple[int, int]]] = []
        self.count = 0
        self.drawn = 0

    def add(self, key: Any, item: Any, size_bytes: int = 500) -> None:
        """Take one item in; `size_bytes` is about what it takes in memory. Raises `BadInput` (disk full)."""
        self._held.append((key, self.count, item, size_bytes))
        self.count += 1
        self._held_bytes += size_bytes
        if self._held_bytes >= self._limit_bytes:
            self._spill()

    def __iter__(self) -> Iterator[Any]:
        """All items in order; to be called once, after the last `add`."""
        self._held.sort(key=_by_key)
        runs = [self._read(run) for run in self._runs]
        for entry in heapq.merge(*runs, iter(self._held), key=_by_key):
            self.drawn += 1
            yield entry[2]
        self._held.clear()
        self.close()

    def fraction(self) -> float:
        """Share of the items drawn, 0 … 1."""
        return self.drawn / max(1, self.count)

    def close(self) -> None:
        """Give the temporary file back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()

    def _spill(self) -> None:
        self._held.sort(key=_by_key)
        run: list[tuple[int, int]] = []
        block: list[Entry] = []
        block_bytes = 0
        for entry in self._held:
            block.append(entry)
            block_bytes += entry[3]
            if block_bytes >= _BLOCK_BYTES:
                run.append(self._append(block))
                block, block_bytes = [], 0
        if block:
            run.append(self._append(block))
        self._runs.append(run)
        self._held, self._held_bytes = [], 0

    def _append(self, block: list[Entry]) -> tuple[int, int]:
        folder = self._folder or Path(tempfile.gettempdir())
        data = self._cipher.encrypt(_nonce(self._end), marshal.dumps(block), None)
        try:
            if self._descriptor is None:
                self._descriptor, name = tempfile.mkstemp(prefix=".peaktape-sort-", dir=folder)
                os.unlink(name)
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self._end + written)
        except OSError as error:
            raise BadInput(
                f"{folder}: no room to sort the requests ({error.strerror}); free space there"
            ) from error
        place = (self._end, len(data))
        self._end += len(data)
        return place

    def _read(self, run: list[tuple[int, int]]) -> Iterator[Entry]:
        for offset, size in run:
            assert self._descriptor is not None, "drawn twice"  # noqa: S101 - a programming error
            data = bytearray()
            while len(data) < size:
                data += os.pread(self._descriptor, size - len(data), offset + len(data))
            block = self._cipher.decrypt(_nonce(offset), data, None)
            yield from marshal.loads(block)  # noqa: S302 - our own bytes, as the cipher says


def _nonce(offset: int) -> bytes:
    """A block's place in the file: no other block of this key has it."""
    return offset.to_bytes(12, "big")


def _by_key(entry: Entry) -> tuple[Any, int]:
    return entry[0], entry[1]
