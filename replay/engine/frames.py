"""Length-prefixed pickles between the replay's own processes, over a socket pair. Never for foreign bytes."""

from __future__ import annotations

import pickle
import struct
from typing import Any, Final

_PREFIX: Final = struct.Struct("!I")


def frame(message: Any) -> bytes:
    """One message as bytes."""
    payload = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _PREFIX.pack(len(payload)) + payload


class FrameSplitter:
    """Turns the bytes of a socket back into messages, however they were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """The messages completed by this piece."""
        self._buffer += data
        messages = []
        at = 0
        while len(self._buffer) - at >= _PREFIX.size:
            (length,) = _PREFIX.unpack_from(self._buffer, at)
            end = at + _PREFIX.size + length
            if len(self._buffer) < end:
                break
            # Written by our own worker on an inherited socket pair that no one else can reach.
            messages.append(pickle.loads(memoryview(self._buffer)[at + _PREFIX.size : end]))  # noqa: S301
            at = end
        del self._buffer[:at]
        return messages
