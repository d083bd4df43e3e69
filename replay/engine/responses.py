"""Reading what responses said, after the fact: tokens per read, usage, errors inside a stream. Pure.

Runs in the collector's process, so that no JSON is parsed where requests are paced.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import brotli
import zstandard

from capture.content_codings import decode_content
from capture.sse import Answer, EventStream, JsonLines, cut, outline, read_stream

CUT_SHORT: Final = "the stream ended with neither a finish reason nor [DONE]"
EVENTS: Final = "text/event-stream"
STREAMS: Final = (EVENTS, "application/x-ndjson", "application/jsonl")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one response said; `tokens_per_read` counts content-bearing events, one entry per read."""

    answer: Answer
    tokens_per_read: tuple[int, ...]
    first_token_read: int | None


def read_response(body: bytes, read_bytes: Sequence[int], content_type: str, encoding: str) -> Reading:
    """Read a response body that came in reads of `read_bytes`, still content-encoded."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in STREAMS:
        splitter = EventStream() if kind == EVENTS else JsonLines()
        stream = read_stream(_decoded(cut(body, read_bytes), encoding), splitter)
        answer = stream.answer
        if answer.choices and not answer.done and answer.finish_reason is None and answer.error is None:
            answer.error = CUT_SHORT
        first = next((at for at, count in enumerate(stream.content_events) if count), None)
        missing = (0,) * (len(read_bytes) - len(stream.content_events))
        return Reading(stream.answer, stream.content_events + missing, first)
    answer = Answer()
    decoded = decode_content(body, encoding or None)
    if decoded is not None and decoded[:1] == b"{":
        answer.absorb(outline(decoded))
    # Failing inside a whole answer is what statuses are for; "error" there may be any model's own field.
    answer.error = None
    return Reading(answer, (0,) * len(read_bytes), None)


def _decoded(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Each piece decoded as far as it goes; an unknown or damaged coding yields nothing more."""
    decode: Callable[[bytes], bytes]
    match encoding.strip().lower():
        case "" | "identity":
            yield from pieces
            return
        case "gzip" | "x-gzip" | "deflate":
            decode = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress
        case "br":
            decode = brotli.Decompressor().process
        case "zstd":
            decode = zstandard.ZstdDecompressor().decompressobj().decompress
        case _:
            return
    for piece in pieces:
        try:
            yield decode(piece)
        except (zlib.error, brotli.error, zstandard.ZstdError):
            return
