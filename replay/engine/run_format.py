"""The Run: what did happen, one row per *scheduled* request, sent or not; its schema, metadata and file.

Raw instants only: nothing that can be derived is stored. All `*_ns` are int64 offsets from the run's
monotonic zero, which is the instant that `due_ns` = 0 stands for.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput, first_line
from capture.footers import footer_of, read_footer
from capture.trace_format import other_kind
from replay.engine.sealed_stream import open_stream, starts_sealed

FORMAT_VERSION: Final = 1
METADATA_KEY: Final = b"peaktape.run"

ERRORS: Final = (
    "dns",  # the target's name did not resolve
    "connect_refused",
    "connect_timeout",
    "connect_failed",  # any other failure to connect
    "tls",
    "out_of_files",  # this machine had no file descriptor left for a connection
    "out_of_ports",  # … or no local port
    "reset",  # the connection broke before the response was whole
    "timeout",  # the response was not whole within the total timeout
    "protocol",  # the response is not HTTP
    "stream_error",  # the response is whole, but its events say that the server failed
    "aborted",  # the client hung up, as it did in production: no failure of the target
    "interrupted",  # the replay was stopped while it was under way
    "not_sent",  # the replay was stopped before it was due, or its predecessor never ended
    "lost",  # the worker that held it died
    "unstated",  # it failed, and the tool that made the run (see `made_by`) does not say how
)
"""The closed vocabulary of `error`; null is none. A status of 400 or more is no `error`: see `status`."""

OPEN: Final = "open"
PARTLY_OPEN: Final = "partly open"
CLOSED: Final = "closed"
UNSTATED: Final = "unstated"
"""Modes of a run: every request by the clock; or first turns so, and later ones after their predecessor. Of a
run that another tool made also: a fixed number in flight; or not known."""

DROP: Final = "drop"
HASH: Final = "hash"
KEEP: Final = "keep"
BODIES: Final = (DROP, HASH, KEEP)
"""What a run keeps of the answers' bodies: nothing, their SHA-256, or that and all their bytes."""

RUN_SCHEMA: Final = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("copy", pa.int32(), nullable=False),
        pa.field("session", pa.int64(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        # "METHOD /path" without query: what results are grouped by.
        pa.field("endpoint", pa.string(), nullable=False),
        pa.field("model", pa.string()),
        pa.field("stream", pa.bool_(), nullable=False),
        pa.field("due_ns", pa.int64()),  # see `UNKNOWN_TO_OTHERS`
        pa.field("dequeued_ns", pa.int64()),  # taken up by the sender, ahead of its due instant
        pa.field("connected_ns", pa.int64()),  # a connection was in hand
        pa.field("sent_ns", pa.int64()),  # first byte handed to the kernel
        # This and what follows: when the kernel took the bytes in, of a TCP connection without TLS on Linux;
        # else when they were read.
        pa.field("first_byte_ns", pa.int64()),
        pa.field("first_token_ns", pa.int64()),  # the read that held the first generated content
        pa.field("chunk_ns", pa.list_(pa.int64()), nullable=False),  # reads that held body bytes
        pa.field("chunk_bytes", pa.list_(pa.int32()), nullable=False),
        pa.field("chunk_tokens", pa.list_(pa.int32()), nullable=False),  # content-bearing events per read
        pa.field("end_ns", pa.int64()),
        pa.field("status", pa.int32()),
        pa.field("error", pa.string()),
        pa.field("error_text", pa.string()),
        pa.field("bytes_out", pa.int64()),
        pa.field("bytes_in", pa.int64()),
        pa.field("input_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("finish_reason", pa.string()),
        # How long the answer asked to wait. Null where it didn't, and in runs made before it was kept.
        pa.field("retry_after_s", pa.float64()),
        pa.field("in_flight", pa.int32()),  # of this worker, when it was sent
        pa.field("worker", pa.int32()),
        pa.field("connection_reused", pa.bool_()),
        # Of the answer as received, still content-encoded: see `BODIES`. Null where there was no answer.
        pa.field("body_sha256", pa.binary(32)),
        pa.field("body", pa.binary()),
    ]
)

_READS: Final = ("chunk_ns", "chunk_bytes", "chunk_tokens")

UNKNOWN_TO_OTHERS: Final = ("due_ns", "bytes_out", "bytes_in", "in_flight", "worker", "connection_reused")
"""Null in a run that another tool made, where that tool does not say; never null in one of `replay`."""


@dataclasses.dataclass(frozen=True)
class RunMetadata:
    """What a run file says of itself.

    `workers` holds per worker: `cpu_s`, `wall_s`, `loop_lag_ns` samples, `gc_pause_ns`; `bounds` are the
    validity bounds the user stated, empty for the defaults. `partial` is true when the replay was stopped.
    `wall_step_ns` is how far the wall clock was set during the run, against the monotonic one. `made_by` is
    the tool that made the run, "" for `replay`; `notes` say what is missing in it, or to be known of it.
    """

    label: str
    target: str
    zero_monotonic_ns: int
    zero_wall_ns: int
    trace_fingerprint: str
    schedule_fingerprint: str
    steps: tuple[str, ...]
    scheduled: int
    mode: str = OPEN
    sender: str = "session"
    sender_reason: str = ""
    partial: bool = False
    workers: tuple[Mapping[str, Any], ...] = ()
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    in_flight_limit: int | None = None
    bodies: str = DROP
    wall_step_ns: int = 0
    longest_write_s: float = 0.0
    host: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = ()
    made_by: str = ""
    notes: tuple[str, ...] = ()
    tool_version: str = ""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> bytes:
        """The UTF-8 JSON that stands under `METADATA_KEY` in the Parquet footer."""
        return footer_of(self)


def partial_of(path: Path) -> Path:
    """Where the rows of a replay are until its run stands at `path`; it stays when the replay is killed."""
    return path.with_name(path.name + ".partial")


def read_run(
    path: Path, keys: Keys | None = None, *, bodies: bool = True, columns: Collection[str] | None = None
) -> tuple[pa.Table, RunMetadata]:
    """A run's table (`RUN_SCHEMA`) and its metadata, decrypted with `keys` if it is encrypted.

    Raises `BadInput` for anything else, `KeyRefused` when the key is missing or wrong.

    Nullable columns that a run of an earlier version lacks come back as nulls; without `bodies`, so does
    `body`, which is not read then. With `columns`, the table holds these of the schema and no other is read.
    What a killed replay left (`partial_of`) reads as far as it goes, as a partial run.
    """
    wanted = pa.schema([field for field in RUN_SCHEMA if columns is None or field.name in columns])
    if not path.exists() and partial_of(path).exists():
        raise BadInput(f"{path}: not there, its replay was killed; read what it left: {partial_of(path)}")
    try:
        partial = _is_stream(path)
        names = [name for name in wanted.names if bodies or name != "body"]
        table, footer = _read_stream(path, names, keys) if partial else _read_file(path, names, keys)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{path}: not a readable run ({first_line(error)}); make one with `peaktape replay`"
        ) from error
    raw = (footer or {}).get(METADATA_KEY)
    if raw is None:
        found = f"{other_kind(footer) or 'no metadata of peaktape'} found"
        raise BadInput(f"{path}: {found}, a run wanted; make one with `peaktape replay`")
    table = _whole(table, wanted, path)
    metadata = _parse_metadata(raw, path)
    return table, dataclasses.replace(metadata, partial=True) if partial else metadata


