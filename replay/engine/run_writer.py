"""Writing a run while it happens: batches of rows → a partial file → the run. Rows are made in `run_rows`."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from capture.encrypted_parquet import parquet_writer
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.frame_files import FolderLock
from replay.engine.run_format import DROP, METADATA_KEY, RUN_SCHEMA, RunMetadata, partial_of
from replay.engine.sealed_stream import SealedWriter, open_stream

BATCHES_A_GROUP: Final = 20
GROUP_BYTES: Final = 32 << 20
"""With so many bytes, a row group is full: a reader's memory is bounded by it."""
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""What a file system says that knows no locks."""
_INSTANTS: Final = ("due_ns", "chunk_ns.list.element")


class RunWriter:
    """Appends batches to `PATH.partial` as they come; `finish` makes the run file of it, and removes it.

    The partial file is an Arrow IPC stream: whatever ends the replay, it reads up to its last whole batch.
    `bodies` is what the run keeps of answers (`BODIES`); it stands in the metadata that is written, too.
    With `keys` the run is encrypted, and the partial file a sealed one.
    """

    def __init__(self, path: Path, bodies: str = DROP, keys: Keys | None = None) -> None:
        self.bodies = bodies
        self._keys = keys
        self._path = path
        self._partial = partial_of(path)
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._file: IO[bytes] | SealedWriter | None = None
        self.written = 0
        self.longest_write_s = 0.0
        self._lock = FolderLock(self._partial)
        self._finished = False
        with self._disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._file = self._partial.open("wb") if keys is None else SealedWriter(self._partial, keys)

    def _take_lock(self) -> None:
        """Keep others from the partial file: two that write to it at once would both lose their runs."""
        self._partial.open("ab").close()  # with the umask's mode, which the lock does not ask
        try:
            taken = self._lock.take()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return
        if not taken or not _is_file(self._lock.descriptor, self._partial):
            self._lock.release()
            raise BadInput(
                f"{self._path}: another replay writes it now; wait for its end, or choose another name"
            )

    def begin(self, metadata: RunMetadata) -> None:
        """Start the rows; `metadata` is what is known by now, and stays in the partial file."""
        schema = RUN_SCHEMA.with_metadata({METADATA_KEY: metadata.to_json()})
        with self._disk():
            self._stream = pa.ipc.new_stream(
                self._file, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")
            )

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch of rows (`RUN_SCHEMA`), after `begin`."""
        began_s = time.monotonic()
        with self._disk():
            self._write(batch)
        self.longest_write_s = max(self.longest_write_s, time.monotonic() - began_s)
        self.written += batch.num_rows

    def _write(self, batch: pa.RecordBatch) -> None:
        if self._stream is not None and self._file is not None:
            self._stream.write_batch(batch)
            self._file.flush()

    def finish(self, metadata: RunMetadata) -> None:
        """Write the run file with `metadata`, whole or not at all, of what was added."""
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with self._disk():
                self._close()
                _to_parquet(self._partial, temporary, metadata.to_json(), self._keys)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(self._path)
                self._partial.unlink()
            self._finished = True
            self._lock.release()
        finally:
            temporary.unlink(missing_ok=True)

    def abandon(self) -> Path | None:
        """Let go: the partial file, if it holds rows, is what comes back, else it is removed.

        Harmless after `finish`.
        """
        if self._finished:
            return None
        with contextlib.suppress(OSError, pa.ArrowException):
            self._close()
        try:
            if self.written and self._partial.exists():
                return self._partial
            self._partial.unlink(missing_ok=True)
            return None
        finally:
            self._lock.release()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if self._file is not None:
            self._file.close()
        self._stream = self._file = None

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"{self._path}: can't be written ({error.strerror or error}); "
                "free space or choose another place"
            ) from error


def _is_file(descriptor: int | None, path: Path) -> bool:
    """Whether the open file is still the one at `path`: who held it before may have removed it."""
    try:
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _to_parquet(partial: Path, path: Path, metadata: bytes, keys: Keys | None) -> None:
    with (
        open_stream(partial, keys) as rows,
        pa.ipc.open_stream(rows) as stream,
        parquet_writer(
            path,
            RUN_SCHEMA,
            keys,
            compression="zstd",
            compression_level=3,
            use_dictionary=["phase", "endpoint", "model", "error", "finish_reason"],
            column_encoding=dict.fromkeys(_INSTANTS, "DELTA_BINARY_PACKED"),
        ) as file,
    ):
        for batches in _groups(stream):
            file.write_table(pa.Table.from_batches(batches, stream.schema).replace_schema_metadata())
        file.add_key_value_metadata({METADATA_KEY: metadata})


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """The batches in groups of up to `BATCHES_A_GROUP`, smaller ones where bodies are large."""
    group: list[pa.RecordBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == BATCHES_A_GROUP or sum(one.nbytes for one in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group
