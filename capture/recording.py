"""One capture from its first request to its file: output, recorder, proxy, and the merge at the end.

Prints nothing itself: notes and the counter go to the callables that the caller gives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from capture.counts import Counts
from capture.failures import BadInput
from capture.recorder import Recorder, RecorderOptions
from capture.segments import clear_folder, prepare_folder, remove_folder
from capture.trace_format import TraceMetadata
from capture.trace_writer import refuse_existing, write_trace

SEGMENTS_SUFFIX: Final = ".segments"


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

    def prepare(self, *, overwrite: bool) -> None:
        """Raises `BadInput` when the output exists and may not be replaced, or can't be written."""
        if self.file is not None:
            refuse_existing(self.file, overwrite=overwrite)
        prepare_folder(self.folder, overwrite=overwrite)

    def clear(self) -> None:
        """Remove what an earlier capture left in the folder; to be called once the new one can begin."""
        clear_folder(self.folder)


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
) -> Recorded:
    """Record while `serve` serves, then leave the trace at `output`, which has been prepared.

    `show` gets the counts every `show_every_s` from a thread of its own: a terminal that doesn't take the
    line delays nobody. Whatever `serve` raises is raised once everything that was seen is on disk.
    """
    recorder = Recorder(output.folder, options, source, upstreams)
    recorder.start()
    try:
        with _shown(recorder, show, show_every_s):
            serve(recorder)
    except BaseException:
        recorder.stop(empty_too=False)
        with contextlib.suppress(OSError):  # a folder that holds something stays
            output.folder.rmdir()
        raise
    return conclude(recorder, output)


def conclude(recorder: Recorder, output: Output) -> Recorded:
    """Stop `recorder` and leave its trace at `output`: the folder of segments, or the file made of it."""
    recorder.stop()
    counts = recorder.counts()
    if not counts.segment:
        lost = f"nothing could be written ({counts.trouble or 'no segment'})"
        return Recorded(counts, output.folder, f"{output.file or output.folder}: {lost}; free space")
    if output.file is None:
        return Recorded(counts, output.folder)
    try:
        merge_segments(output.folder, output.file, recorder.metadata())
    except (BadInput, KeyboardInterrupt) as error:
        reason = str(error) or f"{output.file}: interrupted"
        found = f"the segments could not be made one file; {output.folder} is a trace as it is"
        return Recorded(counts, output.folder, f"{reason}; {found}")
    remove_folder(output.folder)
    return Recorded(counts, output.file)


def merge_segments(folder: Path, file: Path, metadata: TraceMetadata) -> int:
    """Make one trace file, in arrival order, of a folder of segments; the number of rows.

    The file appears whole or not at all and replaces what is there; the folder stays. Raises `BadInput`.
    """
    from capture.trace_reader import open_trace

    if not metadata.counts.get("recorded"):
        return write_trace(file, (), metadata, overwrite=True)
    return write_trace(file, open_trace(folder).iter_batches(), metadata, overwrite=True)


@contextlib.contextmanager
def _shown(recorder: Recorder, show: Callable[[Counts], None], every_s: float) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            show(recorder.counts())

    thread = threading.Thread(target=run, name="peaktape-counter", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
