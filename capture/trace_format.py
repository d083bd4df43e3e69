"""The Trace: one pyarrow schema with a version, its metadata, and the checks that a file must pass.

A trace is what happened, one row per captured request. Every `*_ns` column is an int64 offset in
nanoseconds from the trace's zero on the monotonic clock; the wall clock of that zero is in the metadata.
On disk, lists of instants are lists of gaps under other names: see `stored_stamps`, which turns one into the
other. Reading and writing files is not here either: see `trace_reader` and `trace_writer`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa

from capture.failures import BadInput
from capture.footers import footer_of, read_footer

FORMAT_VERSION: Final = 2
"""1 had the instants of chunks and messages as they are in memory; 2 has them as gaps. Both are read."""
METADATA_KEY: Final = b"peaktape.trace"

COMPLETE: Final = "complete"
CLIENT_ABORTED: Final = "client_aborted"
SERVER_ERROR: Final = "server_error"
PROXY_ERROR: Final = "proxy_error"
IN_FLIGHT: Final = "in_flight"
OUTCOMES: Final = (COMPLETE, CLIENT_ABORTED, SERVER_ERROR, PROXY_ERROR, IN_FLIGHT)

NOT_ANSWERED: Final[dict[str, Any]] = {
    "outcome": IN_FLIGHT,
    "error": None,
    "status": None,
    "response_headers": None,
    "response_body": None,
    "response_bytes": 0,
    "first_byte_ns": None,
    "chunk_ns": [],
    "chunk_bytes": [],
    "end_ns": None,
    "input_tokens": None,
    "output_tokens": None,
    "model": None,
    "stream": False,
}
"""The answer's columns of a request that was cut off before there was one."""

HEADERS_TYPE: Final = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.string())]))

