"""Files of traces and runs under a new key: each is read with the old one, and replaced when it is whole.

Nothing is on a disk or in a store in the clear meanwhile. Cut off, it is begun again: what the new key opens
by itself is passed over. Only Parquet is known here; what the files hold is not looked at.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from capture.encrypted_parquet import is_encrypted, open_parquet, parquet_writer
from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.object_store import ObjectStore, StoredFile, StoreFailure, failure_of, is_url, stored_files
from capture.segments import was_cut_off
from capture.trace_writer import refuse_input, replace_when_whole


@dataclasses.dataclass(frozen=True)
class Rekeyed:
    """How many files have the new key now, and how many had it before."""

    files: int
    had_it: int


def rekey(
    place: Path | str,
    old: Keys | None,
    new: Keys,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Rekeyed:
    """Encrypt a file, or each Parquet file of a folder, with `new` alone; plain ones are encrypted too.

    A place in a store is one object, a prefix or a glob, as readers take it. `old` opens the files (None:
    they are plain). Age and access of local files stay as they are: retention counts them; in a store an age
    begins anew. `progress` gets the bytes done and in all. Raises `KeyRefused` naming the first file that
    `old` doesn't open, before anything is changed, or if `new` is several; `BadInput` when a file can't be
    read or written.
    """
    if new.others:
        raise KeyRefused(f"--new-key: {1 + len(new.others)} keys found, one wanted; the others go to --key")
    files: Sequence[Path | StoredFile] = stored_files(str(place)) if is_url(place) else _files(Path(place))
    for file in files:
        if isinstance(file, Path):
            refuse_input(file, [*new.paths, *(old.paths if old else ())])
    left = [file for file in files if not _is_under(file, new)]
    for file in left:
        _opened(file, old).close()
    total_bytes, done_bytes = sum(map(_size_bytes, left)), 0
    for file in left:
        progress(done_bytes, total_bytes)
        done_bytes += _size_bytes(file)
        if isinstance(file, Path):
            _rewrite(file, old, new)
        else:
            _rewrite_stored(file, old, new)
    progress(done_bytes, total_bytes)
    return Rekeyed(len(left), len(files) - len(left))


def _size_bytes(file: Path | StoredFile) -> int:
    return file.stat().st_size if isinstance(file, Path) else file.size_bytes


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


def _is_under(path: Path | StoredFile, new: Keys) -> bool:
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


def _opened(path: Path | StoredFile, keys: Keys | None) -> pq.ParquetFile:
    try:
        return open_parquet(path, keys)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _rewrite(path: Path, old: Keys | None, new: Keys) -> None:
    before = path.stat()
    with replace_when_whole(path, overwrite=True) as temporary:
        _write_anew(path, old, new, temporary)
        shutil.copymode(path, temporary)
        os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))


def _rewrite_stored(stored: StoredFile, old: Keys | None, new: Keys) -> None:
    with tempfile.TemporaryDirectory(prefix="peaktape-rekey-") as folder:
        successor = Path(folder) / "successor.parquet"
        _write_anew(stored, old, new, successor)
        try:
            ObjectStore(stored.url.parent, attempts=3).replace(successor, stored.name)
        except StoreFailure as failure:
            raise failure.as_bad_input(stored) from failure


def _write_anew(path: Path | StoredFile, old: Keys | None, new: Keys, to: Path) -> None:
    """The same row groups, schema, metadata and encodings, under another key."""
    try:
        with _opened(path, old) as file:
            schema = file.schema_arrow.remove_metadata()
            with parquet_writer(to, schema, new, **_as_written(file)) as writer:
                for number in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(number))
                kept = dict(file.metadata.metadata or {})
                kept.pop(b"ARROW:schema", None)  # the writer's own
                writer.add_key_value_metadata(kept)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error
    except OSError as error:
        if isinstance(path, StoredFile) and not error.errno:  # pyarrow's have no number
            raise failure_of(error).as_bad_input(path) from error
        raise


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


def _unreadable(path: Path | StoredFile, error: Exception) -> BadInput:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return BadInput(f"{path}: not a whole Parquet file ({said}); copy it again, or move it away")
