"""What frames hold: columns of one trace row, or counts, as MessagePack with the bodies behind it.

Bodies are not packed but follow, so that a large one is never copied. Nothing is known here of which
columns there are. Pure functions of values.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgpack

from capture.journal import Buffer, Frame, Kind, frame_parts

_LENGTH: Final = struct.Struct("<I")
_KEPT_PACKER_BYTES: Final = 1 << 20
_threads = threading.local()


def row_frame(kind: Kind, columns: Mapping[str, Any]) -> list[Buffer]:
    """A frame of `columns` (headers as lists of (name, value) pairs), as buffers for `os.writev`."""
    packed: dict[str, Any] = {}
    bodies: list[bytes] = []
    tail: list[tuple[str, int]] = []
    for name, value in columns.items():
        if isinstance(value, bytes):
            tail.append((name, len(value)))
            bodies.append(value)
        else:
            packed[name] = value
    head = _packed((packed, tail))
    return frame_parts(kind, (_LENGTH.pack(len(head)) + head, *bodies))


def _packed(value: Any) -> bytes:
    # A packer is made once a thread: making one takes as long as packing. One that has grown is let go.
    packer = getattr(_threads, "packer", None)
    if packer is None:
        packer = _threads.packer = msgpack.Packer(unicode_errors="surrogatepass")
    packed: bytes = packer.pack(value)
    if len(packed) > _KEPT_PACKER_BYTES:
        del _threads.packer
    return packed


def columns_of(frame: Frame) -> dict[str, Any]:
    """The columns that `row_frame` took; raises ValueError when the payload holds none."""
    try:
        (length,) = _LENGTH.unpack_from(frame.payload)
        at = _LENGTH.size + length
        columns, tail = msgpack.unpackb(frame.payload[_LENGTH.size : at], unicode_errors="surrogatepass")
        for name, size in tail:
            columns[name] = bytes(frame.payload[at : at + size])
            at += size
    except (struct.error, ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise ValueError(f"a frame without columns: {error}") from error
    found: dict[str, Any] = columns
    return found


def readable_columns(frames: Iterable[Frame]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(kind, columns) of the frames that hold columns; others, of a strange version say, are passed over."""
    for frame in frames:
        try:
            yield frame.kind, columns_of(frame)
        except ValueError:
            continue
