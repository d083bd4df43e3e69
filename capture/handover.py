"""What a proxy hands over to the recorder: each exchange goes into the spool by one system call, no more.

The event loop never waits, and nothing is held here: what was handed over is the kernel's, and survives us.
What can't be handed over is dropped and counted by cause. Who takes it is in `recorder_process`, who looks
after that process in `recorder`.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from capture.body_condition import CHOSEN_IF, Condition
from capture.capture_facts import CaptureFacts
from capture.exchange import Exchange
from capture.exchange_frames import ExchangeFrames
from capture.frame_files import TAKEN, SpoolWriter
from capture.journal import Buffer, Kind
from capture.recording_switch import RecordingSwitch
from capture.row_frames import row_frame
from capture.segments import drop_cause

REPORT_S: Final = 1.0
SWITCH_NAME: Final = "switch"


class Handover:
    """One proxy's end of recording the capture that `facts` tells of; `name` is its spool's.

    `opened`, `asked`, `closed`, `not_chosen` and `lost` are called by the event loop, `report` by a thread.
    `trouble` is what the recorder says is wrong, "cause: words", or nothing.
    """

    def __init__(self, facts: CaptureFacts, name: str) -> None:
        self.facts = facts
        self.zero_ns = facts.zero_ns
        self.trouble = ""
        self._spool = SpoolWriter(facts.spool / name)
        self._limit_bytes = min(facts.options.spool_bytes, 4 * facts.options.segment_bytes)
        self._sending = threading.Lock()
        self._frame = ExchangeFrames().frame
        self._asked: set[str] = set()
        self._seen = self._closed = 0
        self._dropped: Counter[str] = Counter()
        self._not_chosen: Counter[str] = Counter()
        self.switch = RecordingSwitch(facts.spool / SWITCH_NAME)
        self._told: dict[str, Any] = {}
        self._refusal = ""

    def opened(self, at_ns: int = 0) -> str:
        """A request was seen; why one that arrives then is not recorded, "" when it is."""
        self._seen += 1
        return self.switch.why_not(at_ns)

    def asked(self, exchange: Exchange, *, head_alone: bool = False) -> None:
        """A request came in: what is known of it by now, or its head alone."""
        if self._put(Kind.ASKED, exchange.asked_values(head_alone=head_alone)):
            self._asked.add(exchange.request_id)
        else:
            exchange.nothing_told()

    def not_chosen(self, reason: str) -> None:
        """A request that was seen is not to be recorded; nothing of it was handed over."""
        self._closed += 1
        self._not_chosen[reason] += 1

    def closed(self, exchange: Exchange, condition: Condition = True) -> None:
        """An exchange is over: what the recorder doesn't know yet is handed over, or it is lost.

        It is recorded if its bodies meet `condition`, which is the recorder's to find out.
        """
        self._closed += 1
        request_id = exchange.request_id
        if request_id not in self._asked:
            self.asked(exchange, head_alone=True)
        if request_id not in self._asked:
            self._dropped[self._cause()] += 1
            return
        self._asked.discard(request_id)
        besides = {} if condition is True else {CHOSEN_IF: condition}
        if not self._put(Kind.ENDED, exchange.ended_values(**besides)):
            self._lose(request_id, self._cause())

    def lost(self, cause: str, request_id: str = "") -> None:
        """A request that was seen can't be recorded."""
        self._closed += 1
        if request_id in self._asked:
            self._asked.discard(request_id)
            self._lose(request_id, cause)
        else:
            self._dropped[cause] += 1

    def _lose(self, request_id: str, cause: str) -> None:
        self._dropped[cause] += 1
        self._hand_over(Kind.LOST, {"request_id": request_id, "cause": cause}, however_full=True)

    def _hand_over(self, kind: Kind, columns: Mapping[str, Any], *, however_full: bool = False) -> bool:
        return self._put(kind, (columns,), however_full=however_full, make=row_frame)

    def _put(
        self,
        kind: Kind,
        what: Sequence[Any],
        *,
        however_full: bool = False,
        make: Callable[..., Sequence[Buffer]] | None = None,
    ) -> bool:
        """Whether a frame of that is in the spool; it is not when the spool is full."""
        spool = self._spool
        if spool.written_bytes - spool.progress[TAKEN] >= self._limit_bytes and not however_full:
            return False
        try:
            frame = (make or self._frame)(kind, *what)
            with self._sending:
                spool.append(frame)
        except OSError as error:
            memory_is_full = error.errno == errno.ENOSPC  # the spool's, which is no disk
            self._refusal = "" if memory_is_full else drop_cause(error)
            return False
        except ValueError:
            self._refusal = "too_large"
            return False
        self._refusal = ""
        return True

    def _cause(self) -> str:
        return self.trouble.split(":")[0] or self._refusal or "queue_full"

    def report(self) -> None:
        """Tell the recorder what was counted here, if that has changed."""
        report = {
            "spool": self._spool.folder.name,
            "seen": self._seen,
            "closed": self._closed,
            "dropped": dict(self._dropped),
            "not_chosen": dict(self._not_chosen),
            **self._besides(),
        }
        if report != self._told and self._hand_over(Kind.COUNTS, report, however_full=True):
            self._told = report

    def _besides(self) -> dict[str, Any]:
        """What else the recorder is told with the counts."""
        return {}

    def close(self) -> None:
        """Nothing more is handed over."""
        self.report()
        self._spool.close()
