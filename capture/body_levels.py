"""How hard a segment's bodies are to be compressed: found out on samples of them.

Text takes a tenth less room at zstd's level 3 than at 1, in the same time. Digits without a pattern (numbers,
hex) take four times as long, and more room: matches of four characters are found that cost more than they
save. Pure; files are `trace_writer`'s.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

_SAMPLES: Final = 2
_SAMPLE_BYTES: Final = 512 << 10
"""Enough that bodies which begin alike stand beside each other in it."""
_LOWER, _HIGHER = 1, 3
_DENSE: Final = 0.3
"""What takes less than this share of its bytes is text, or events: those are for the higher level."""
BODIES: Final = ("request_body", "response_body")


def body_levels(table: pa.Table) -> dict[str, int]:
    """zstd's level for each column of bodies of a table with `TRACE_SCHEMA`."""
    return {name: _level(table[name]) for name in BODIES}


def _level(bodies: pa.ChunkedArray) -> int:
    samples = [sample for chunk in bodies.chunks for sample in _samples(chunk, bodies.num_chunks)]
    if not samples:
        return _HIGHER
    lower = sum(_size(sample, _LOWER) for sample in samples)
    if lower < _DENSE * sum(sample.size for sample in samples):
        return _HIGHER
    return _LOWER if lower < sum(_size(sample, _HIGHER) for sample in samples) else _HIGHER


def _samples(bodies: pa.Array, chunks: int) -> list[pa.Buffer]:
    """Some of the bytes of all bodies one after the other, in pieces from evenly spaced places."""
    _, offsets, data = bodies.buffers()
    if data is None or not len(bodies):
        return []
    borders = np.frombuffer(offsets, np.int32)[bodies.offset : bodies.offset + len(bodies) + 1]
    begun, ended = int(borders[0]), int(borders[-1])
    size = min(_SAMPLE_BYTES, ended - begun)
    starts = np.linspace(begun, ended - size, max(1, _SAMPLES // chunks)).astype(int)
    return [data.slice(start, size) for start in np.unique(starts).tolist()] if size else []


def _size(sample: pa.Buffer, level: int) -> int:
    return len(pa.Codec("zstd", compression_level=level).compress(sample, asbytes=True))
