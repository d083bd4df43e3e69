"""Content codings piece by piece: decoded so that each read's share stays known, and coded again likewise."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

LARGEST_BYTES: Final = 64 << 20
"""A body that decodes to more is not looked into."""
_STEP_BYTES: Final = 2048


class Undecodable(ValueError):  # noqa: N818 - it says what the bytes are
    """The bytes are not in their coding, decode to too much, or the coding is unknown."""


def codings_of(header: str | None) -> list[str]:
    """The codings that a Content-Encoding header names, in order, "identity" left out."""
    names = (name.strip().lower() for name in (header or "").split(","))
    return [name for name in names if name not in ("", "identity")]


def decoded_pieces(pieces: Sequence[bytes], codings: Sequence[str]) -> list[bytes]:
    """What each piece of a coded body adds to the decoded one; a body that was cut off decodes so far.

    Raises `Undecodable`, also when it would be more than `LARGEST_BYTES`.
    """
    for coding in reversed(codings):
        decoder = _Decoder(coding)
        try:
            pieces = [decoder.feed(piece) for piece in pieces]
        except Undecodable:
            raise
        except Exception as error:  # three libraries, each with failures of its own
            raise Undecodable(f"not {coding}") from error
    return list(pieces)


def encoded_pieces(pieces: Sequence[bytes], codings: Sequence[str]) -> list[bytes]:
    """The pieces coded, flushed after each, so that joined they are the whole coded body."""
    for coding in codings:
        encoder = _encoder(coding)
        coded = [encoder.compress(piece) + encoder.flush(last=False) for piece in pieces[:-1]]
        coded += [encoder.compress(piece) + encoder.flush(last=True) for piece in pieces[-1:]]
        pieces = coded
    return list(pieces)


class _Decoder:
    """One coding taken off; gzip may have several members, deflate may lack its zlib head."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._room = LARGEST_BYTES
        self._inner: Any = None

    def feed(self, piece: bytes) -> bytes:
        if self._inner is None and piece:
            self._inner = _begun(self._coding, piece)
        parts: list[bytes] = []
        rest, piece = piece, b""
        while piece or rest:
            if not piece:  # bit by bit: a few bytes may decode to megabytes, and the room must be seen to end
                piece, rest = rest[:_STEP_BYTES], rest[_STEP_BYTES:]
            made, piece = self._step(piece)
            parts.append(made)
            self._room -= len(made)
            if self._room <= 0:
                raise Undecodable(f"more than {LARGEST_BYTES} bytes")
        return b"".join(parts)

    def _step(self, piece: bytes) -> tuple[bytes, bytes]:
        if self._coding == "br":
            return self._inner.process(piece), b""
        if self._coding == "zstd":
            made = self._inner.decompress(piece)
            rest = self._inner.unused_data
            if rest:
                self._inner = _begun(self._coding, rest)
            return made, rest
        made = self._inner.decompress(piece, self._room)
        rest = self._inner.unused_data
        if self._inner.eof and rest:
            if self._coding == "deflate" or rest[:1] != b"\x1f"[: len(rest)]:
                return made, b""  # padding behind the end, as some servers send
            self._inner = _begun(self._coding, rest)
            return made, rest
        return made, self._inner.unconsumed_tail if not self._inner.eof else b""


def _begun(coding: str, head: bytes) -> Any:
    if coding in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=31)
    if coding == "deflate":
        zlib_head = len(head) < 2 or (head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0)
        return zlib.decompressobj(wbits=15 if zlib_head else -15)
    if coding == "br":
        import brotli

        return brotli.Decompressor()
    if coding == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    raise Undecodable(f"unknown coding {coding}")


class _Encoder(Protocol):
    def compress(self, piece: bytes) -> bytes: ...

    def flush(self, *, last: bool) -> bytes: ...


class _Zlib:
    def __init__(self, wbits: int) -> None:
        self._inner = zlib.compressobj(wbits=wbits)

    def compress(self, piece: bytes) -> bytes:
        return self._inner.compress(piece)

    def flush(self, *, last: bool) -> bytes:
        return self._inner.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class _Brotli:
    def __init__(self) -> None:
        import brotli

        self._inner = brotli.Compressor(quality=4)

    def compress(self, piece: bytes) -> bytes:
        made: bytes = self._inner.process(piece)
        return made

    def flush(self, *, last: bool) -> bytes:
        made: bytes = self._inner.finish() if last else self._inner.flush()
        return made


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdCompressor().compressobj()

    def compress(self, piece: bytes) -> bytes:
        return self._inner.compress(piece)

    def flush(self, *, last: bool) -> bytes:
        import zstandard

        how = zstandard.COMPRESSOBJ_FLUSH_FINISH if last else zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return self._inner.flush(how)


def _encoder(coding: str) -> _Encoder:
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Zstd()
    return _Zlib(31 if coding in ("gzip", "x-gzip") else 15)
