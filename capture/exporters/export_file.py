"""Writing a trace in another tool's format: whole or not at all, in flat memory, telling what is lost.

A format says which columns it holds. What a trace has beyond them is found while it is written, so that only
losses that happened are told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc

from capture.failures import BadInput
from capture.trace_format import TRACE_SCHEMA, TraceMetadata
from capture.trace_reader import Trace
from capture.trace_writer import replace_when_whole

WORDS: Final = {
    "request_id": "request ids",
    "session_id": "sessions",
    "turn": "turns",
    "arrival_ns": "arrivals",
    "method": "methods",
    "scheme": "schemes",
    "host": "hosts",
    "path": "paths",
    "http_version": "HTTP versions",
    "request_headers": "request headers",
    "request_body": "request bodies",
    "request_body_ns": "ends of request bodies",
    "outcome": "outcomes",
    "error": "errors",
    "status": "statuses",
    "response_headers": "response headers",
    "response_body": "response bodies",
    "response_bytes": "response sizes",
    "first_byte_ns": "first bytes",
    "chunk_ns": "chunk instants",
    "chunk_bytes": "chunk sizes",
    "end_ns": "ends",
    "input_tokens": "input token counts",
    "output_tokens": "output token counts",
    "model": "models",
    "stream": "whether answers were streamed",
    "connection": "connections",
    "request_bytes": "sizes of request bodies",
    "request_chunk_ns": "instants of upload chunks",
    "request_chunk_bytes": "sizes of upload chunks",
    "request_trailers": "request trailers",
    "response_trailers": "response trailers",
    "message_ns": "instants of messages",
    "message_bytes": "sizes of messages",
    "message_from_client": "directions of messages",
    "message_text": "kinds of messages",
}
"""What a column is called when it is lost."""

_CONTENT: Final = {
    "request_body": "prompts",
    "response_body": "answers",
    "request_headers": "headers",
    "path": "paths with their queries",
    "session_id": "session ids",
}

type Row = dict[str, Any]


@dataclasses.dataclass
class Losses:
    """What does not get into the file: rows by cause, columns, and other things in words."""

    left_out: Counter[str] = dataclasses.field(default_factory=Counter)
    columns: set[str] = dataclasses.field(default_factory=set)
    counted: Counter[str] = dataclasses.field(default_factory=Counter)
    """Sentences with how many rows they are about."""


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A format: the columns it holds, and how it writes rows.

    `write(file, rows, metadata, losses)` draws all rows (headers as pairs) and returns how many it wrote.
    """

    name: str
    held: frozenset[str]
    write: Callable[[TextIO, Iterator[Row], TraceMetadata, Losses], int]
    notes: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """What it holds of what people said and sent, in words: what nobody must read who may not."""
        told = [word for name, word in _CONTENT.items() if name in self.held]
        return ", ".join(told) if told else "lengths and instants, no text"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export came to."""

    rows: int
    file_bytes: int
    left_out: dict[str, int]
    lost: tuple[str, ...]
    """Sentences: what the file does not hold of the trace."""


def export_trace(
    trace: Trace,
    path: Path,
    into: ExportFormat,
    *,
    overwrite: bool = False,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Write `trace` to `path`, gzipped when its name ends with .gz; `on_rows` hears how many rows were read.

    Raises `BadInput` when no row can be written; `path` then stays as it was.
    """
    losses = Losses()
    with replace_when_whole(path, overwrite=overwrite) as temporary:
        with text_file(temporary, gzipped=path.suffix == ".gz") as file:
            rows = into.write(file, _rows(trace, into, losses, on_rows), trace.metadata, losses)
        if not rows:
            causes = ", ".join(f"{count:,} {cause}" for cause, count in losses.left_out.items())
            raise BadInput(f"{trace.name}: no row found that {into.name} can hold ({causes})")
    return Exported(rows, path.stat().st_size, dict(losses.left_out), tuple(_told(into, losses)))


@contextlib.contextmanager
def packed_file(path: Path, *, gzipped: bool) -> Iterator[BinaryIO]:
    """A file to write, gzipped (without a name or an instant in it) if so wanted."""
    with path.open("wb") as raw:
        if not gzipped:
            yield raw
            return
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
            yield cast("BinaryIO", packed)


@contextlib.contextmanager
def text_file(path: Path, *, gzipped: bool) -> Iterator[TextIO]:
    """As `packed_file`, for text in UTF-8 with \n at the ends of lines."""
    with (
        packed_file(path, gzipped=gzipped) as raw,
        io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as file,
    ):
        yield file


def _rows(
    trace: Trace,
    into: ExportFormat,
    losses: Losses,
    on_rows: Callable[[int], None],
) -> Iterator[Row]:
    rows = 0
    for batch in trace.iter_batches():
        losses.columns |= {
            name
            for name in TRACE_SCHEMA.names
            if name not in into.held and _tells(batch.column(batch.schema.get_field_index(name)))
        }
        for row in batch.to_pylist():
            for name in ("request_headers", "response_headers"):
                if row[name] is not None:
                    row[name] = [(pair["name"], pair["value"]) for pair in row[name]]
            yield row
        rows += batch.num_rows
        on_rows(rows)


def _tells(column: pa.Array) -> bool:
    """Whether a column holds anything that would be missed: a value that isn't null, empty, 0 or false."""
    if pa.types.is_list(column.type):
        return bool(pc.sum(pc.list_value_length(column)).as_py())
    if pa.types.is_binary(column.type) or pa.types.is_string(column.type):
        return bool(pc.max(pc.binary_length(column)).as_py())
    return bool(pc.any(pc.cast(column, pa.bool_())).as_py())


def _told(into: ExportFormat, losses: Losses) -> Iterator[str]:
    missing = [WORDS[name] for name in TRACE_SCHEMA.names if name in losses.columns]
    if missing:
        yield f"{into.name} holds no {', '.join(missing)}"
    for sentence, count in losses.counted.items():
        yield sentence.format(count=f"{count:,}")
    yield from into.notes
