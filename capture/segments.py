"""Rolling segments: Parquet files of one folder, each whole or absent, rows in arrival order within each.

A segment's rows wait in memory (as Arrow) until it is closed by size or age; then it is written under a
temporary name, synced and renamed. When the disk refuses, the rows stay and closing can be tried again. The
format is in `trace_format`; deciding what is recorded in `recorder`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from capture.failures import BadInput
from capture.trace_format import TRACE_SCHEMA, TraceMetadata
from capture.trace_writer import ROW_GROUP_ROWS, TraceFile

SEGMENT_NAME: Final = "segment-{number:06d}.parquet"
_OURS: Final = re.compile(r"\.?segment-\d{6,}\.parquet(?:\.tmp)?")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SegmentFolder:
    """The segments of one capture. Not thread-safe: one writer owns it.

    `rows` and `held_bytes` are what waits in memory, `disk_bytes` and `number` what was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.disk_bytes = 0
        self.rows = 0
        self.held_bytes = 0
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Let the rows of `batch` wait for the segment's end."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self.held_bytes += batch.get_total_buffer_size()

    def close_segment(self, metadata: TraceMetadata) -> int:
        """Write what waits as one segment; the number of rows that are now safe on disk.

        Raises OSError when the disk refuses: nothing of the segment is left there, and all rows still wait.
        """
        final = self.folder / SEGMENT_NAME.format(number=self.number + 1)
        temporary = final.with_name(f".{final.name}.tmp")
        try:
            self._write(temporary, metadata)
            temporary.replace(final)
            _sync(self.folder)
        except (OSError, pa.ArrowException) as error:
            temporary.unlink(missing_ok=True)
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
        self.number += 1
        self.disk_bytes += final.stat().st_size
        return self.discard()

    def discard(self) -> int:
        """Forget what waits; the number of rows forgotten."""
        rows, self.rows, self.held_bytes, self._batches = self.rows, 0, 0, []
        return rows

    def _write(self, path: Path, metadata: TraceMetadata) -> None:
        table = pa.Table.from_batches(self._batches, TRACE_SCHEMA).combine_chunks()
        order = pc.sort_indices(table["arrival_ns"])
        with TraceFile(path) as file:
            for start in range(0, table.num_rows, ROW_GROUP_ROWS):
                for batch in table.take(order.slice(start, ROW_GROUP_ROWS)).to_batches():
                    file.write(batch)
            file.close(metadata)
        _sync(path)


def prepare_folder(folder: Path, *, overwrite: bool) -> None:
    """Make `folder` and check that segments can be written to it; what is in it stays, see `clear_folder`.

    Raises `BadInput` when it holds files that are not segments, or segments that may not be replaced, or
    can't be made or written.
    """
    try:
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        strange = [name for name in found if not _OURS.fullmatch(name)]
        if strange:
            raise BadInput(f"{folder}: holds {strange[0]}, no segment of a capture; choose another folder")
        if found and not overwrite:
            raise BadInput(
                f"{folder}: holds segments of an earlier capture; read them as a trace "
                "(`peaktape inspect FOLDER`), choose another name, or add --overwrite"
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".segment-000000.parquet.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{folder}: can't be written ({error.strerror}); choose another place") from error


def clear_folder(folder: Path) -> None:
    """Remove an earlier capture's segments from `folder`, and nothing else."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder of segments and what is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def drop_cause(error: OSError) -> str:
    """The cause under which rows lost to `error` are counted: disk_full or disk_error."""
    return "disk_full" if error.errno in _FULL else "disk_error"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
