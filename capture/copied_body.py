"""One direction of an exchange as it passes: a copy of its bytes, the instants of its chunks, both bounded.

What passes is never held up or cut by these bounds; only the copy is.
"""

from __future__ import annotations

from typing import Final

BODY_COPY_LIMIT_BYTES: Final = 64 << 20
"""A body larger than this passes through whole, but no copy of it is kept."""
COPIES_LIMIT_BYTES: Final = 512 << 20
"""All copies that are under way at once; beyond, the body that asks for more loses its copy."""
STAMPS_LIMIT: Final = 1 << 20
"""Chunks (or messages) beyond so many pass unstamped: a stream of single bytes can't fill the memory."""


class CopyBudget:
    """What the copies of all exchanges under way hold together, in bytes, and how long each may be."""

    def __init__(
        self, limit_bytes: int = COPIES_LIMIT_BYTES, body_limit_bytes: int = BODY_COPY_LIMIT_BYTES
    ) -> None:
        self.limit_bytes = limit_bytes
        self.body_limit_bytes = body_limit_bytes
        self.held_bytes = 0


class CopiedBody:
    """The bytes of one direction. `size_bytes` counts all that passed, `held_bytes` what the copy holds.

    `open_message_bytes` is for whoever reads messages: what has come of the one that is not over. No chunk
    is before `latest_ns`, which is the last one's.
    """

    # Where they begin: one is made for every request, and most need few of them.
    size_bytes = 0
    held_bytes = 0
    open_message_bytes = 0
    latest_ns = -(1 << 63)
    _released = False
    _read: int | None = None

    def __init__(self, budget: CopyBudget | None = None) -> None:
        self.chunk_ns: list[int] = []
        self.chunk_bytes: list[int] = []
        self._budget = CopyBudget() if budget is None else budget
        self._pieces: list[bytes] | None = []

    def take(self, piece: bytes, at_ns: int, read: int) -> None:
        """A piece passed. Pieces with the same `read` number are one chunk."""
        size_bytes = len(piece)
        self.size_bytes += size_bytes
        if read == self._read:
            self.chunk_bytes[-1] += size_bytes
        elif len(self.chunk_ns) < STAMPS_LIMIT:
            if at_ns < self.latest_ns:
                at_ns = self.latest_ns
            self.latest_ns = at_ns
            self.chunk_ns.append(at_ns)
            self.chunk_bytes.append(size_bytes)
            self._read = read
        else:
            self._read = None
        self.copy(piece)

    def count(self, size_bytes: int) -> None:
        """So many bytes passed; neither stamped nor copied."""
        self.size_bytes += size_bytes

    def copy(self, piece: bytes) -> None:
        """Add to the copy, unless a bound was or is met: then nothing of it is left."""
        pieces, budget = self._pieces, self._budget
        if pieces is None:
            return
        size_bytes = len(piece)
        held_bytes, all_bytes = self.held_bytes + size_bytes, budget.held_bytes + size_bytes
        if held_bytes > budget.body_limit_bytes or all_bytes > budget.limit_bytes:
            self.drop()
            return
        pieces.append(piece)
        self.held_bytes, budget.held_bytes = held_bytes, all_bytes

    def drop(self) -> None:
        """Keep no copy, of what passed and of what will."""
        self._pieces = None
        self.release()
        self.held_bytes = 0

    def release(self) -> None:
        """Nothing more will pass: what is held counts against the copies under way no longer."""
        if not self._released:
            self._released = True
            self._budget.held_bytes -= self.held_bytes

    def body(self) -> bytes | None:
        """The copy, or None where it met a bound."""
        pieces = self._pieces
        if pieces is None:
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
