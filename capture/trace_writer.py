"""Writing traces: files that appear whole or not at all, and one trace file from batches of rows.

Rolling segments during a capture belong to `recorder`; the schema to `trace_format`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa

from capture.encrypted_parquet import parquet_writer
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.object_store import refuse_url
from capture.stored_stamps import stored
from capture.trace_format import (
    FORMAT_VERSION,
    HEADERS_TYPE,
    METADATA_KEY,
    STORED_AS,
    STORED_SCHEMA,
    TRACE_SCHEMA,
    TraceMetadata,
)

ROW_GROUP_ROWS: Final = 1000
ROW_GROUP_BYTES: Final = 8 << 20
_GATHERED_BYTES: Final = ROW_GROUP_BYTES * 3 // 4
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links say."""
LEVEL: Final = 3
"""Of zstd: for text it takes as long as a lower one, and a tenth less room. See `body_levels`."""
_FEW_VALUES: Final = [
    *("method", "scheme", "host", "path", "http_version", "outcome", "model", "connection"),
]
_ENCODINGS: Final = {
    **dict.fromkeys(("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns"), "DELTA_BINARY_PACKED"),
    **{f"{name}.list.element": "DELTA_BINARY_PACKED" for name in STORED_AS.values()},
}


def _leaves(field: pa.Field, above: str = "") -> list[str]:
    """The paths of the columns of Parquet that a column of Arrow becomes."""
    name = f"{above}{field.name}"
    if pa.types.is_list(field.type):
        return _leaves(field.type.value_field.with_name("element"), f"{name}.list.")
    if pa.types.is_struct(field.type):
        return [path for inner in field.type.fields for path in _leaves(inner, f"{name}.")]
    return [name]


_LEAVES: Final = [path for field in STORED_SCHEMA for path in _leaves(field)]


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `BadInput` when `path` exists and may not be replaced, or its folder can't be written."""
    refuse_url(path)
    if path.exists() and not overwrite:
        raise BadInput(f"{path}: exists already; choose another name or add --overwrite")
    if path.is_dir() and overwrite:
        raise BadInput(f"{path}: is a folder, a file wanted; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{path.parent}: can't be made ({error.strerror}); choose another place") from error


