"""The journal's frames: how what was recorded stands in a file that may end, or be damaged, anywhere.

A file of frames is read to its last whole one, whatever killed its writer; a damaged frame costs itself and
no other. A frame is

    magic (2 bytes) · kind (1) · zero (1) · payload's length (4) · CRC-32 (4) · payload

little endian, its checksum over kind, length and payload. Pure: bytes in, bytes out. Where the files lie and
when they are begun is in `frame_files`, what payloads hold in `row_frames`.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

MAGIC: Final = b"\xb5\x1f"
HEADER: Final = struct.Struct("<2sBBII")
SEED: Final = struct.Struct("<BI")
HEADER_BYTES: Final = HEADER.size
PAYLOAD_LIMIT_BYTES: Final = 1 << 30

type Buffer = bytes | memoryview


class Kind(enum.IntEnum):
    """What a frame tells. REQUEST, END and LOST are about one request, by its id."""

    REQUEST = 1  # asked: the row's columns that are known by then; a later one replaces it
    END = 2  # over: the row's other columns
    LOST = 3  # it will not be recorded, and the cause
    COUNTS = 4  # what the proxy has counted
    ASKED = 5  # in a spool only: as REQUEST, by position (see `exchange_frames`); older ones have REQUEST
    ENDED = 6  # in a spool only: as END, by position; older ones have END
    STATE = 8  # the journal up to here is complete: how far the spools are read, and what is counted
    KEY = 16  # of a sealed file: what opens its other frames (see `sealing`)
    TEXT = 17  # of a file that is one text
    BYTES = 18  # of a file that is one stream of bytes: the next of them


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame; `start` and `end` are its place in the buffer that it was read from."""

    kind: int
    payload: memoryview
    start: int
    end: int


def frame_parts(kind: int, payload: Sequence[Buffer]) -> list[Buffer]:
    """A frame as buffers for `os.writev`; the parts of `payload` are not copied.

    Raises ValueError when it is larger than `PAYLOAD_LIMIT_BYTES`.
    """
    length = sum(map(len, payload))
    if length > PAYLOAD_LIMIT_BYTES:
        raise ValueError(f"a frame of {length} bytes, at most {PAYLOAD_LIMIT_BYTES} wanted")
    checksum = _seed(kind, length)
    for part in payload:
        checksum = zlib.crc32(part, checksum)
    return [HEADER.pack(MAGIC, kind, 0, length, checksum), *payload]


def frames_of(parts: Sequence[Buffer]) -> Iterator[tuple[int, list[Buffer]]]:
    """Kind and payload of each frame in buffers that `frame_parts` made, one frame after the other."""
    rest = iter(parts)
    for header in rest:
        if not len(header):  # the empty body of the frame before
            continue
        _, kind, _, length, _ = HEADER.unpack(header)
        payload: list[Buffer] = []
        while length > 0:
            payload.append(next(rest))
            length -= len(payload[-1])
        yield kind, payload


def payload_bytes(header: Buffer) -> int:
    """How long the payload is that follows a frame's first `HEADER_BYTES`; 0 when they are no such."""
    magic, _, _, length, _ = HEADER.unpack_from(header)
    return int(length) if magic == MAGIC and length <= PAYLOAD_LIMIT_BYTES else 0


def read_frames(data: Buffer, start: int = 0, *, more_may_come: bool = False) -> Iterator[Frame]:
    """The whole, undamaged frames of `data` from `start` on, in their order; never raises.

    What is damaged is passed over up to the next good frame. With `more_may_come` reading ends before a
    frame that is not all there yet; else it counts as damaged.
    """
    view = memoryview(data)
    at = start
    while at + HEADER_BYTES <= len(view):
        magic, kind, zero, length, checksum = HEADER.unpack_from(view, at)
        end = at + HEADER_BYTES + length
        if magic == MAGIC and not zero and length <= PAYLOAD_LIMIT_BYTES:
            if end <= len(view):
                payload = view[at + HEADER_BYTES : end]
                if zlib.crc32(payload, _seed(kind, length)) == checksum:
                    yield Frame(kind, payload, at, end)
                    at = end
                    continue
            elif more_may_come:
                return
        at = _next_magic(data, at + 1)


def _seed(kind: int, length: int) -> int:
    return zlib.crc32(SEED.pack(kind, length))


def _next_magic(data: Buffer, at: int) -> int:
    if isinstance(data, bytes):
        found = data.find(MAGIC, at)
        return found if found >= 0 else len(data)
    while at < len(data):  # a view can't be searched: look through copies of pieces of it
        found = bytes(data[at : at + (1 << 16)]).find(MAGIC)
        if found >= 0:
            return at + found
        at += (1 << 16) - 1
    return len(data)
