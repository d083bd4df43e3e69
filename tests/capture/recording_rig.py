"""Exchanges without a proxy, and the recorder's inside without its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capture.capture_facts import CaptureFacts, RecorderOptions
from capture.compaction import compact, rows_in
from capture.encryption_keys import Keys
from capture.exchange import Exchange, RequestHead
from capture.intake import Intake
from capture.journal import read_frames
from capture.journal_folder import JournalFolder, journals_in, left_behind
from capture.recorder import Recorder

SECRET = "secret-canary"


def exchange(number: int, *, body: bytes = b"q", arrival_ns: int | None = None, end: bool = True) -> Exchange:
    """A request with credentials in every place, answered unless `end` is false."""
    head = RequestHead(
        "POST", "http", "h:1", f"/x?key={SECRET}", "HTTP/1.1", [("authorization", f"Bearer {SECRET}")]
    )
    made = Exchange(f"r{number}", head, number if arrival_ns is None else arrival_ns)
    made.whole(body, made.arrival_ns + 1)
    if end:
        made.answered(200, [("set-cookie", SECRET)], made.arrival_ns + 2)
        made.take(b"answer", made.arrival_ns + 3, 1)
        made.finish(made.arrival_ns + 4)
    return made


def ask(recorder: Recorder, made: Exchange) -> None:
    """Hand over a request as the addon does."""
    recorder.opened()
    recorder.asked(made)


def give(recorder: Recorder, *exchanges: Exchange) -> None:
    """Hand over whole exchanges as the addon does."""
    for made in exchanges:
        ask(recorder, made)
        recorder.closed(made)


class Desk:
    """A recorder's end in the proxy and its intake, both in this process."""

    def __init__(self, folder: Path, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.recorder = Recorder(folder, RecorderOptions(**options), "test", ("h:1",))
        self.facts: CaptureFacts = self.recorder.facts
        self.intake = self.new_intake()

    def new_intake(self) -> Intake:
        """An intake as a recorder's process makes one: it goes on from what is there."""
        journals = journals_in(self.folder)
        keys = self.facts.options.keys
        left = left_behind(journals[-1], keys, to_last_state=True) if journals else None
        return Intake(self.facts, JournalFolder(self.folder, keys), left)

    def taken(self) -> bool:
        """Take all that was handed over, until nothing comes; whether anything was written."""
        wrote = False
        while self.intake.turn():
            wrote = True
        return wrote

    def journaled(self) -> list[dict[str, Any]]:
        """The rows in all journals."""
        return [
            row for journal in journals_in(self.folder) for row in rows_in(read_frames(journal.read_bytes()))
        ]

    def on_disk(self) -> bytes:
        """Every byte in the capture's folder."""
        return b"".join(path.read_bytes() for path in self.folder.iterdir())

    def compacted(self, keys: Keys | None = None) -> Iterator[dict[str, int]]:
        """Make segments of all journals; the rows that were lost on the way, by cause."""
        for journal in journals_in(self.folder):
            yield compact(journal, self.facts.metadata({"recorded": self.intake.rows}), keys).dropped


def eventually(condition: Any) -> None:
    """Wait until `condition` holds; AssertionError when it never does."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("what was waited for did not happen")
