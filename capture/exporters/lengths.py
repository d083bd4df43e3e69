"""Traces → lengths and prefix blocks: Mooncake's JSON lines, and GuideLLM's, which are alike but in seconds.

Formats: github.com/kvcache-ai/Mooncake, FAST25-release/traces (timestamp in ms); GuideLLM 0.8, data kind
"mooncake" (timestamp and duration in seconds).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TextIO

from capture.exporters.export_file import ExportFormat, Losses, Row
from capture.exporters.prefix_blocks import BlockIds, words_of
from capture.trace_format import TraceMetadata

HELD: Final = frozenset({"arrival_ns", "input_tokens", "output_tokens"})
_APPROXIMATE: Final = (
    "hash_ids tell which prompts share a beginning; a block's borders are estimates by words"
)
NO_COUNTS: Final = "requests without token counts"


def mooncake(tokens_a_word: float) -> ExportFormat:
    """Mooncake's format; `tokens_a_word` as `prefix_blocks` finds it."""
    return ExportFormat("Mooncake", HELD, _writer(tokens_a_word, in_seconds=False), _notes(tokens_a_word))


def guidellm(tokens_a_word: float) -> ExportFormat:
    """GuideLLM's trace input; its reader makes the prompts anew, by lengths and blocks."""
    held = HELD | {"end_ns"}
    return ExportFormat("GuideLLM", held, _writer(tokens_a_word, in_seconds=True), _notes(tokens_a_word))


def _notes(tokens_a_word: float) -> tuple[str, ...]:
    return () if tokens_a_word == 1.0 else (_APPROXIMATE,)


def _writer(tokens_a_word: float, *, in_seconds: bool) -> Any:
    def write(file: TextIO, rows: Iterator[Row], _: TraceMetadata, losses: Losses) -> int:
        ids, zero_ns, written = BlockIds(tokens_a_word), None, 0
        for row in rows:
            if row["input_tokens"] is None or row["output_tokens"] is None:
                losses.left_out[NO_COUNTS] += 1
                continue
            zero_ns = row["arrival_ns"] if zero_ns is None else zero_ns
            line = {
                "timestamp": instant(row["arrival_ns"] - zero_ns, 1_000_000_000 if in_seconds else 1_000_000),
                "input_length": row["input_tokens"],
                "output_length": row["output_tokens"],
                "hash_ids": ids.of(words_of(row), row["input_tokens"], row["request_id"]),
            }
            if in_seconds and row["end_ns"] is not None:
                line["duration"] = max(0, row["end_ns"] - row["arrival_ns"]) / 1e9
            file.write(json.dumps(line) + "\n")
            written += 1
        return written

    return write


def instant(offset_ns: int, unit_ns: int) -> int | float:
    """The offset in units: whole ones as an integer, as the public traces have it."""
    return offset_ns // unit_ns if offset_ns % unit_ns == 0 else offset_ns / unit_ns