TRACE_SCHEMA: Final = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("turn", pa.int32(), nullable=False),
        pa.field("arrival_ns", pa.int64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("scheme", pa.string(), nullable=False),
        # The authority that served the request, "host:port"; the client's Host header is in the headers.
        pa.field("host", pa.string(), nullable=False),
        # Path with query, as sent; of a target in absolute form (RFC 9112, 3.2.2) what follows the authority.
        pa.field("path", pa.string(), nullable=False),
        pa.field("http_version", pa.string(), nullable=False),
        # Name and value as sent, order and duplicates kept, bytes as ISO 8859-1 (RFC 9110, 5.5).
        pa.field("request_headers", HEADERS_TYPE, nullable=False),
        pa.field("request_body", pa.binary()),
        pa.field("request_body_ns", pa.int64()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("status", pa.int32()),
        pa.field("response_headers", HEADERS_TYPE),
        pa.field("response_body", pa.binary()),
        pa.field("response_bytes", pa.int64(), nullable=False),
        pa.field("first_byte_ns", pa.int64()),
        pa.field("chunk_ns", pa.list_(pa.int64()), nullable=False),
        pa.field("chunk_bytes", pa.list_(pa.int32()), nullable=False),
        pa.field("end_ns", pa.int64()),
        pa.field("input_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
        pa.field("model", pa.string()),
        pa.field("stream", pa.bool_(), nullable=False),
        # Names the client connection that carried it; null where the source does not tell.
        pa.field("connection", pa.string()),
        # Bytes of the request's body that passed; where it is set and the body null, the body was not kept
        # or never came whole. Null where the source does not count.
        pa.field("request_bytes", pa.int64()),
        # The chunks of an upload that was passed on as it came; null where the body came in one piece.
        pa.field("request_chunk_ns", pa.list_(pa.int64())),
        pa.field("request_chunk_bytes", pa.list_(pa.int32())),
        pa.field("request_trailers", HEADERS_TYPE),
        pa.field("response_trailers", HEADERS_TYPE),
        # Messages of gRPC (with their five bytes of frame) and WebSocket, both directions in their order: the
        # instant of the last byte, the size, the direction, and for WebSocket whether it is text. A body is
        # the messages of its direction, one after the other. Null where there are no messages.
        pa.field("message_ns", pa.list_(pa.int64())),
        pa.field("message_bytes", pa.list_(pa.int64())),
        pa.field("message_from_client", pa.list_(pa.bool_())),
        pa.field("message_text", pa.list_(pa.bool_())),
    ]
)
"""One row per captured request. Bodies are inline and as sent (still content-encoded). Tokens are what the
response's usage says, else null. `turn` counts from 0 within `session_id`; a null session is a session of
its own."""

STORED_AS: Final = {
    "chunk_ns": "chunk_gap_10us",
    "request_chunk_ns": "request_chunk_gap_10us",
    "message_ns": "message_gap_10us",
}
"""Columns that are lists of instants, and the names under which a file has them as gaps."""

STORED_SCHEMA: Final = pa.schema(
    [field.with_name(STORED_AS.get(field.name, field.name)) for field in TRACE_SCHEMA]
)
"""`TRACE_SCHEMA` as it is on disk: the gaps are steps of 10 µs, int64."""


@dataclasses.dataclass(frozen=True)
class TraceMetadata:
    """What a trace file says of itself. `counts` holds requests seen, recorded, dropped by cause, and, where
    there are such, not chosen by reason.

    `sampling` is "all", or which share of what; `choice` says by what the rows were chosen (filter, sample,
    sample_seed, max_body_bytes), each only where it was used; `sample` is a list where parts of the trace
    differ in it. `recorded_ns` are the spans, from the zero, in which arrivals were recorded: a gap between
    them is no quiet. An end of None was not known yet.

    `clock_tick_ns` is the step in which arrivals were stamped (3 s in some public traces), `notes` what a
    reader must know about the rows, such as that their prompts are synthetic.
    """

    wall_zero_ns: int
    source: str
    upstreams: tuple[str, ...] = ()
    sampling: str = "all"
    choice: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recorded_ns: tuple[tuple[int, int | None], ...] = ()
    redaction: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tool_version: str = ""
    clock_tick_ns: int = 1
    notes: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def samples(self) -> tuple[float, ...]:
        """The shares of all sessions, ascending, that were recorded: (1.0,) where none was left out, and
        several where parts of the trace were captured with different ones."""
        found = self.choice.get("sample", 1.0)
        return tuple(sorted(set(map(float, found if isinstance(found, list | tuple) else [found]))))

    def to_json(self) -> bytes:
        """The UTF-8 JSON that stands under `METADATA_KEY` in the Parquet footer."""
        return footer_of(self)

    @classmethod
    def from_json(cls, raw: bytes, place: str) -> TraceMetadata:
        """Parse what `to_json` wrote; raises `BadInput` naming `place` when it can't be used."""
        parsers: dict[str, Callable[[Any], Any]] = {"upstreams": tuple, "notes": tuple, "recorded_ns": _spans}
        again = "capture or import it again"
        return read_footer(cls, raw, place, "trace", again, FORMAT_VERSION, parsers)


def _spans(found: list[list[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((start, end) for start, end in found)


MESSAGES: Final = frozenset(
    (
        *("request_chunk_ns", "request_chunk_bytes", "request_trailers", "response_trailers"),
        *("message_ns", "message_bytes", "message_from_client", "message_text"),
    )
)
"""Columns of what HTTP carries beside heads and bodies: chunks of uploads, trailers, messages."""

ADDED: Final = frozenset(TRACE_SCHEMA.names[TRACE_SCHEMA.names.index("connection") :])
"""Columns that came after traces had been written: where one is missing, it reads as null."""


def other_kind(footer: Mapping[bytes, bytes] | None) -> str:
    """ "a schedule", say, where a footer says that the file is another of ours; "" where it doesn't."""
    kinds = [key.removeprefix(b"peaktape.").decode() for key in footer or {} if key.startswith(b"peaktape.")]
    return f"a {kinds[0]}" if kinds else ""


def check_schema(found: pa.Schema, footer: Mapping[bytes, bytes] | None, place: str) -> TraceMetadata:
    """Metadata of a file whose schema is a trace's; raises `BadInput` naming the first wrong column.

    `footer` is the file's own key-value metadata: pyarrow leaves late additions out of its schema.
    """
    raw = (footer or {}).get(METADATA_KEY)
    # First of all: a newer format may have other columns, and is no damage.
    metadata = None if raw is None else TraceMetadata.from_json(raw, place)
    if metadata is None and (other := other_kind(footer)):
        raise BadInput(f"{place}: {other} found, a trace wanted; name the trace that it was made from")
    for field in TRACE_SCHEMA:
        name = STORED_AS.get(field.name, field.name)
        name = name if name in found.names else field.name
        index = found.get_field_index(name)
        if index < 0 and field.name in ADDED:
            continue
        if index < 0:
            raise BadInput(
                f"{place}: column {name}: missing, {field.type} wanted; "
                "is this a peaktape trace? make one with `peaktape capture` or `peaktape import`"
            )
        if not _same_type(found.field(index).type, field.type):
            raise BadInput(f"{place}: column {name}: {found.field(index).type} found, {field.type} wanted")
    if metadata is None:
        raise BadInput(
            f"{place}: no peaktape metadata in the footer; make traces with `peaktape capture` or `import`"
        )
    return metadata


def _same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal up to what Parquet writers may choose freely: list item names, dictionaries, large offsets."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_list(wanted):
        return (pa.types.is_list(found) or pa.types.is_large_list(found)) and _same_type(
            found.value_type, wanted.value_type
        )
    if pa.types.is_struct(wanted):
        return (
            pa.types.is_struct(found)
            and found.num_fields == wanted.num_fields
            and all(
                found.field(i).name == wanted.field(i).name
                and _same_type(found.field(i).type, wanted.field(i).type)
                for i in range(wanted.num_fields)
            )
        )
    if pa.types.is_string(wanted):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    if pa.types.is_binary(wanted):
        return bool(pa.types.is_binary(found) or pa.types.is_large_binary(found))
    return bool(found == wanted)
