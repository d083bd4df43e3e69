"""One capture from its first request to its file: output, recorder, proxy, and the merge at the end.

Prints nothing itself: notes and the counter go to the callables that the caller gives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from capture.counts import Counts
from capture.encrypted_parquet import is_encrypted
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.frame_files import FolderLock
from capture.journal_folder import journals_in
from capture.object_store import refuse_url
from capture.periodic import every
from capture.recorder import Recorder, RecorderOptions
from capture.recovery import Recovered, recover_folder
from capture.segments import MARKER_NAME, clear_folder, prepare_folder, remove_folder, was_cut_off
from capture.sending import Sending
from capture.trace_format import TraceMetadata
from capture.trace_writer import refuse_existing, refuse_input, write_trace

SEGMENTS_SUFFIX: Final = ".segments"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Output:
    """Where a capture goes: `folder` takes its segments; `file` is what they become, None to leave them."""

    folder: Path
    file: Path | None

    @classmethod
    def named(cls, name: Path) -> Output:
        """A name that ends in .parquet is one file, any other a folder of segments."""
        if name.suffix == ".parquet":
            return cls(name.with_name(name.name + SEGMENTS_SUFFIX), name)
        return cls(name, None)

    def prepare(self, keys: Keys | None = None, *, overwrite: bool, append: bool = False) -> Recovered | None:
        """Make sure that a capture can go there; what it recovered of one that was cut off, None without.

        Such a capture's rows become segments first, and the new one goes on beside them, unless it may
        overwrite. With `append` it goes on beside segments of any earlier capture. Raises `BadInput` when the
        output exists and may not be replaced, holds the key, can't be written, or holds what `keys` don't
        open.
        """
        if self.file is None and os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise BadInput(f"{self.folder}: a file found, a folder or NAME.parquet wanted; choose another")
        refuse_url(self.folder)
        refuse_input(self.file or self.folder, keys.paths if keys else ())
        if append and (overwrite or self.file is not None):
            found = "--overwrite" if overwrite else f"{self.file}, a file,"
            raise BadInput(f"--append: {found} found, a folder to add segments to wanted; leave one out")
        if self.file is not None:
            refuse_existing(self.file, overwrite=overwrite)
        left = was_cut_off(self.folder) and not overwrite
        if FolderLock(self.folder / MARKER_NAME).is_taken() and overwrite:
            raise BadInput(f"{self.folder}: another capture writes here; choose another name")
        prepare_folder(self.folder, overwrite=overwrite, go_on=left or append)
        recovered = recover_folder(self.folder, keys) if left else None
        if recovered is not None and keys is not None and self.file is None:
            _warn_of_plain(self.folder)
        return recovered

    def clear(self) -> None:
        """Remove what an earlier capture left in the folder; to be called once the new one can begin."""
        clear_folder(self.folder)


def _warn_of_plain(folder: Path) -> None:
    """Say which segments of earlier captures stay as they are, among encrypted ones."""
    plain = [path.name for path in sorted(folder.glob("segment-*.parquet")) if not is_encrypted(path)]
    if plain:
        said = "peaktape: %s: segments of an earlier capture are not encrypted and stay so: %s"
        logger.warning(said, folder, ", ".join(plain[:3]) + (" …" if len(plain) > 3 else ""))


@dataclasses.dataclass(frozen=True)
class Recorded:
    """How a capture ended: its counts, where the trace is, and why it isn't at the output (or "")."""

    counts: Counts
    trace: Path
    trouble: str = ""


def record(
    serve: Callable[[Recorder], None],
    output: Output,
    options: RecorderOptions,
    *,
    source: str,
    upstreams: tuple[str, ...],
    show: Callable[[Counts], None],
    show_every_s: float,
    sending: Sending | None = None,
) -> Recorded:
    """Record while `serve` serves, then leave the trace at `output`, which has been prepared.

    `serve` starts the recorder once the output is clear; what is handed over before that waits.
    `sending` is who sends its segments to a store. `show` gets the counts every `show_every_s` from a thread
    of its own: a terminal that doesn't take the line delays nobody. Whatever `serve` raises is raised once
    everything that was seen is on disk.
    """
    try:
        recorder = Recorder(output.folder, options, source, upstreams, sending)
    except BadInput:
        with contextlib.suppress(OSError):  # a folder that holds something stays
            output.folder.rmdir()
        raise
    try:
        with every(show_every_s, lambda: show(recorder.counts()), "peaktape-counter", wait=False):
            serve(recorder)
    except BaseException:
        recorder.stop(empty_too=False)
        if journals_in(output.folder):
            recorder.let_go()
        else:
            recorder.forget()
        with contextlib.suppress(OSError):  # a folder that holds something stays
            output.folder.rmdir()
        raise
    return conclude(recorder, output)


