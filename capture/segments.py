"""Segments: Parquet files of one folder, each whole or absent, rows in arrival order within each.

What else may lie in the folder while a capture runs, or after one that was cut off, is told here too. The
format is in `trace_format`; what becomes a segment, when and how, in `compaction`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import BadInput

SEGMENT_NAME: Final = "segment-{number:06d}.parquet"
MARKER_NAME: Final = ".capture.json"
"""Lies in the folder from the start of a capture to its orderly end; locked while its processes live."""
_OURS: Final = re.compile(
    r"\.?segment-\d{6,}\.parquet(?:\.tmp|\.damaged)?|\.?journal-\d{6,}\.frames(?:\.tmp|\.damaged)?"
    rf"|{re.escape(MARKER_NAME)}"
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare_folder(folder: Path, *, overwrite: bool, go_on: bool = False) -> None:
    """Make `folder` and check that segments can be written to it; what is in it stays, see `clear_folder`.

    Raises `BadInput` when it holds files that are not segments, or segments that may neither be replaced nor
    gone on from, or can't be made or written.
    """
    try:
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        strange = [name for name in found if not _OURS.fullmatch(name)]
        if strange:
            raise BadInput(f"{folder}: holds {strange[0]}, no segment of a capture; choose another folder")
        if found and not overwrite and not go_on:
            raise BadInput(
                f"{folder}: holds segments of an earlier capture; read them as a trace "
                "(`peaktape inspect FOLDER`), choose another name, or add --append or --overwrite"
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".segment-000000.parquet.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"{folder}: can't be written ({error.strerror}); choose another place") from error


def was_cut_off(folder: Path) -> bool:
    """Whether a capture into `folder` has not come to its end: it was killed, or runs still."""
    try:
        return any(path.name == MARKER_NAME or path.suffix == ".frames" for path in folder.iterdir())
    except OSError:
        return False


def clear_folder(folder: Path) -> None:
    """Remove an earlier capture's segments and journals from `folder`, and nothing else."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name != MARKER_NAME:
            path.unlink()


def set_damaged_aside(folder: Path, keys: Keys | None = None) -> Iterator[Path]:
    """Rename segments that can't be read to NAME.damaged; their new names.

    Raises `KeyRefused` at one that a key is missing for: that is no damage.
    """
    for path in sorted(folder.glob("segment-*.parquet")):
        try:
            with open_parquet(path, keys):
                continue
        except (OSError, pa.ArrowException):
            yield path.rename(path.with_name(f"{path.name}.damaged"))


def remove_halves(folder: Path) -> None:
    """Remove what a killed writer had not finished: files under their temporary names, as far as can be."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name) and path.suffix == ".tmp":
                path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder of segments and what is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def drop_cause(error: OSError) -> str:
    """The cause under which rows lost to `error` are counted: disk_full or disk_error."""
    return "disk_full" if error.errno in _FULL else "disk_error"


def sync_path(path: Path) -> None:
    """Bring a file or a folder's entries to the disk; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