def refuse_input(output: Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise `BadInput` when writing `output` would replace an input, or become a part of one.

    An input is named as a user names it: a file, a folder (all in it counts) or a glob; None is passed over.
    Symbolic and hard links are seen through, and `--overwrite` is no excuse.
    """
    for name in map(str, filter(None, inputs)):
        how = _part_of_input(output, name)
        if how:
            raise BadInput(f"{output}: {how}, nothing is written over an input; choose another name")


def _part_of_input(output: Path, name: str) -> str:
    """In what way `output` belongs to the input `name`; "" when it does not."""
    place, source = os.path.realpath(output), os.path.realpath(name)
    if os.path.isdir(name):
        if PurePath(place).is_relative_to(source):
            return f"lies in the input folder {name}"
        files = [entry.path for entry in os.scandir(name)]
    elif os.path.exists(name):
        files = [name]
    else:
        files = glob.glob(name)
        if any(PurePath(where(output)).match(where(name)) for where in (os.path.abspath, os.path.realpath)):
            return f"matches the input {name}"
    if place == source:
        return f"is the input {name}"
    same = next((path for path in files if _same_file(output, path)), None)
    return f"is the input {same}" if same else ""


def _same_file(one: Path, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return False


@contextlib.contextmanager
def replace_when_whole(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    Raises `BadInput` when `path` exists and `overwrite` is false, also where another command wrote it
    meanwhile, and when the disk refuses.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        _put(temporary, path, overwrite=overwrite)
    except OSError as error:
        raise BadInput(
            f"{path}: can't be written ({error.strerror or error}); free space or choose another place"
        ) from error
    finally:
        # Where it could not be made, as on a read-only disk, it can't be removed either.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the whole file its name; a link, unlike a renaming, replaces nothing that came meanwhile."""
    if not overwrite:
        try:
            os.link(temporary, path)
            return
        except OSError as error:
            if error.errno == errno.EEXIST or path.exists():
                raise BadInput(
                    f"{path}: exists already, another command wrote it meanwhile; choose another name"
                ) from error
            if error.errno not in _NO_LINKS:
                raise
    temporary.replace(path)


class TraceFile:
    """A Parquet writer for trace rows, with the encodings measured best for them.

    Rows are gathered into row groups of at most `ROW_GROUP_ROWS` rows or about `ROW_GROUP_BYTES` of bodies,
    so that a reader needs little memory whatever the trace's size. The file is unreadable until `close`.
    """

    def __init__(self, path: Path, keys: Keys | None = None, levels: Mapping[str, int] | None = None) -> None:
        """With `keys` all of it is encrypted; raises `KeyRefused` when a key service gives none.

        `levels` are zstd's for columns of bodies, else it is `LEVEL`.
        """
        self._writer = parquet_writer(
            path,
            STORED_SCHEMA,
            keys,
            compression="zstd",
            compression_level=dict.fromkeys(_LEAVES, LEVEL) | {**(levels or {})},
            use_dictionary=_FEW_VALUES,
            column_encoding=_ENCODINGS,
            write_batch_size=64,
        )
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch with `TRACE_SCHEMA`, as one row group or several."""
        for piece in row_groups(batch):
            self._writer.write_batch(stored(piece))
            self.rows += piece.num_rows

    def close(self, metadata: TraceMetadata) -> None:
        """Write the footer with the metadata, which may come of a file of an older format."""
        written = dataclasses.replace(metadata, format_version=FORMAT_VERSION)
        self._writer.add_key_value_metadata({METADATA_KEY: written.to_json()})
        self._writer.close()

    def abandon(self) -> None:
        """Let go of the file without caring whether its footer can still be written."""
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abandon()


def row_groups(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """`batch` cut into pieces of at most `ROW_GROUP_ROWS` rows and, several rows long, `ROW_GROUP_BYTES`."""
    if batch.num_rows <= 1 or (
        batch.num_rows <= ROW_GROUP_ROWS and batch.get_total_buffer_size() <= ROW_GROUP_BYTES
    ):
        if batch.num_rows:
            yield batch
        return
    rows_for_bytes = max(1, batch.num_rows * ROW_GROUP_BYTES // max(1, batch.get_total_buffer_size()))
    step = min(ROW_GROUP_ROWS, rows_for_bytes)
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Rows as dictionaries (headers as lists of (name, value) pairs) → a batch with `TRACE_SCHEMA`."""
    columns = []
    for field in TRACE_SCHEMA:
        values = [row.get(field.name) for row in rows]
        if field.type == HEADERS_TYPE:
            values = [
                None if pairs is None else [{"name": name, "value": value} for name, value in pairs]
                for pairs in values
            ]
        columns.append(pa.array(values, type=field.type))
    return pa.RecordBatch.from_arrays(columns, schema=TRACE_SCHEMA)


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch as `batch_of` takes them, headers and trailers as lists of (name, value) pairs."""
    headers = [field.name for field in batch.schema if field.name in TRACE_SCHEMA.names]
    headers = [name for name in headers if TRACE_SCHEMA.field(name).type == HEADERS_TYPE]
    for row in batch.to_pylist():
        for name in headers:
            if row[name] is not None:
                row[name] = [(pair["name"], pair["value"]) for pair in row[name]]
        yield row


def gathered(rows: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Rows in batches that each make one row group."""
    batch: list[dict[str, Any]] = []
    held_bytes = 0
    for row in rows:
        batch.append(row)
        held_bytes += len(row.get("request_body") or b"") + len(row.get("response_body") or b"")
        if len(batch) == ROW_GROUP_ROWS or held_bytes >= _GATHERED_BYTES:
            yield batch_of(batch)
            batch, held_bytes = [], 0
    if batch:
        yield batch_of(batch)


def write_trace(
    path: Path,
    batches: Iterable[pa.RecordBatch],
    metadata: TraceMetadata,
    *,
    overwrite: bool = False,
    keys: Keys | None = None,
) -> int:
    """Write batches (already in arrival order) as one trace file; the number of rows written.

    `metadata.counts` gets "recorded" from the rows themselves when it is not set.
    """
    with replace_when_whole(path, overwrite=overwrite) as temporary, TraceFile(temporary, keys) as file:
        for batch in batches:
            file.write(batch)
        counts: Mapping[str, Any] = {
            "seen": file.rows,
            "recorded": file.rows,
            "dropped": {},
            **metadata.counts,
        }
        file.close(dataclasses.replace(metadata, counts=counts))
        return file.rows
