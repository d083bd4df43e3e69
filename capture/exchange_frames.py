"""How an exchange stands in a spool: its values by position, packed with as little work as can be.

A client waits while a proxy does this, so the columns get their names, and their text, where they are read.
What a journal holds is in `row_frames`. Pure functions of values.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import msgpack

from capture.exchange import ASKED_COLUMNS, ENDED_COLUMNS
from capture.journal import HEADER, MAGIC, PAYLOAD_LIMIT_BYTES, SEED, Frame, Kind

_LENGTH: Final = struct.Struct("<I")
_LENGTH_BYTES: Final = _LENGTH.size
_SEED_AND_LENGTH: Final = struct.Struct(f"{SEED.format}I")
_HEADER_AND_LENGTH: Final = struct.Struct(f"{HEADER.format}I")
_KEPT_PACKER_BYTES: Final = 1 << 20
_NAMES: Final = {Kind.ASKED: ASKED_COLUMNS, Kind.ENDED: ENDED_COLUMNS}
"""The last of each are bodies, which stand behind the packed values."""


class ExchangeFrames:
    """Makes the frames of one proxy's exchanges, as buffers for `os.writev`. Not thread-safe."""

    def __init__(self) -> None:
        self._pack = msgpack.Packer(unicode_errors="surrogatepass").pack

    def frame(
        self,
        kind: Kind,
        values: tuple[Any, ...],
        more: dict[str, Any] | None,
        first: bytes | None,
        second: bytes | None = None,
    ) -> list[bytes]:
        """A frame of `Exchange.asked_values` (`Kind.ASKED`) or `Exchange.ended_values` (`Kind.ENDED`).

        `more` are further columns by name. Raises ValueError when it is too large for a frame.
        """
        first_bytes = None if first is None else len(first)
        second_bytes = None if second is None else len(second)
        head: bytes = self._pack((values, (first_bytes, second_bytes), more))
        head_bytes = len(head)
        if head_bytes > _KEPT_PACKER_BYTES:  # it has grown for good
            self._pack = msgpack.Packer(unicode_errors="surrogatepass").pack
        length = _LENGTH_BYTES + head_bytes + (first_bytes or 0) + (second_bytes or 0)
        if length > PAYLOAD_LIMIT_BYTES:
            raise ValueError(f"a frame of {length} bytes, at most {PAYLOAD_LIMIT_BYTES} wanted")
        checksum = zlib.crc32(head, zlib.crc32(_SEED_AND_LENGTH.pack(kind, length, head_bytes)))
        parts = [head]
        for body in (first, second):
            if body:
                checksum = zlib.crc32(body, checksum)
                parts.append(body)
        parts.insert(0, _HEADER_AND_LENGTH.pack(MAGIC, kind, 0, length, checksum, head_bytes))
        return parts


def exchange_columns(frame: Frame) -> dict[str, Any]:
    """The columns that a frame of `ExchangeFrames` tells; raises ValueError when it is no such.

    Those of an end that hold nothing are left out.
    """
    try:
        names = _NAMES[Kind(frame.kind)]
        (length,) = _LENGTH.unpack_from(frame.payload)
        at = _LENGTH.size + length
        packed = frame.payload[_LENGTH.size : at]
        values, sizes, more = msgpack.unpackb(packed, unicode_errors="surrogatepass")
        bodies: list[bytes | None] = []
        for size in sizes:
            bodies.append(None if size is None else bytes(frame.payload[at : at + size]))
            at += size or 0
        columns = dict(zip(names, (*values, *bodies[: len(names) - len(values)]), strict=True))
    except (struct.error, ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"a frame without an exchange: {error}") from error
    if frame.kind == Kind.ENDED:
        columns = {name: value for name, value in columns.items() if value is not None}
    return columns | (more or {})
