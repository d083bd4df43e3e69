"""After a capture that was cut off: what its spool and journal still hold becomes rows, and a valid trace.

The same work as at the orderly end, done by the same `RecorderProcess`, here in the caller's process.
Requests that were in flight are rows with that outcome. Safe to be cut off itself, and to be done twice.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Final

from capture.capture_facts import CaptureFacts, LeftByLater
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.frame_files import FolderLock
from capture.journal_folder import journals_in, left_behind
from capture.recorder_process import RecorderProcess
from capture.retention import Retention
from capture.sealing import opened_text
from capture.segments import MARKER_NAME, set_damaged_aside

_PATIENCE_S: Final = 30.0


@dataclasses.dataclass(frozen=True)
class Recovered:
    """Rows made segments now, how many of them were in flight, and the files set aside as damaged."""

    rows: int
    in_flight: int
    damaged: tuple[Path, ...]


def recover_folder(folder: Path, keys: Keys | None = None, *, patience_s: float = _PATIENCE_S) -> Recovered:
    """Make segments of all that a capture into `folder` left, and end it: only segments stay.

    Processes of that capture that still write are waited for. Raises `BadInput` when they don't end, when
    the facts of the capture can't be read, also for want of its `keys`, or when the disk refuses; what was
    left is there still then.
    """
    lock = FolderLock(folder / MARKER_NAME)
    until_s = time.monotonic() + patience_s
    while not lock.take():
        if time.monotonic() >= until_s:
            raise BadInput(f"{folder}: a capture writes here still; end it (SIGTERM) and try again")
        time.sleep(0.1)
    try:
        facts = _facts(folder, keys)
        recovered = _finish(facts) if facts is not None else Recovered(0, 0, ())
        damaged = tuple(set_damaged_aside(folder, keys))
        if facts is not None:
            shutil.rmtree(facts.spool, ignore_errors=True)
        (folder / MARKER_NAME).unlink(missing_ok=True)
        return dataclasses.replace(recovered, damaged=damaged)
    except OSError as error:
        raise BadInput(f"{folder}: can't be written ({error.strerror or error}); free space first") from error
    finally:
        lock.release()


def _finish(facts: CaptureFacts) -> Recovered:
    options = dataclasses.replace(facts.options, retention=Retention())  # nothing is deleted by a recovery
    process = RecorderProcess(dataclasses.replace(facts, options=options))
    before = process.recorded
    process.run()
    left = journals_in(facts.folder)
    if left:
        raise BadInput(
            f"{left[0]}: could not be made a segment ({process.trouble or 'the disk refuses'}); "
            "free space and recover again: nothing is lost"
        )
    return Recovered(process.recorded - before, process.cut_off, ())


def _facts(folder: Path, keys: Keys | None) -> CaptureFacts | None:
    """What the marker tells, or the newest journal that can be read; None where nothing was left."""
    marker = folder / MARKER_NAME
    journals = journals_in(folder)
    told = [(marker, opened_text(marker.read_bytes(), keys, str(marker)))]
    told += [(path, left_behind(path, keys, to_last_state=False).facts) for path in reversed(journals)]
    trouble = BadInput(f"{folder}: its journals can't be read, and the marker is gone; remove them to go on")
    for place, text in told:
        try:
            if text:
                facts = CaptureFacts.from_json(text, str(place), keys=keys)
                return dataclasses.replace(facts, folder=folder.absolute())
        except LeftByLater:
            raise
        except BadInput as error:
            trouble = error
    if journals:
        raise trouble
    return None
