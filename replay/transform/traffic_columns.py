"""A trace's light columns as arrays, read in one pass, with tallies and the first prompts' blocks.

Some 20 bytes per request are kept, 36 where there are sessions; bodies are measured and let go.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_format import COMPLETE
from capture.trace_reader import Trace
from capture.trace_stream import stream_batches
from replay.transform.draws import lone_session
from replay.transform.prompt_blocks import UInt64, chain_of, prompts_in

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

MOST_PROMPTS: Final = 20_000
MOST_BLOCKS: Final = 4_000_000
NEVER_SEEN: Final = "never seen"
"""Stands among outcomes for answers of which the source knows nothing but their length."""
_MOST_NAMES: Final = 10_000
_REST: Final = "(others)"
_LIGHT: Final = (
    *("session_id", "method", "path", "model", "outcome", "status", "stream"),
    *("input_tokens", "output_tokens", "arrival_ns", "first_byte_ns", "end_ns"),
)


@dataclasses.dataclass(frozen=True)
class TrafficColumns:
    """Arrays of one length, in arrival order; −1 stands for what isn't known.

    `arrival_ns` counts from the first arrival; `numbers` has a number per session (a row without an id is one
    of its own), None where no row has an id; then `end_ns` is not read either. `tally` counts values by what
    they are of: endpoint, model, outcome, status. `chains` holds the block hashes of the first prompts, by
    row.
    """

    arrival_ns: Int64
    end_ns: Int64
    numbers: Int64 | None
    input_tokens: Int32
    output_tokens: Int32
    body_bytes: Int32
    tally: Mapping[str, collections.Counter[str]]
    streams: int
    ended_early: int
    chains: dict[int, UInt64]

    @property
    def session(self) -> Int64:
        """A number per session, int64[n]."""
        return lone_session(np.arange(len(self.arrival_ns))) if self.numbers is None else self.numbers


def read_columns(trace: Trace, on_rows: Callable[[int], None] = lambda _: None) -> TrafficColumns:
    """Read `trace`; `on_rows` hears how many rows are done."""
    reading = _Reading(trace)
    for batch in stream_batches(trace, [*_LIGHT, "request_headers", "request_body"]):
        reading.take(batch)
        on_rows(reading.rows)
    return reading.columns()


class _Reading:
    def __init__(self, trace: Trace) -> None:
        self.rows = 0
        n = trace.rows
        self._arrival_ns = np.empty(n, np.int64)
        self._kept: dict[str, npt.NDArray[Any]] = {"body_bytes": np.empty(n, np.int32)}
        self._has_sessions = trace.has_any("session_id")
        if self._has_sessions:
            self._kept |= {"end_ns": np.empty(n, np.int64), "numbers": np.empty(n, np.int64)}
        for name in ("input_tokens", "output_tokens"):
            if trace.has_any(name):
                self._kept[name] = np.empty(n, np.int32)
        self._tally: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self._streams = self._ended_early = self._blocks = 0
        self._chains: dict[int, UInt64] = {}

    def take(self, batch: pa.RecordBatch) -> None:
        column = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        self._count(column)
        here = slice(self.rows, self.rows + batch.num_rows)
        self._arrival_ns[here] = column["arrival_ns"].to_numpy()
        for name in self._kept.keys() - {"body_bytes", "numbers"}:
            self._kept[name][here] = column[name].fill_null(-1).to_numpy(zero_copy_only=False)
        sizes = pc.binary_length(column["request_body"]).fill_null(-1)
        self._kept["body_bytes"][here] = sizes.to_numpy(zero_copy_only=False)
        if self._has_sessions:
            self._kept["numbers"][here] = self._numbered(column["session_id"])
        early = pc.or_kleene(
            pc.less(column["end_ns"], column["arrival_ns"]),
            pc.less(column["first_byte_ns"], column["arrival_ns"]),
        )
        self._ended_early += pc.sum(early).as_py() or 0
        self._streams += pc.sum(column["stream"]).as_py() or 0
        if len(self._chains) < MOST_PROMPTS and self._blocks < MOST_BLOCKS:
            self._chain(batch)
        self.rows += batch.num_rows

    def _count(self, column: Mapping[str, pa.Array]) -> None:
        path = pc.replace_substring_regex(column["path"], r"\?.*", "")
        endpoint = pc.binary_join_element_wise(column["method"], path, " ")
        # Importers of lengths call requests complete that their source lists as served; no answer was seen.
        unseen = pc.and_(pc.equal(column["outcome"], COMPLETE), pc.is_null(column["status"]))
        named = {
            "endpoint": endpoint,
            "model": column["model"].fill_null("(none)"),
            "outcome": pc.if_else(unseen, NEVER_SEEN, column["outcome"]),
            "status": column["status"].cast(pa.string()).fill_null("none"),
        }
        for what, values in named.items():
            counter = self._tally[what]
            for found in pc.value_counts(values).to_pylist():
                name = found["values"] or "(none)"
                full = name not in counter and len(counter) >= _MOST_NAMES
                counter[_REST if full else name] += found["counts"]

    def _numbered(self, names: pa.Array) -> Int64:
        """A number per session: a hash of its name, so that no name is kept; of the row where it has none."""
        alone = lone_session(self.rows + np.arange(len(names), dtype=np.int64))
        if names.null_count == len(names):
            return alone
        encoded = names.dictionary_encode()
        hashes = np.array([hash(name) for name in encoded.dictionary.to_pylist()], np.int64)
        known = names.is_valid().to_numpy(zero_copy_only=False)
        return np.where(known, hashes[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)], alone)

    def _chain(self, batch: pa.RecordBatch) -> None:
        for row, prompt in enumerate(prompts_in(batch), start=self.rows):
            chain = chain_of(prompt)
            self._blocks += len(chain)
            if len(self._chains) >= MOST_PROMPTS or self._blocks > MOST_BLOCKS:
                return
            self._chains[row] = chain

    def columns(self) -> TrafficColumns:
        zero_ns = int(self._arrival_ns[0])
        self._arrival_ns -= zero_ns
        nothing: Int32 = np.broadcast_to(np.int32(-1), self.rows)
        end_ns = self._kept.get("end_ns", np.broadcast_to(np.int64(-1), self.rows))
        if self._has_sessions:
            np.subtract(end_ns, zero_ns, out=end_ns, where=end_ns >= 0)
        return TrafficColumns(
            arrival_ns=self._arrival_ns,
            end_ns=end_ns,
            numbers=self._kept.get("numbers"),
            input_tokens=self._kept.get("input_tokens", nothing),
            output_tokens=self._kept.get("output_tokens", nothing),
            body_bytes=self._kept["body_bytes"],
            tally=self._tally,
            streams=self._streams,
            ended_early=self._ended_early,
            chains=self._chains,
        )
