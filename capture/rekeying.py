"""Files of traces and runs under a new key: each is read with the old one, and replaced when it is whole.

Nothing is on a disk in the clear meanwhile. Cut off, it is begun again: what the new key opens by itself is
passed over. Only Parquet is known here; what the files hold is not looked at.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from capture.encrypted_parquet import is_encrypted, open_parquet, parquet_writer
from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.object_store import refuse_url
from capture.segments import was_cut_off
from capture.trace_writer import refuse_input, replace_when_whole


@dataclasses.dataclass(frozen=True)
class Rekeyed:
    """How many files have the new key now, and how many had it before."""

    files: int
    had_it: int


def rekey(
    place: Path, old: Keys | None, new: Keys, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Rekeyed:
    """Encrypt a file, or each Parquet file of a folder, with `new` alone; plain ones are encrypted too.

    `old` opens them (None: they are plain). Age and access of each file stay as they are: retention counts
    them. `progress` gets the bytes done and in all. Raises `KeyRefused` naming the first file that `old`
    doesn't open, before anything is changed, or if `new` is several; `BadInput` when a file can't be read or
    written.
    """
    refuse_url(place)
    if new.others:
        raise KeyRefused(f"--new-key: {1 + len(new.others)} keys found, one wanted; the others go to --key")
    paths = _files(place)
    for path in paths:
        refuse_input(path, [*new.paths, *(old.paths if old else ())])
    left = [path for path in paths if not _is_under(path, new)]
    for path in left:
        _opened(path, old).close()
    total_bytes, done_bytes = sum(path.stat().st_size for path in left), 0
    for path in left:
        progress(done_bytes, total_bytes)
        done_bytes += path.stat().st_size
        _rewrite(path, old, new)
    progress(done_bytes, total_bytes)
    return Rekeyed(len(left), len(paths) - len(left))


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        if not place.exists():
            raise BadInput(f"{place}: no such file or folder; a trace or a run wanted")
        return [place]
    if was_cut_off(place):
        raise BadInput(
            f"{place}: a capture runs here, or was cut off; end it, or `peaktape recover` it first"
        )
    found = sorted(place.glob("*.parquet"))
    if not found:
        raise BadInput(f"{place}: no Parquet file in it; a trace or a run wanted")
    return found


def _is_under(path: Path, new: Keys) -> bool:
    """Whether the file is encrypted already with the key `new`, and not with another that a service has."""
    key = new.alone()
    try:
        if not is_encrypted(path):
            return False
        _opened(path, key).close()
    except KeyRefused:
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return key.masters_asked == {new.master}


def _opened(path: Path, keys: Keys | None) -> pq.ParquetFile:
    try:
        return open_parquet(path, keys)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _rewrite(path: Path, old: Keys | None, new: Keys) -> None:
    """The same row groups, schema, metadata and encodings, under another key."""
    try:
        file = _opened(path, old)
        before = path.stat()
        with replace_when_whole(path, overwrite=True) as temporary:
            schema = file.schema_arrow.remove_metadata()
            with parquet_writer(temporary, schema, new, **_as_written(file)) as writer:
                for number in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(number))
                kept = dict(file.metadata.metadata or {})
                kept.pop(b"ARROW:schema", None)  # the writer's own
                writer.add_key_value_metadata(kept)
            shutil.copymode(path, temporary)
            os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        file.close()
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error


def _as_written(file: pq.ParquetFile) -> dict[str, Any]:
    """How the columns of a file are encoded, as options of a writer."""
    if not file.num_row_groups or not file.metadata.num_columns:
        return {"compression": "zstd", "compression_level": 3}
    columns = [file.metadata.row_group(0).column(at) for at in range(file.metadata.num_columns)]
    names = [column.path_in_schema for column in columns]
    dictionary = [name for name, column in zip(names, columns, strict=True) if column.has_dictionary_page]
    delta = {
        name: "DELTA_BINARY_PACKED"
        for name, column in zip(names, columns, strict=True)
        if "DELTA_BINARY_PACKED" in column.encodings
    }
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionary,
        "column_encoding": delta,
        "write_batch_size": 64,
    }


def _unreadable(path: Path, error: Exception) -> BadInput:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return BadInput(f"{path}: not a whole Parquet file ({said}); copy it again, or move it away")
