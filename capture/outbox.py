"""The outbox: what captures into a store have on this machine until the store has it.

    OUTBOX/bucket%2Fprefix/<capture>/   one capture's journal, marker and segments, as in any output folder

The segment k of a capture always goes to the same object, whose name holds both: however often it is sent,
it is there once. Names and what waits are told here; the sending is in `uploads`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from capture.counts import readable_bytes
from capture.journal_folder import SEGMENT_FILE, journal_of
from capture.object_store import StoreUrl
from capture.segments import was_cut_off

STORE_AWAY: Final = "store_away"
"""The cause under which requests are counted that were lost because the outbox was full."""
_CAPTURE: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
OBJECT_NAME: Final = re.compile(rf"segment-{_CAPTURE.pattern}-\d{{6,}}\.parquet")
_LOOK_S: Final = 1.0


@dataclasses.dataclass(frozen=True)
class Waiting:
    """A closed segment that the store doesn't have yet; `closed_s` is since 1970."""

    path: Path
    size_bytes: int
    closed_s: float

    @property
    def object_name(self) -> str:
        """What it is called in the store."""
        return f"segment-{self.path.parent.name}-{self.path.stem.rpartition('-')[2]}.parquet"


def outbox_of(url: StoreUrl, outbox: Path) -> Path:
    """The folder of what goes to `url`; the endpoint makes no difference."""
    return outbox / quote(url.key, safe="")


def new_capture(outbox: Path) -> Path:
    """A folder's path for a capture that begins now; names sort by time and are never the same."""
    return outbox / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def captures_in(outbox: Path) -> list[Path]:
    """The folders of captures, oldest first; none when the outbox is not there."""
    try:
        found = [outbox / name for name in os.listdir(outbox) if _CAPTURE.fullmatch(name)]
    except OSError:
        return []
    return sorted(path for path in found if path.is_dir())


def waiting_in(outbox: Path) -> list[Waiting]:
    """The segments that are to be sent, oldest first. One whose journal is there still may be made again."""
    found = []
    for capture in captures_in(outbox):
        names: set[str] = set()
        with contextlib.suppress(FileNotFoundError):  # ended, and removed
            names = set(os.listdir(capture))
        for name in sorted(filter(SEGMENT_FILE.fullmatch, names)):
            path = capture / name
            if journal_of(path).name not in names:
                with contextlib.suppress(FileNotFoundError):  # sent meanwhile
                    status = path.stat()
                    found.append(Waiting(path, status.st_size, status.st_mtime))
    return found


def remove_ended(outbox: Path) -> None:
    """Remove the folders of captures that have ended and of which the store has everything."""
    for capture in captures_in(outbox):
        if not was_cut_off(capture):
            with contextlib.suppress(OSError):  # something is in it still
                capture.rmdir()
    with contextlib.suppress(OSError):
        outbox.rmdir()


class OutboxRoom:
    """Whether the outbox may take more: `trouble` says that it is full, "cause: words", or nothing.

    It is full when the closed segments in it reach `limit_bytes`; what is on its way to them comes on top.
    """

    def __init__(self, outbox: Path, limit_bytes: int) -> None:
        self._outbox = outbox
        self._limit_bytes = limit_bytes
        self._due_s = 0.0
        self.trouble = ""

    def has_room(self) -> bool:
        """Looks at most once a second."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _LOOK_S
            with contextlib.suppress(OSError):  # a folder that can't be listed: the journal's disk tells
                waiting_bytes = sum(segment.size_bytes for segment in waiting_in(self._outbox))
                full = waiting_bytes >= self._limit_bytes
                waits = f"{readable_bytes(waiting_bytes)} wait for the store"
                self.trouble = f"{STORE_AWAY}: the outbox is full, {waits}" if full else ""
        return not self.trouble