def read_metadata(path: Path, keys: Keys | None = None) -> RunMetadata | None:
    """What a run file at `path` says of itself, its rows left unread; None where there is no run file.

    A killed replay's leftovers are none: see `read_run`. Raises `BadInput` for metadata that can't be read,
    `KeyRefused` for an encrypted file that `keys` don't open: what it is can't be told.
    """
    try:
        with open_parquet(path, keys) as file:
            raw = (file.metadata.metadata or {}).get(METADATA_KEY)
    except (OSError, pa.ArrowException):
        return None
    return None if raw is None else _parse_metadata(raw, path)


def is_run(path: Path, keys: Keys | None = None) -> bool:
    """Whether `path` is a run file, what a killed replay left of one, or where its run would be.

    Raises as `read_metadata`.
    """
    if not path.exists():
        return partial_of(path).exists()
    return path.is_file() and (_is_stream(path) or read_metadata(path, keys) is not None)


def _whole(table: pa.Table, wanted: pa.Schema, path: Path) -> pa.Table:
    """The table with the columns of `wanted` in their order; raises `BadInput` where it can't be."""
    columns = []
    for field in wanted:
        index = table.schema.get_field_index(field.name)
        if index < 0 and field.nullable and field.name not in UNKNOWN_TO_OTHERS:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        if index < 0 or table.schema.field(index).type != field.type:
            found = "missing" if index < 0 else f"{table.schema.field(index).type} found"
            raise BadInput(f"{path}: column {field.name}: {found}, {field.type} wanted; replay again")
        columns.append(table.column(index))
        if not field.nullable and columns[-1].null_count:
            raise BadInput(f"{path}: column {field.name}: nulls found, none wanted; replay again")
    whole = pa.Table.from_arrays(columns, schema=wanted)
    _check_reads(whole, path)
    return whole


def _check_reads(table: pa.Table, path: Path) -> None:
    """Raise `BadInput` where a row's lists of reads are not equally long, as far as they are there."""
    names = [name for name in _READS if name in table.column_names]
    lengths = [pc.list_value_length(table.column(name)) for name in names]
    for name, length in zip(names[1:], lengths[1:], strict=True):
        row = pc.index(pc.equal(lengths[0], length), False).as_py()
        if row >= 0:
            raise BadInput(
                f"{path}: row {row}, column {name}: {length[row]} reads found, {lengths[0][row]} as in "
                f"{names[0]} wanted; replay again"
            )


def _read_file(
    path: Path, names: list[str], keys: Keys | None
) -> tuple[pa.Table, Mapping[bytes, bytes] | None]:
    with open_parquet(path, keys) as file:
        there = set(file.schema_arrow.names)
        return file.read([name for name in names if name in there]), file.metadata.metadata


def _is_stream(path: Path) -> bool:
    """Whether the file begins as an Arrow IPC stream does (Arrow columnar format, "Encapsulated message"),
    or is a sealed one."""
    if starts_sealed(path):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"\xff\xff\xff\xff"


def _read_stream(
    path: Path, names: list[str], keys: Keys | None
) -> tuple[pa.Table, Mapping[bytes, bytes] | None]:
    batches = []
    options = pa.ipc.IpcReadOptions()
    with open_stream(path, keys) as file, pa.ipc.open_stream(file) as about:
        options.included_fields = [at for at, name in enumerate(about.schema.names) if name in names]
    with open_stream(path, keys) as file, pa.ipc.open_stream(file, options=options) as stream:
        # The last batch may have been cut off by whatever ended the replay.
        with contextlib.suppress(StopIteration, pa.ArrowException, OSError):
            while True:
                batches.append(stream.read_next_batch())
        return pa.Table.from_batches(batches, stream.schema), stream.schema.metadata


def _parse_metadata(raw: bytes, path: Path) -> RunMetadata:
    parsers = dict.fromkeys(("steps", "workers", "command", "notes"), tuple)
    return read_footer(RunMetadata, raw, str(path), "run", "replay again", FORMAT_VERSION, parsers)
