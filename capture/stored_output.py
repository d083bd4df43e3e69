"""An `s3://` output of a capture: what is made sure of before it begins, and what a recovery sends.

A store is only ever added to: captures with the same output, here or on other machines, are one trace. What
lies in the outbox meanwhile is told in `outbox`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from capture.counts import UploadCounts, readable_bytes
from capture.encryption_keys import Keys
from capture.failures import BadInput
from capture.frame_files import FolderLock
from capture.object_store import ObjectStore, StoreFailure, StoreUrl
from capture.outbox import captures_in, new_capture, outbox_of
from capture.recording import Output
from capture.recovery import Recovered, recover_folder
from capture.retention import Retention
from capture.segments import MARKER_NAME, was_cut_off
from capture.upload_process import UploadOrder

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class StoredOutput:
    """Where a capture goes: `url`, by way of `outbox`, the folder of what is to be sent to that URL."""

    url: StoreUrl
    outbox: Path

    @classmethod
    def named(cls, text: str, outbox: Path) -> StoredOutput:
        """The output of that URL whose segments wait below `outbox`; raises `BadInput`."""
        url = StoreUrl.parse(text)
        return cls(url, outbox_of(url, outbox).absolute())

    def check(self) -> str:
        """See that the store is there; why it can't be reached now, or "".

        Raises `BadInput` when it never will take anything: no such bucket, or no access.
        """
        try:
            ObjectStore(self.url).check()
        except StoreFailure as failure:
            if failure.is_refusal:
                raise failure.as_bad_input(self.url) from failure
            return failure.reason
        return ""

    def begin(self, keys: Keys | None = None) -> tuple[Output, int]:
        """Where a new capture records, and how many rows of earlier ones, cut off here, were recovered.

        One that can't be recovered is told in the log and stays. Raises `BadInput` when the outbox can't be
        written.
        """
        rows = 0
        for capture in self._cut_off():
            try:
                rows += recover_folder(capture, keys).rows
            except BadInput as error:
                logger.warning("peaktape: %s", error)
        output = Output(new_capture(self.outbox), None)
        output.prepare(keys, overwrite=False)
        return output, rows

    def order(self, retention: Retention) -> UploadOrder:
        """What is to be sent, and the bounds to be kept there."""
        return UploadOrder(self.outbox, self.url, retention)

    def recover(
        self, on_turn: Callable[[UploadCounts], None], keys: Keys | None = None
    ) -> tuple[list[Recovered], UploadCounts]:
        """Make segments of what captures left that were cut off, and send all that waits.

        `on_turn` gets the counts after each step; `keys` are those of encrypted captures. Raises `BadInput`
        when there is nothing, or when not all could be sent; it waits still then.
        """
        if not captures_in(self.outbox):
            raise BadInput(
                f"{self.url}: nothing waits for it in {self.outbox.parent}; name another folder with --outbox"
            )
        recovered = [recover_folder(capture, keys) for capture in self._cut_off()]
        uploader = self.order(Retention()).uploader()
        uploader.drain(on_turn=lambda: on_turn(uploader.counts()))
        counts = uploader.counts()
        if counts.waiting_segments:
            raise BadInput(self.left(counts))
        return recovered, counts

    def left(self, counts: UploadCounts) -> str:
        """What is said when something could not be sent."""
        count, size = counts.waiting_segments, readable_bytes(counts.waiting_bytes)
        waits = f"{count:,} segment{'s wait' if count != 1 else ' waits'} in {self.outbox} ({size})"
        way_out = f"send what waits with `peaktape recover {self.url} --outbox {self.outbox.parent}`"
        return f"{self.url}: {counts.trouble or 'not waited for'}; {waits}; {way_out}"

    def _cut_off(self) -> list[Path]:
        """Captures that were killed; one that runs still goes on by itself."""
        found = []
        for capture in captures_in(self.outbox):
            with contextlib.suppress(OSError):
                if was_cut_off(capture) and not FolderLock(capture / MARKER_NAME).is_taken():
                    found.append(capture)
        return found
