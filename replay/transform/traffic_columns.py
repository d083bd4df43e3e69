"""A trace's light columns as arrays, read in one pass, with tallies and the first prompts' blocks.

Some 8 bytes per request are kept; of sessions and lengths a bounded sample. Bodies are measured and let go.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from capture.trace_format import COMPLETE
from capture.trace_reader import Trace
from capture.trace_stream import stream_batches
from replay.transform.content_facts import LENGTHS
from replay.transform.even_sample import EvenSample
from replay.transform.prompt_blocks import UInt64, chain_of, prompts_in
from replay.transform.session_sample import SessionSample
from replay.transform.sessions import number_sessions

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

    `arrival_ns` counts from the first arrival. `sessions` holds requests of sessions (a row without an id is
    one of its own), None where no row has an id. `lengths` are told of all rows, by the names in `LENGTHS`;
    `of_rows` (int32[k] each) of the k rows asked for, where they are known of any. `tally` counts values by
    what they are of: endpoint, model, outcome, status. `chains` holds the block hashes of
    the first prompts, by row.
    """

    arrival_ns: Int64
    sessions: SessionSample | None
    lengths: Mapping[str, EvenSample]
    of_rows: Mapping[str, Int32]
    rows_with_usage: int
    tally: Mapping[str, collections.Counter[str]]
    streams: int
    ended_early: int
    chains: dict[int, UInt64]


def read_columns(
    trace: Trace, on_rows: Callable[[int], None] = lambda _: None, rows: Int64 | None = None
) -> TrafficColumns:
    """Read `trace`; `on_rows` hears how many rows are done.

    `rows` (int64[k], ascending) are those whose lengths are asked for one by one.
    """
    reading = _Reading(trace, np.empty(0, np.int64) if rows is None else rows)
    for batch in stream_batches(trace, [*_LIGHT, "request_headers", "request_body"]):
        reading.take(batch)
        on_rows(reading.rows)
    return reading.columns()


class _Reading:
    def __init__(self, trace: Trace, wanted: Int64) -> None:
        self.rows = 0
        self._wanted = wanted
        n = trace.rows
        self._arrival_ns = np.empty(n, np.int64)
        self._sessions = SessionSample() if trace.has_any("session_id") else None
        self._lengths = {name: EvenSample() for name in LENGTHS}
        self._counted = [name for name in ("input_tokens", "output_tokens") if trace.has_any(name)]
        known = (*self._counted, "body_bytes") if len(wanted) else ()
        self._of_rows = {name: np.full(len(wanted), -1, np.int32) for name in known}
        self._with_usage = 0
        self._tally: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self._streams = self._ended_early = self._blocks = 0
        self._chains: dict[int, UInt64] = {}

    def take(self, batch: pa.RecordBatch) -> None:
        column = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        self._count(column)
        here = slice(self.rows, self.rows + batch.num_rows)
        self._arrival_ns[here] = column["arrival_ns"].to_numpy()
        if self._sessions is not None:
            self._follow(self._sessions, column, here)
        self._measure(column, here)
        early = pc.or_kleene(
            pc.less(column["end_ns"], column["arrival_ns"]),
            pc.less(column["first_byte_ns"], column["arrival_ns"]),
        )
        self._ended_early += pc.sum(early).as_py() or 0
        self._streams += pc.sum(column["stream"]).as_py() or 0
        if len(self._chains) < MOST_PROMPTS and self._blocks < MOST_BLOCKS:
            self._chain(batch)
        self.rows += batch.num_rows

    def _measure(self, column: Mapping[str, pa.Array], here: slice) -> None:
        found = {name: column[name] for name in self._counted}
        found["body_bytes"] = pc.binary_length(column["request_body"])
        used = np.zeros(here.stop - here.start, np.bool_)
        some = slice(*np.searchsorted(self._wanted, (here.start, here.stop)).tolist())
        for name, known in found.items():
            values = known.fill_null(-1).to_numpy(zero_copy_only=False)
            self._lengths[name].add(values)
            if name in self._counted:
                used |= values >= 0
            if self._of_rows:
                self._of_rows[name][some] = values[self._wanted[some] - here.start]
        self._with_usage += int(used.sum())

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

    def _follow(self, sessions: SessionSample, column: Mapping[str, pa.Array], here: slice) -> None:
        numbers = number_sessions(column["session_id"], here.start)
        zero_ns = self._arrival_ns[0]
        end_ns = column["end_ns"].fill_null(-1).to_numpy(zero_copy_only=False)
        sessions.add(numbers, self._arrival_ns[here] - zero_ns, np.where(end_ns >= 0, end_ns - zero_ns, -1))

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
        return TrafficColumns(
            arrival_ns=self._arrival_ns,
            sessions=self._sessions,
            lengths=self._lengths,
            of_rows=self._of_rows,
            rows_with_usage=self._with_usage,
            tally=self._tally,
            streams=self._streams,
            ended_early=self._ended_early,
            chains=self._chains,
        )
