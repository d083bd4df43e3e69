"""Which prompts begin alike: prompts as chains of block hashes.

A block is 64 bytes of a prompt's text (some 16 tokens of English, as vLLM's cache has it); its hash covers
all blocks before it, so equal hashes mean equal beginnings. Hashes are of one process's making and are stored
nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from capture.exporters.prefix_blocks import prompt_of
from capture.trace_reader import Trace
from replay.transform.draws import GOLDEN_GAMMA, mix

UInt64 = npt.NDArray[np.uint64]

BLOCK_BYTES: Final = 64
COLUMNS: Final = ("request_headers", "request_body")
_WORDS: Final = BLOCK_BYTES // 8
_AT_ONCE: Final = 500

type Rewrite = Callable[[Mapping[str, Any], Mapping[str, int]], Mapping[str, Any]]
"""A trace row and its place in a schedule → the row as it is sent."""


def chain_of(text: str, most_blocks: int | None = None) -> UInt64:
    """One hash per whole block of `text`, uint64, each of the text up to its block's end.

    Each 8 bytes and their place are mixed as `draws` does; a block's hash is the sum up to its end.
    """
    raw = text.encode("utf-8", "surrogatepass")
    blocks = len(raw) // BLOCK_BYTES
    if most_blocks is not None:
        blocks = min(blocks, most_blocks)
    words = np.frombuffer(raw, "<u8", blocks * _WORDS)
    place = np.arange(1, len(words) + 1, dtype=np.uint64) * GOLDEN_GAMMA
    mixed = mix(words ^ mix(place)).reshape(blocks, _WORDS)
    return np.cumsum(mixed.sum(axis=1, dtype=np.uint64), dtype=np.uint64)


def prompts_in(batch: pa.RecordBatch) -> Iterator[str]:
    """The prompt of each row of a batch that has `COLUMNS`, "" where there is none."""
    bodies = batch.column(batch.schema.get_field_index("request_body"))
    headers = batch.column(batch.schema.get_field_index("request_headers")).to_pylist()
    for row in range(batch.num_rows):
        yield prompt_of(bodies[row].as_py(), _encoding(headers[row]))


def chains_of(trace: Trace, rows: Iterable[int], most_blocks: int) -> dict[int, UInt64]:
    """The chains of `rows` (ascending), until they hold `most_blocks` together."""
    wanted = np.fromiter(rows, np.int64)
    found: dict[int, UInt64] = {}
    held = 0
    for start in range(0, len(wanted), _AT_ONCE):
        numbers = wanted[start : start + _AT_ONCE]
        for row, text in zip(numbers.tolist(), prompts_in(trace.take(numbers, COLUMNS)), strict=True):
            found[row] = chain_of(text)
            held += len(found[row])
            if held > most_blocks:
                return found
    return found


def chains_as_sent(
    trace: Trace, rows: Sequence[int], places: Sequence[Mapping[str, int]], rewrite: Rewrite, most_blocks: int
) -> Iterator[UInt64]:
    """The chains of requests as `rewrite` has them sent, until they hold `most_blocks` together.

    `places` has the schedule's values of each request, `rows` its trace row.
    """
    held = 0
    columns = (*COLUMNS, "request_id", "path", "model", "input_tokens")
    for start in range(0, len(rows), _AT_ONCE):
        batch = trace.take(np.array(rows[start : start + _AT_ONCE], np.int64), columns)
        for row, place in zip(batch.to_pylist(), places[start : start + _AT_ONCE], strict=True):
            row["request_headers"] = [(pair["name"], pair["value"]) for pair in row["request_headers"]]
            sent = rewrite(row, place)
            headers = dict(sent["request_headers"])
            encoding = next((headers[name] for name in headers if name.lower() == "content-encoding"), None)
            chain = chain_of(prompt_of(sent["request_body"], encoding))
            held += len(chain)
            if held > most_blocks:
                return
            yield chain


def _encoding(headers: list[dict[str, Any]]) -> str | None:
    return next((pair["value"] for pair in headers if pair["name"].lower() == "content-encoding"), None)
