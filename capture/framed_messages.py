"""Messages in a body: each behind five bytes, a flag and its length, as gRPC, gRPC-Web and Connect have them.

Only the lengths are looked at, piece by piece as a body passes: nothing is held back, nothing decompressed.
"""

from __future__ import annotations

from typing import Final

from capture.raw_headers import Fields

PREFIX_BYTES: Final = 5
_CONTENT_TYPE: Final = ("content-type", b"content-type")
_KINDS: Final = ("application/grpc", "application/connect+")


def is_framed(headers: Fields) -> bool:
    """Whether the content type is one of those whose bodies are messages in frames."""
    for name, value in headers:
        if len(name) == len(_CONTENT_TYPE[0]) and name.lower() in _CONTENT_TYPE:
            kind = (value if isinstance(value, str) else value.decode("latin-1")).lower()
            return kind.startswith(_KINDS) and not kind.startswith("application/grpc-web-text")
    return False


class MessageSizes:
    """Finds where messages end in a body that passes in pieces."""

    __slots__ = ("_left_bytes", "_prefix", "_size_bytes")

    def __init__(self) -> None:
        self._prefix = b""
        self._size_bytes = 0
        self._left_bytes = 0

    def feed(self, piece: bytes) -> list[int]:
        """Sizes in bytes, prefix included, of the messages that end in `piece`."""
        ended: list[int] = []
        at = 0
        while at < len(piece):
            if self._left_bytes:
                step = min(self._left_bytes, len(piece) - at)
                self._left_bytes -= step
            else:
                step = min(PREFIX_BYTES - len(self._prefix), len(piece) - at)
                self._prefix += piece[at : at + step]
                if len(self._prefix) == PREFIX_BYTES:
                    self._left_bytes = int.from_bytes(self._prefix[1:])
                    self._size_bytes = PREFIX_BYTES + self._left_bytes
            at += step
            if not self._left_bytes and len(self._prefix) == PREFIX_BYTES:
                ended.append(self._size_bytes)
                self._prefix = b""
        return ended
