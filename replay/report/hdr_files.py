"""HdrHistogram's two files: the percentile table (`.hgrm`) and the interval log with V2 payloads.

As the reference implementation (HdrHistogram 2.x) writes and reads them, so that its plotter, its log
analyser and its `HistogramLogProcessor` open them. What is counted is decided in `analysis.hdr_histogram`.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from replay.analysis.hdr_histogram import SIGNIFICANT_DIGITS, SUB_BUCKETS, HdrHistogram

NS_PER_MS: Final = 1e6
LOG_FORMAT: Final = "1.3"
"""The first version of the log with tags."""

_V2_COOKIE: Final = 0x1C849303 | 0x10
_V2_COMPRESSED_COOKIE: Final = 0x1C849304 | 0x10


@dataclasses.dataclass(frozen=True)
class LoggedInterval:
    """One line of a log: a histogram of ns, its tag, and when it was, in seconds from the start time."""

    tag: str
    start_s: float
    length_s: float
    histogram: HdrHistogram


def percentile_table(histogram: HdrHistogram) -> Iterator[str]:
    """The lines of a `.hgrm` file, values in ms, as `outputPercentileDistribution` prints them."""
    yield f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n\n"
    for value_ns, level, total in histogram.percentiles():
        line = f"{value_ns / NS_PER_MS:12.3f} {level:2.12f} {total:10d}"
        yield f"{line}\n" if level == 1.0 else f"{line} {1 / (1 - level):14.2f}\n"
    mean, deviation = histogram.mean_ns / NS_PER_MS, histogram.deviation_ns / NS_PER_MS
    yield f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]\n"
    yield f"#[Max     = {histogram.max_ns / NS_PER_MS:12.3f}, Total count    = {histogram.total:12d}]\n"
    yield f"#[Buckets = {histogram.bucket_count:12d}, SubBuckets     = {SUB_BUCKETS:12d}]\n"


def interval_log(
    intervals: Iterable[LoggedInterval], start_epoch_ns: int, comments: Iterable[str]
) -> Iterator[str]:
    """The lines of an interval log; `start_epoch_ns` is the wall clock of second 0."""
    start_s = start_epoch_ns / 1e9
    said = datetime.datetime.fromtimestamp(start_s, datetime.UTC).isoformat(" ", "milliseconds")
    yield from (f"#[{comment}]\n" for comment in comments)
    yield f"#[Histogram log format version {LOG_FORMAT}]\n"
    yield f"#[BaseTime: {start_s:.3f} (seconds since epoch)]\n"
    yield f"#[StartTime: {start_s:.3f} (seconds since epoch), {said}]\n"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    for one in intervals:
        largest = one.histogram.max_ns / NS_PER_MS
        yield (
            f"Tag={one.tag},{one.start_s:.3f},{one.length_s:.3f},{largest:.3f},"
            f"{encode_v2(one.histogram).decode()}\n"
        )


def tag_of(*parts: str) -> str:
    """A tag without what a log's lines are cut at: commas, spaces, line ends."""
    return ":".join("_".join(part.replace(",", "_").split()) for part in parts)


def encode_v2(histogram: HdrHistogram) -> bytes:
    """The compressed V2 encoding in base64: header, counts as ZigZag LEB128, runs of zeros as one number.

    After `AbstractHistogram.encodeIntoCompressedByteBuffer`.
    """
    counts = b"".join(map(_zigzag, _with_runs(histogram)))
    header = struct.pack(
        ">IIIIqqd",
        _V2_COOKIE,
        len(counts),
        0,  # no normalising offset: values were not shifted
        SIGNIFICANT_DIGITS,
        1,
        histogram.highest_trackable_ns,
        1.0,
    )
    packed = zlib.compress(header + counts)
    return base64.b64encode(struct.pack(">II", _V2_COMPRESSED_COOKIE, len(packed)) + packed)


def _with_runs(histogram: HdrHistogram) -> Iterator[int]:
    """The counts in order, two zeros or more in a row as their number, negative."""
    zeros = np.diff(histogram.index, prepend=-1) - 1
    for run, count in zip(zeros.tolist(), histogram.count.tolist(), strict=True):
        if run:
            yield -run if run > 1 else 0
        yield count


def _zigzag(value: int) -> bytes:
    """LEB128-64b9B of a ZigZag number: seven bits a byte, the lowest first, and all eight of a ninth."""
    left = (value << 1) ^ (value >> 63)
    coded = bytearray()
    while left > 0x7F and len(coded) < 8:
        coded.append(left & 0x7F | 0x80)
        left >>= 7
    coded.append(left)
    return bytes(coded)
