"""A run's columns as numpy arrays: the form in which every figure is computed.

Here a Parquet table becomes arrays, once, and nothing else: no latency, no grouping, no judgement.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from replay.engine.run_format import RunMetadata
from replay.engine.scrape_format import Scraped

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


COLUMNS: Final = (
    *("request_id", "copy", "session", "phase", "endpoint", "model", "stream"),
    *("due_ns", "connected_ns", "sent_ns", "first_byte_ns", "first_token_ns", "end_ns"),
    *("chunk_ns", "chunk_tokens", "status", "error", "bytes_out", "input_tokens", "output_tokens"),
    *("finish_reason", "retry_after_s", "in_flight", "worker", "connection_reused"),
)
"""The columns of a run that figures are computed from: what else a run holds need not be read for them."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """A column of few distinct texts: `codes` int64 into `names`, −1 where the text is missing."""

    codes: Ints
    names: tuple[str, ...]

    def mask(self, name: str) -> Bools:
        """Which rows carry `name`, bool of the column's length."""
        if name not in self.names:
            return np.zeros(len(self.codes), dtype=np.bool_)
        return np.asarray(self.codes == self.names.index(name))


@dataclasses.dataclass(frozen=True)
class RunTable:
    """Arrays of one length, a row per scheduled request, in the run's order.

    Instants are float64 ns from the run's zero (exact up to 104 days) and counts are float64, both NaN where
    the run holds none. `due_ns` is never NaN: in a run whose tool stated no due instants (`due_stated`) it is
    the sent instant, which orders requests and lays them out in time, and is no due instant. `status` is
    int64, 0 for no answer, or for one whose status another tool did not state. What such a tool does not say
    of connections, bytes and requests in flight is false or 0: see `connection_known`. The reads of row i are
    `chunk_ns[chunk_at[i]:chunk_at[i + 1]]` (int64 ns), with `chunk_tokens` (int32) beside.
    """

    metadata: RunMetadata
    request_key: pa.Array
    session: Ints
    copy: Ints
    endpoint: Labels
    model: Labels
    phase: Labels
    error: Labels
    stream: Bools
    due_ns: Floats
    connected_ns: Floats
    sent_ns: Floats
    first_byte_ns: Floats
    first_token_ns: Floats
    end_ns: Floats
    status: Ints
    input_tokens: Floats
    output_tokens: Floats
    finish_reason: Labels
    retry_after_s: Floats
    bytes_out: Ints
    connection_reused: Bools
    in_flight: Ints
    worker: Ints
    chunk_at: Ints
    chunk_ns: Ints
    chunk_tokens: npt.NDArray[np.int32]
    due_stated: bool = True
    connection_known: bool = True
    """Whether the run says of each request if its connection was used before."""
    scraped: Scraped | None = None
    """What the server said of itself meanwhile."""

    def __len__(self) -> int:
        return len(self.due_ns)

    @classmethod
    def of(cls, table: pa.Table, metadata: RunMetadata) -> Self:
        """Views and copies of the columns of a table with `COLUMNS` of `RUN_SCHEMA`, or all of them."""
        chunk_at, chunk_ns = _ragged(table, "chunk_ns")
        _, chunk_tokens = _ragged(table, "chunk_tokens")
        sent_ns, due_ns = _floats(table, "sent_ns"), _floats(table, "due_ns")
        due_stated = not metadata.made_by or bool(len(due_ns) and not np.isnan(due_ns).any())
        return cls(
            metadata=metadata,
            request_key=pc.binary_join_element_wise(
                _column(table, "request_id"), _column(table, "copy").cast(pa.string()), "\x1f"
            ),
            session=_ints(table, "session"),
            copy=_ints(table, "copy"),
            endpoint=_labels(table, "endpoint"),
            model=_labels(table, "model"),
            phase=_labels(table, "phase"),
            error=_labels(table, "error"),
            stream=_bools(table, "stream"),
            due_ns=due_ns if due_stated else sent_ns,
            connected_ns=_floats(table, "connected_ns"),
            sent_ns=sent_ns,
            first_byte_ns=_floats(table, "first_byte_ns"),
            first_token_ns=_floats(table, "first_token_ns"),
            end_ns=_floats(table, "end_ns"),
            status=_ints(table, "status"),
            input_tokens=_floats(table, "input_tokens"),
            output_tokens=_floats(table, "output_tokens"),
            finish_reason=_labels(table, "finish_reason"),
            retry_after_s=_floats(table, "retry_after_s"),
            bytes_out=_ints(table, "bytes_out"),
            connection_reused=_bools(table, "connection_reused"),
            in_flight=_ints(table, "in_flight"),
            worker=_ints(table, "worker"),
            chunk_at=chunk_at,
            chunk_ns=chunk_ns,
            chunk_tokens=chunk_tokens,
            due_stated=due_stated,
            connection_known=table.column("connection_reused").null_count == 0,
        )

    @property
    def sent(self) -> Bools:
        """Which requests left the sender, bool per row."""
        return ~np.isnan(self.sent_ns)

    @property
    def ok(self) -> Bools:
        """Which requests were answered whole, without error, with a status of 2xx or 304; bool per row.

        A redirect is no answer: whoever follows it waits longer. Of a run by another tool, an answer whose
        status is not stated counts by its error alone.
        """
        good = ((self.status >= 200) & (self.status < 300)) | (self.status == 304)
        if self.metadata.made_by:
            good |= self.status == 0
        return np.asarray((self.error.codes < 0) & good & ~np.isnan(self.end_ns))

    @property
    def aborted(self) -> Bools:
        """Which requests ended by a hang-up that was recorded and happened again, bool per row."""
        return self.error.mask("aborted")

    @property
    def failed(self) -> Bools:
        """Which requests the target failed: neither ok nor hung up on by their own client; bool per row."""
        return ~self.ok & ~self.aborted

    @property
    def lateness_ns(self) -> Floats:
        """sent − due per row, float64 ns, against the absolute schedule; NaN where nothing was sent, or where
        the run states no due instants."""
        return self.sent_ns - self.due_ns if self.due_stated else np.full(len(self), np.nan)


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [_empty(column)])


def _empty(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([], type=column.type)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(_column(table, name).to_numpy(zero_copy_only=False), dtype=np.float64)


def _ints(table: pa.Table, name: str) -> Ints:
    filled = _column(table, name).fill_null(0)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)


def _bools(table: pa.Table, name: str) -> Bools:
    filled = _column(table, name).fill_null(False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _labels(table: pa.Table, name: str) -> Labels:
    encoded = _column(table, name).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(codes, tuple(encoded.dictionary.to_pylist()))


def _ragged(table: pa.Table, name: str) -> tuple[Ints, npt.NDArray[Any]]:
    """Where each row's list begins (int64, one more than rows), and all lists' values, as in the file."""
    column = _column(table, name)
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    return offsets, column.flatten().to_numpy(zero_copy_only=False)
