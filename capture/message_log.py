"""The messages of an exchange that has them: gRPC's and WebSocket's, both directions in their order.

A message's bytes are not here but in its direction's body: the body is the messages of that direction, one
after the other, as `message_bytes` cuts them.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from capture.copied_body import BODY_COPY_LIMIT_BYTES, STAMPS_LIMIT

_DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"


class MessageLog:
    """When each message was whole, its size, its direction; for WebSocket also whether it is text."""

    __slots__ = ("at_ns", "compressed", "from_client", "sizes_bytes", "text")

    def __init__(self) -> None:
        self.at_ns: list[int] = []
        self.sizes_bytes: list[int] = []
        self.from_client: list[bool] = []
        self.text: list[bool | None] = []
        self.compressed: list[bool] = []

    def add(
        self,
        at_ns: int,
        size_bytes: int,
        *,
        from_client: bool,
        text: bool | None = None,
        compressed: bool = False,
    ) -> None:
        """A message became whole, not before an earlier one; one beyond `STAMPS_LIMIT` goes unlisted."""
        if len(self.at_ns) < STAMPS_LIMIT:
            self.at_ns.append(max(at_ns, self.at_ns[-1]) if self.at_ns else at_ns)
            self.sizes_bytes.append(size_bytes)
            self.from_client.append(from_client)
            self.text.append(text)
            self.compressed.append(compressed)

    def columns(self) -> dict[str, Any]:
        """The message columns of a trace row."""
        return {
            "message_ns": self.at_ns,
            "message_bytes": self.sizes_bytes,
            "message_from_client": self.from_client,
            "message_text": self.text,
        }

    def unpacked(self, body: bytes | None, *, from_client: bool) -> bytes | None:
        """The body of one direction with its messages inflated (RFC 7692), and their sizes set so.

        A body that doesn't inflate, or to more than `BODY_COPY_LIMIT_BYTES`, is None: the sizes stay those
        that passed then.
        """
        mine = [index for index, direction in enumerate(self.from_client) if direction is from_client]
        if body is None or not any(self.compressed[index] for index in mine):
            return body
        parts: list[bytes] = []
        inflate, at, room = zlib.decompressobj(-15), 0, BODY_COPY_LIMIT_BYTES
        for index in mine:
            part = body[at : at + self.sizes_bytes[index]]
            at += len(part)
            if self.compressed[index]:
                if inflate.eof:
                    inflate = zlib.decompressobj(-15)
                try:
                    part = inflate.decompress(part + _DEFLATE_TAIL, room + 1)
                except zlib.error:
                    return None
            room -= len(part)
            if room < 0:
                return None
            parts.append(part)
        for index, part in zip(mine, parts, strict=True):
            self.sizes_bytes[index] = len(part)
        return b"".join(parts)
