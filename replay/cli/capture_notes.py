"""What `capture` tells on stderr: lines and a counter for a person, or JSON objects for a log collector."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from capture.counts import Counts, UploadCounts


class Notes(Protocol):
    """Where a capture's notes and counts go; `show_every_s` is how often counts are wanted."""

    show_every_s: float

    def say(self, event: str, text: str, **fields: Any) -> None:
        """Tell of something that happened: `text` for a person, `fields` for a machine."""

    def show(self, counts: Counts) -> None:
        """Tell how the counts stand."""

    def conclude(self, counts: Counts) -> None:
        """Tell how they ended."""

    @contextlib.contextmanager
    def sending(self) -> Iterator[Callable[[UploadCounts], None]]:
        """While the last segments are sent: takes the counts, and tells how far it is."""


class TextNotes:
    """Notes as lines; on a terminal the counter is one line that changes."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.show_every_s = 1.0 if self._console.is_terminal else 10.0

    def say(self, event: str, text: str, **fields: Any) -> None:
        self._console.print(text, markup=False)

    def show(self, counts: Counts) -> None:
        if self._console.is_terminal:
            self._console.file.write(f"\r\x1b[K{counts.line()[: self._console.width - 1]}")
            self._console.file.flush()
        else:
            self._console.print(counts.line(), markup=False)

    def conclude(self, counts: Counts) -> None:
        if self._console.is_terminal:
            self._console.file.write("\r\x1b[K")
        self._console.print(counts.line(), markup=False)

    @contextlib.contextmanager
    def sending(self) -> Iterator[Callable[[UploadCounts], None]]:
        from replay.cli.progress_bar import progress_bar, show_upload

        with progress_bar(self._console) as progress:
            yield show_upload(progress)


class JsonNotes:
    """Notes as JSON lines."""

    show_every_s = 10.0

    def say(self, event: str, text: str, **fields: Any) -> None:
        self._write("info", event, text, fields)

    def show(self, counts: Counts) -> None:
        away = counts.uploads is not None and counts.uploads.trouble
        level = "warning" if counts.trouble or counts.dropped or away else "info"
        self._write(level, "counts", counts.line(), _numbers(counts))

    def conclude(self, counts: Counts) -> None:
        self._write("info", "ended", counts.line(), _numbers(counts))

    @contextlib.contextmanager
    def sending(self) -> Iterator[Callable[[UploadCounts], None]]:
        due_s = time.monotonic() + self.show_every_s

        def show(counts: UploadCounts) -> None:
            nonlocal due_s
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + self.show_every_s
                self._write("info", "sending", counts.line(), dataclasses.asdict(counts))

        yield show

    def fail(self, text: str) -> None:
        """Tell why the capture ends."""
        self._write("error", "failed", " ".join(text.splitlines()), {})

    def _write(self, level: str, event: str, text: str, fields: dict[str, Any]) -> None:
        from capture.structured_log import json_line

        sys.stderr.write(json_line(level, event, text, time.time(), **fields) + "\n")
        sys.stderr.flush()


def log_as_json() -> None:
    """Let this process and those that it starts log as JSON."""
    from capture.structured_log import FORMAT_VARIABLE, stderr_handler

    os.environ[FORMAT_VARIABLE] = "json"
    logging.lastResort = stderr_handler()  # before and after the proxy, which has a handler of its own


def _numbers(counts: Counts) -> dict[str, Any]:
    return {**dataclasses.asdict(counts), "waiting": counts.waiting}
