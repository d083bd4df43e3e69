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


def unpack(payload: bytes) -> Any:
    """The message in a frame's payload."""
    # Written by our own worker on an inherited socket pair that no one else can reach.
    return pickle.loads(payload)  # noqa: S301


class FrameSplitter:
    """Turns the bytes of a socket back into messages, however they were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def split(self, data: bytes) -> list[bytes]:
        """The payloads completed by this piece, for someone who unpacks each when it is wanted."""
        self._buffer += data
        payloads = []
        at = 0
        while len(self._buffer) - at >= _PREFIX.size:
            (length,) = _PREFIX.unpack_from(self._buffer, at)
            end = at + _PREFIX.size + length
            if len(self._buffer) < end:
                break
            payloads.append(bytes(memoryview(self._buffer)[at + _PREFIX.size : end]))
            at = end
        del self._buffer[:at]
        return payloads

    def feed(self, data: bytes) -> list[Any]:
        """The messages completed by this piece."""
        return [unpack(payload) for payload in self.split(data)]
