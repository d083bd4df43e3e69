"""Where `capture` goes, a local name or a store: what is done before the recording, and after it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from capture.failures import BadInput

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.recorder import RecorderOptions
    from capture.recording import Output
    from capture.retention import Retention
    from capture.sending import Sending
    from capture.stored_output import StoredOutput
    from replay.cli.capture_flags import Keeping
    from replay.cli.capture_notes import Notes


@dataclasses.dataclass(frozen=True)
class Place:
    """What a recording needs: its output, whether it goes on beside what is there, who sends its segments."""

    output: Output
    goes_on: bool
    sending: Sending | None = None


class Destination(Protocol):
    """Where a capture goes."""

    def bounded(self, options: RecorderOptions) -> RecorderOptions:
        """The options with the bounds of what may lie there."""

    @contextlib.contextmanager
    def opened(self, notes: Notes, keys: Keys | None, *, overwrite: bool, append: bool) -> Iterator[Place]:
        """The place for one recording, prepared; afterwards what was recorded is where it should be.

        Raises `BadInput` when it can't be prepared, or when something has not got there.
        """

    def trace(self, recorded: Path) -> str:
        """What the trace is called of which `recorded` tells where it lies here."""


@dataclasses.dataclass(frozen=True)
class LocalDestination:
    """A file or a folder."""

    name: Path
    retention: Retention

    def bounded(self, options: RecorderOptions) -> RecorderOptions:
        return dataclasses.replace(options, retention=self.retention)

    @contextlib.contextmanager
    def opened(self, notes: Notes, keys: Keys | None, *, overwrite: bool, append: bool) -> Iterator[Place]:
        from capture.recording import Output

        output = Output.named(self.name)
        recovered = output.prepare(keys, overwrite=overwrite, append=append)
        if recovered is not None:
            _tell_recovered(notes, recovered.rows)
        yield Place(output, append or recovered is not None)

    def trace(self, recorded: Path) -> str:
        return str(recorded)


@dataclasses.dataclass(frozen=True)
class StoreDestination:
    """A prefix in a bucket, by way of an outbox that holds at most about `outbox_bytes`."""

    stored: StoredOutput
    retention: Retention
    outbox_bytes: int

    def bounded(self, options: RecorderOptions) -> RecorderOptions:
        return dataclasses.replace(options, outbox_bytes=self.outbox_bytes)

    @contextlib.contextmanager
    def opened(self, notes: Notes, keys: Keys | None, *, overwrite: bool, append: bool) -> Iterator[Place]:
        from capture.sending import Sending

        if overwrite:
            raise BadInput(
                f"{self.stored.url}: a store is added to, nothing there is replaced; leave out --overwrite"
            )
        away = self.stored.check()
        if away:
            notes.say("store_away", f"{self.stored.url}: {away}; segments wait in {self.stored.outbox}")
        output, rows = self.stored.begin(keys)
        if rows:
            _tell_recovered(notes, rows)
        sending = Sending(self.stored.order(self.retention))
        sending.start()
        try:
            yield Place(output, True, sending)
            self._finish(sending, notes)
        finally:
            sending.stop()

    def trace(self, recorded: Path) -> str:
        return str(self.stored.url)

    def _finish(self, sending: Sending, notes: Notes) -> None:
        try:
            with notes.sending() as show:
                counts = sending.finish(show)
        except KeyboardInterrupt:
            raise BadInput(self.stored.left(sending.counts())) from None
        notes.say("sent", f"{counts.line()} · {self.stored.url}", url=str(self.stored.url))
        if counts.waiting_segments:
            raise BadInput(self.stored.left(counts))


def destination_of(output: str, asked: Keeping) -> Destination:
    """What the flags name; raises `BadInput` naming the flag."""
    from capture.object_store import is_url
    from capture.quantities import parse_bytes, parse_duration_ns
    from capture.retention import Retention
    from capture.stored_output import StoredOutput

    if not output:
        raise BadInput("--output: nothing found, NAME.parquet, a folder or s3://BUCKET/PREFIX/ wanted")
    retention = Retention(
        max_bytes=None if asked.max_size is None else parse_bytes(asked.max_size, "--max-size"),
        max_age_s=None if asked.max_age is None else parse_duration_ns(asked.max_age, "--max-age") / 1e9,
    )
    if 0 in (retention.max_bytes, retention.max_age_s):
        raise BadInput("--max-size, --max-age: 0 found, a bound above 0 wanted: nothing would be kept")
    if not is_url(output):
        return LocalDestination(Path(output), retention)
    limit_bytes = parse_bytes(asked.outbox_size, "--outbox-size", "10GB")
    return StoreDestination(StoredOutput.named(output, asked.outbox), retention, limit_bytes)


def _tell_recovered(notes: Notes, rows: int) -> None:
    notes.say("recovered", f"recovered {rows:,} rows of a capture that was cut off", rows=rows)
