"""The columns of a trace that a profile is made of, as arrays of the rows that have a prompt.

Reads in batches and keeps some 60 bytes per request, plus hashes of the first prompts' beginnings. Nothing of
a text outlives its batch.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_reader import Trace
from replay.transform.prompt_blocks import BLOCK_BYTES, UInt64, chain_of, prompts_in

Int64 = npt.NDArray[np.int64]

MOST_PROMPTS: Final = 20_000
_MOST_BLOCKS: Final = 4096
_MOST_BLOCKS_HELD: Final = 4_000_000
_NO_PROMPT: Final = "requests whose prompt was not found (not JSON of a known kind, or no body)"
_SUFFIXES: Final = (
    ("/chat/completions", "chat"),
    ("/responses", "chat"),
    ("/api/chat", "chat"),
    ("/completions", "completions"),
    ("/api/generate", "completions"),
    ("/embeddings", "embeddings"),
    ("/messages", "messages"),
)
_TOKENS_A_BYTE: Final = 0.25
"""Where no answer states a count: English has some four bytes a token."""


@dataclasses.dataclass(frozen=True)
class ClassKey:
    """What makes requests alike."""

    kind: str
    model: str
    stream: bool


@dataclasses.dataclass(frozen=True)
class Rows:
    """Arrays of one length n, in arrival order; −1 stands for what isn't known.

    A prompt's length that no answer stated is estimated from its bytes; `estimated` counts those.
    `key_index` int64 points into `key_of`; `first_of` int64 is the row of the session's first turn, `follows`
    int64 that of the turn before (−1: a first turn). `chains` has the beginnings of the first prompts by row,
    `history_known` and `history_kept` bool say whether a later turn's prompt begins with the one before.
    """

    arrival_ns: Int64
    end_ns: Int64
    input_tokens: Int64
    output_tokens: Int64
    key_index: Int64
    key_of: tuple[ClassKey, ...]
    first_of: Int64
    follows: Int64
    prompt_bytes: Int64
    chains: dict[int, UInt64]
    history_known: npt.NDArray[np.bool_]
    history_kept: npt.NDArray[np.bool_]
    tokens_a_block: float
    estimated: int
    left_out: dict[str, int]
    span_ns: int


def read_rows(trace: Trace, on_rows: Callable[[int], None] = lambda _: None) -> Rows:
    """Read `trace`; rows without a prompt are left out, and counted. `on_rows` hears how many were read."""
    reading, read = _Reading(), 0
    columns = ["arrival_ns", "end_ns", "session_id", "method", "path", "model", "stream"]
    columns += ["input_tokens", "output_tokens", "request_headers", "request_body"]
    for batch in trace.iter_batches(columns):
        reading.take(batch.select(columns[:9]).to_pylist(), batch)
        read += batch.num_rows
        on_rows(read)
    return reading.rows(trace)


def kind_of(method: str, path: str) -> str | None:
    """What kind of request goes to `path`, one of `profile.PATHS`; None for what isn't known."""
    if method != "POST":
        return None
    path = path.partition("?")[0].rstrip("/")
    return next((kind for suffix, kind in _SUFFIXES if path.endswith(suffix)), None)


class _Reading:
    def __init__(self) -> None:
        self._numbers = array.array("q")  # seven a row
        self._sessions: dict[str, int] = {}
        self._keys: dict[ClassKey, int] = {}
        self._chains: dict[int, UInt64] = {}
        self._prompt_bytes = self._body_bytes = self._blocks = self._left_out = 0

    def take(self, light: list[dict[str, Any]], batch: pa.RecordBatch) -> None:
        """Take in a batch's rows; the prompts of the first ones are read, the others' sizes told by them."""
        sizes = pc.binary_length(batch.column(batch.schema.get_field_index("request_body"))).to_pylist()
        if len(self._chains) < MOST_PROMPTS and self._blocks < _MOST_BLOCKS_HELD:
            for row, body_bytes, prompt in zip(light, sizes, prompts_in(batch), strict=True):
                size = len(prompt.encode("utf-8", "surrogatepass"))
                if self._take_row(row, size):
                    chain = chain_of(prompt, _MOST_BLOCKS)
                    self._chains[len(self._numbers) // 7 - 1] = chain
                    self._blocks += len(chain)
                    self._prompt_bytes += size
                    self._body_bytes += body_bytes
            return
        share = self._prompt_bytes / max(self._body_bytes, 1)
        for row, body_bytes in zip(light, sizes, strict=True):
            self._take_row(row, round((body_bytes or 0) * share))

    def _take_row(self, row: dict[str, Any], size: int) -> bool:
        """Whether a row whose prompt has `size` bytes was taken."""
        kind = kind_of(row["method"], row["path"])
        if kind is None or not size:
            self._left_out += 1
            return False
        key = ClassKey(kind, row["model"] or "default", bool(row["stream"]))
        number = self._keys.setdefault(key, len(self._keys))
        at = len(self._numbers) // 7
        name = row["session_id"]
        session = at if name is None else self._sessions.setdefault(name, at)  # the row of its first turn
        end_ns, asked, answered = (
            -1 if row[column] is None else row[column]
            for column in ("end_ns", "input_tokens", "output_tokens")
        )
        self._numbers.extend((row["arrival_ns"], end_ns, asked, answered, number, size, session))
        return True

    def rows(self, trace: Trace) -> Rows:
        table = np.array(self._numbers, np.int64).reshape(-1, 7).T
        arrival, end, asked, answered, key, size, first_of = table
        follows = _before(first_of)
        stated = asked > 0
        tokens_a_byte = asked[stated].sum() / size[stated].sum() if stated.any() else _TOKENS_A_BYTE
        asked = np.where(stated, asked, np.maximum(1, np.rint(size * tokens_a_byte).astype(np.int64)))
        known, kept = self._history(follows)
        zero_ns = int(trace.arrival_ns[0])
        return Rows(
            arrival_ns=arrival - zero_ns,
            end_ns=np.where(end >= 0, end - zero_ns, -1),
            input_tokens=asked,
            output_tokens=answered,
            key_index=key,
            key_of=tuple(self._keys),
            first_of=first_of,
            follows=follows,
            prompt_bytes=size,
            chains=self._chains,
            history_known=known,
            history_kept=kept,
            tokens_a_block=float(tokens_a_byte) * BLOCK_BYTES,
            estimated=int((~stated).sum()),
            left_out={_NO_PROMPT: self._left_out} if self._left_out else {},
            span_ns=trace.span_ns,
        )

    def _history(self, follows: Int64) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """For each row: is it known whether its prompt begins with the one before, and does it."""
        known, kept = np.zeros(len(follows), np.bool_), np.zeros(len(follows), np.bool_)
        for row in np.flatnonzero(follows >= 0).tolist():
            before, now = self._chains.get(int(follows[row])), self._chains.get(row)
            if before is None or now is None or not len(before):
                continue
            known[row] = True
            kept[row] = len(now) >= len(before) and now[len(before) - 1] == before[-1]
        return known, kept


def _before(first_of: Int64) -> Int64:
    """For each row the row before it in its session, −1 for a first turn."""
    order = np.argsort(first_of, kind="stable")
    follows = np.full(len(first_of), -1, np.int64)
    same = first_of[order][1:] == first_of[order][:-1]
    follows[order[1:][same]] = order[:-1][same]
    return follows