def conclude(recorder: Recorder, output: Output) -> Recorded:
    """Stop `recorder` and leave its trace at `output`: the folder of segments, or the file made of it."""
    recorder.stop()
    counts = recorder.counts()
    place = output.file or output.folder
    if journals_in(output.folder):
        waits = f"{counts.waiting:,} requests are in the journal still ({counts.trouble or 'no segment'})"
        way_out = f"free space, then `peaktape recover {output.folder}`"
        if counts.recorded or counts.waiting:
            recorder.let_go()
            return Recorded(counts, output.folder, f"{place}: {waits}; {way_out}")
    if not counts.segment and not counts.recorded:
        recorder.forget()
        lost = f"nothing could be written ({counts.trouble or 'no segment'})"
        return Recorded(counts, output.folder, f"{place}: {lost}; free space")
    if output.file is None:
        recorder.forget()
        return Recorded(counts, output.folder)
    try:
        merge_segments(output.folder, output.file, recorder.metadata(), recorder.facts.options.keys)
    except (BadInput, KeyboardInterrupt) as error:
        reason = str(error) or f"{output.file}: interrupted"
        recorder.let_go()
        found = f"the segments could not be made one file; {output.folder} is a trace as it is"
        return Recorded(counts, output.folder, f"{reason}; {found}")
    recorder.forget()
    remove_folder(output.folder)
    return Recorded(counts, output.file)


def recover(name: Path, keys: Keys | None = None) -> tuple[Recovered, Path]:
    """Make a trace of what a capture that was cut off left; what came of it, and where the trace is.

    `name` is what the capture was told (NAME.parquet or a folder), or the folder of the segments. Raises
    `BadInput` when nothing is left there, or when it can't be recovered; it is there still then. With `keys`
    what is left may be encrypted, and the trace is.
    """
    output = Output.named(name)
    if name.name.endswith(f".parquet{SEGMENTS_SUFFIX}"):
        output = Output(name, name.with_name(name.name.removesuffix(SEGMENTS_SUFFIX)))
    if not output.folder.is_dir():
        raise BadInput(f"{output.folder}: no such folder; name what `peaktape capture -o` was given")
    if output.file is None and not was_cut_off(output.folder):
        raise BadInput(f"{output.folder}: nothing to recover, its capture came to its end")
    if output.file is not None:
        refuse_existing(output.file, overwrite=False)
    refuse_input(output.file or output.folder, keys.paths if keys else ())
    recovered = recover_folder(output.folder, keys)
    if output.file is None:
        return recovered, output.folder
    if not any(output.folder.glob("segment-*.parquet")):
        if not recovered.damaged:
            remove_folder(output.folder)
        raise BadInput(f"{output.folder}: no request had reached the recorder; there is no trace to make")
    merge_folder(output.folder, output.file, keys)
    if not recovered.damaged:
        remove_folder(output.folder)
    return recovered, output.file


def merge_folder(folder: Path, file: Path, keys: Keys | None = None) -> int:
    """Make one trace file of all segments in `folder`, of whichever captures; the number of rows."""
    from capture.trace_reader import open_trace

    trace = open_trace(folder, keys)
    return write_trace(file, trace.iter_batches(), trace.metadata, keys=keys)


def merge_segments(folder: Path, file: Path, metadata: TraceMetadata, keys: Keys | None = None) -> int:
    """Make one trace file, in arrival order, of a folder of segments; the number of rows.

    The file appears whole or not at all and replaces what is there; the folder stays. Raises `BadInput`.
    """
    from capture.trace_reader import open_trace

    if not metadata.counts.get("recorded"):
        return write_trace(file, (), metadata, overwrite=True, keys=keys)
    trace = open_trace(
        folder, keys
    )  # whose metadata tells of all its captures, and of the hosts that were seen
    return write_trace(file, trace.iter_batches(), trace.metadata, overwrite=True, keys=keys)
