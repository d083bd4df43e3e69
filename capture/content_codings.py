"""Content codings taken off a body: gzip, deflate, br, zstd, each with a bound on what comes out.

Only the recorder's side decodes; what passes the proxy stays as it is.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final

DECODED_LIMIT_BYTES: Final = 64 << 20
_STEP_BYTES: Final = 1 << 20
_CODINGS_LIMIT: Final = 4
_MEMBERS_LIMIT: Final = 1000
"""A gzip body of millions of empty members would take hours."""


def decode_content(body: bytes, encoding: str | None) -> bytes | None:
    """`body` with its content codings (`gzip`, `deflate`, `br`, `zstd`, or several) taken off.

    A body that was cut off decodes as far as it goes, and no further than `DECODED_LIMIT_BYTES`. None when
    a coding is unknown or the bytes are not in it.
    """
    if not encoding:
        return body
    codings = [name.strip().lower() for name in encoding.split(",")]
    if len(codings) > _CODINGS_LIMIT:
        return None
    for coding in reversed(codings):
        if coding in ("", "identity") or not body:
            continue
        decoder = _DECODERS.get(coding)
        decoded = decoder(body) if decoder else None
        if decoded is None:
            return None
        body = decoded
    return body


def _gunzip(body: bytes) -> bytes | None:
    """The members of a gzip body, as one."""
    parts: list[bytes] = []
    room = DECODED_LIMIT_BYTES
    for _ in range(_MEMBERS_LIMIT):
        if not body or room <= 0 or body[:2] != b"\x1f\x8b"[: len(body)]:
            break
        inflate = zlib.decompressobj(wbits=31)
        try:
            parts.append(inflate.decompress(body, room))
        except zlib.error:
            break
        room -= len(parts[-1])
        body = inflate.unused_data
    return b"".join(parts) if parts else None


def _inflate(body: bytes) -> bytes | None:
    """HTTP's "deflate": a zlib stream by the standard, a bare one by some servers."""
    for wbits in (15, -15):
        try:
            return zlib.decompressobj(wbits=wbits).decompress(body, DECODED_LIMIT_BYTES)
        except zlib.error:
            continue
    return None


def _unbrotli(body: bytes) -> bytes | None:
    import brotli

    decoder = brotli.Decompressor()
    parts: list[bytes] = []
    room = DECODED_LIMIT_BYTES
    try:
        while room > 0 and not decoder.is_finished():
            # 16 KB of brotli may stand for gigabytes: what it gives has to be asked for bit by bit.
            taken = decoder.process(body, output_buffer_limit=min(room, _STEP_BYTES))
            body = b""
            parts.append(taken)
            room -= len(taken)
            if not taken:
                break
    except brotli.error:
        return None
    return b"".join(parts)[:DECODED_LIMIT_BYTES]


def _unzstd(body: bytes) -> bytes | None:
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body), read_across_frames=True)
    try:
        return reader.read(DECODED_LIMIT_BYTES)
    except zstandard.ZstdError:
        return None


_DECODERS: Final[dict[str, Callable[[bytes], bytes | None]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
