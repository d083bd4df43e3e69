"""Where requests lie as they came, before anything is left out or encrypted: a folder in memory.

Only which folder that is, and whether it is in memory indeed; what lies in it is in `frame_files`.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from pathlib import Path, PurePath
from typing import Final

from capture.failures import BadInput

SPOOL_VARIABLE: Final = "PEAKTAPE_SPOOL"
"""Names the folder for what waits for the recorder: in memory, and never one that is backed up."""
_IN_MEMORY: Final = ("/dev/shm", "/run/shm")  # noqa: S108 - our folder in it is its owner's alone
_MEMORY_KINDS: Final = frozenset(("tmpfs", "ramfs"))
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

logger = logging.getLogger(__name__)


def new_spool(*, in_memory_only: bool = False) -> Path:
    """A new folder that only its owner can look into, in the one that is named or in memory.

    With `in_memory_only` raises `BadInput` where that would be on a disk; else that is warned of.
    """
    place = _named_or_in_memory()
    if in_memory_only and (place is None or not lies_in_memory(place)):
        found = f"{place} is on a disk" if place else "no folder in memory is known here"
        raise BadInput(
            f"--key: {found}, and requests wait there as they come, not encrypted; "
            f"name a folder in memory (a tmpfs) in {SPOOL_VARIABLE}"
        )
    if place is None:
        logger.warning(
            "peaktape: no folder in memory is known here, requests pass through %s as they come; "
            "name one in %s",
            tempfile.gettempdir(),
            SPOOL_VARIABLE,
        )
    return Path(tempfile.mkdtemp(prefix="peaktape-", dir=place))


def _named_or_in_memory() -> str | None:
    chosen = os.environ.get(SPOOL_VARIABLE)
    for folder in filter(None, (chosen, *_IN_MEMORY, os.environ.get("XDG_RUNTIME_DIR"))):
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None


def lies_in_memory(folder: str, mounts: str | None = None) -> bool:
    """Whether `folder` is on a file system in memory, by the kernel's list of mounts (proc(5), mountinfo).

    False where there is no such list. `mounts` stands for the list itself.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return False
    place, best, kind = PurePath(os.path.realpath(folder)), -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = PurePath(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), before.split()[4]))
        if place.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(point.parts), after.split()[0]
    return kind in _MEMORY_KINDS
