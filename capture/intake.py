"""From the spools to the journal: each request gets its meaning, loses what may not be kept, and is written.

The middle of the recorder's process, and of a recovery. What was read of the spools is noted in the journal
by the same write that holds what came of it, so that nothing is lost or doubled whenever the process is
killed. A disk that refuses costs nothing for a while: what could not be written waits, and nothing more is
read; the spools fill then, and the proxy counts what it can't hand over.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from capture.body_condition import CHOSEN_IF
from capture.capture_facts import CaptureFacts
from capture.exchange_frames import exchange_columns
from capture.failures import where_it_failed
from capture.frame_files import SpoolReader
from capture.journal import Buffer, Frame, Kind
from capture.journal_folder import JournalFolder, LeftBehind
from capture.raw_headers import with_text
from capture.row_choice import RowChoice
from capture.row_frames import columns_of, readable_columns, row_frame
from capture.row_policy import KeptRequest, request_as_kept, row_as_kept
from capture.segments import drop_cause
from capture.semantics import fill_semantics
from capture.sessions import SessionFinder
from capture.trace_format import NOT_ANSWERED

_REFUSED: Final = "refused"
"""In the journal in a request's place: the sample doesn't have it, its end is to be passed over."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Live:
    """A request in flight: as it came, as it may be kept (None: it may not), and its session by header."""

    came: dict[str, Any]
    kept: KeptRequest | None
    session: tuple[str, int] | None
    drawn: bool = True  # whether the sample has been asked, and has it


class Intake:
    """Takes what the proxies of one capture handed over.

    `seen`, `rows`, `dropped` and `not_chosen` are running totals; `rows` counts what is in the journal or a
    segment. `trouble` says what the journal's disk refuses, or "".
    """

    def __init__(self, facts: CaptureFacts, journal: JournalFolder, left: LeftBehind | None = None) -> None:
        self._facts = facts
        self._options = facts.options
        self._journal = journal
        self._sessions = SessionFinder()
        self._live: dict[str, _Live] = {}
        self._spools: dict[str, SpoolReader] = {}
        self.reported: dict[str, dict[str, Any]] = {}
        self._pending: list[Buffer] = []
        self._pending_rows = 0
        self._began = False
        self.opened = self.rows = 0
        self._choice = RowChoice(facts.options.choice)
        self.own_dropped: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.own_expired: Counter[str] = Counter()
        self.upstreams: set[str] = set()
        self.trouble = ""
        if left is not None:
            self._resume(left)

    def _resume(self, left: LeftBehind) -> None:
        state = left.state
        self.opened, self.rows = state.get("opened", 0), state.get("rows", 0) + left.rows_since
        self.own_dropped = Counter(state.get("own_dropped", {}))
        self._choice.not_chosen.update(state.get("own_not_chosen", {}))
        self.left_out = Counter(state.get("left_out", {}))
        self.own_expired = Counter(state.get("own_expired", {}))
        self.reported = dict(state.get("reported", {}))
        self.upstreams = set(state.get("upstreams", ()))
        for name, position in state.get("positions", {}).items():
            if (self._facts.spool / name).is_dir():  # else it was in memory, and the machine went down
                self._spools[name] = SpoolReader(self._facts.spool / name, position)
        for request_id, columns in left.requests.items():
            if _REFUSED in columns:
                self._choice.refuse(request_id)
                continue
            session_id = columns.get("session_id")
            session = None if session_id is None else (session_id, columns.get("turn", 0))
            drawn = columns.get("request_body_ns") is not None
            self._live[request_id] = _Live(columns, KeptRequest(columns, None, Counter()), session, drawn)

    @property
    def seen(self) -> int:
        """Requests seen, as the proxies say or as have come in."""
        told = sum(int(counts.get("seen", 0)) for counts in self.reported.values())
        return max(told, self.opened + self._reported("not_chosen").total())

    @property
    def dropped(self) -> Counter[str]:
        """Requests lost by cause, in the proxies and here."""
        return self._reported("dropped") + self.own_dropped

    @property
    def not_chosen(self) -> Counter[str]:
        """Requests that are not to be recorded by reason, in the proxies and here."""
        return self._reported("not_chosen") + self._choice.not_chosen

    @property
    def own_not_chosen(self) -> Counter[str]:
        """Those that were found out here."""
        return self._choice.not_chosen

    @property
    def expired(self) -> Counter[str]:
        """Segments that were deleted to keep bounds, in the folder or, as the proxy says, in a store."""
        return self._reported("expired") + self.own_expired

    def _reported(self, name: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for counts in self.reported.values():
            total.update(counts.get(name, {}))
        return total

    @property
    def recorded_ns(self) -> list[list[int | None]]:
        """When recording was on, as the first proxy says."""
        return next((told["recorded_ns"] for told in self.reported.values() if "recorded_ns" in told), [])

    @property
    def positions(self) -> dict[str, int]:
        """How far each spool is read, in bytes."""
        return {name: spool.position for name, spool in self._spools.items()}

    @property
    def in_flight(self) -> int:
        """Requests that are not over."""
        return len(self._live)

    @property
    def unread_bytes(self) -> int:
        """What lies in the spools."""
        return sum(spool.unread_bytes for spool in self._spools.values())

    def begin_journal(self) -> bool:
        """Begin the next journal file, which holds what is in flight; False and `trouble` when it can't be.

        What waits to be written belongs to the file before, and goes first.
        """
        if self._pending and not self._write():
            return False
        first: list[Buffer] = []
        for live in self._live.values():
            if live.kept is not None:
                first += row_frame(Kind.REQUEST, live.kept.columns)
        for request_id in self._choice.refused:
            first += row_frame(Kind.REQUEST, {"request_id": request_id, _REFUSED: True})
        try:
            self._journal.begin([*first, *self._state(facts=self._facts.to_json())])
        except OSError as error:
            self._refused(error)
            return False
        self._began = True
        return True

    def turn(self) -> bool:
        """Take what has come and write it down; whether there was any. `trouble` says when it can't be."""
        if not self._began and not self.begin_journal():
            return False
        if self._pending and not self._write():
            return False
        self._find_spools()
        taken = [(spool, spool.take()) for spool in self._spools.values()]
        frames = [frame for _, found in taken for frame in found]
        if not frames:
            return False
        for frame in frames:
            self._pending += self._guarded(frame)
        self._pending += self._state()
        if not self._write():
            return False
        for spool, found in taken:
            if found:
                spool.forget(spool.position)
        return True

    @property
    def is_over(self) -> bool:
        """Whether all proxies are gone; what they left must be taken after that was asked."""
        self._find_spools()
        return all(spool.is_over for spool in self._spools.values())

    def cut_off(self) -> bool:
        """Make rows of what is in flight, nobody being left to end it; whether they are written."""
        while self.turn():
            continue
        if self.trouble or not (self._live or self._choice.refused):
            return not self.trouble
        for request_id in [*self._live, *self._choice.refused]:
            self._pending += self._end({"request_id": request_id, **NOT_ANSWERED})
        self._pending += self._state()
        return self._write()

    def give_up(self) -> None:
        """Count what is in flight, waits or was not read as lost: this is the end, and the disk refuses."""
        cause = self.trouble.split(":")[0] or "disk_error"
        self._find_spools()
        for spool in self._spools.values():
            while frames := spool.take():
                for kind, columns in readable_columns(frames):
                    if kind == Kind.COUNTS:
                        self.reported[columns["spool"]] = columns
        self.rows -= self._pending_rows
        self._pending, self._pending_rows = [], 0
        self._choice.give_up()
        settled = self.rows + self.dropped.total() + self.not_chosen.total()
        self.own_dropped[cause] += max(0, self.seen - settled)
        self._live.clear()

    def remove_spools(self) -> None:
        """All of them is taken or given up: nothing of it may be taken again."""
        for spool in self._spools.values():
            shutil.rmtree(spool.folder, ignore_errors=True)

    def _find_spools(self) -> None:
        for folder in self._facts.spool.glob("proxy-*"):
            if folder.name not in self._spools:
                self._spools[folder.name] = SpoolReader(folder)

    def _guarded(self, frame: Frame) -> Iterable[Buffer]:
        """Whatever goes wrong with one request costs that one, and is counted."""
        try:
            if frame.kind == Kind.ASKED:
                return self._ask(with_text(exchange_columns(frame)))
            if frame.kind == Kind.ENDED:
                return self._end(with_text(exchange_columns(frame)))
            columns = columns_of(frame)
            if frame.kind == Kind.REQUEST:  # by name: of a build before 28 November 2026
                return self._ask(with_text(columns))
            if frame.kind == Kind.END:
                return self._end(with_text(columns))
            if frame.kind == Kind.LOST:
                self._live.pop(columns["request_id"], None)
                self._choice.forget(columns["request_id"])
                return row_frame(Kind.LOST, columns)
            if frame.kind == Kind.COUNTS:
                self.reported[columns["spool"]] = columns
        except Exception as error:
            said = "peaktape: the recorder failed on a request and goes on (%s)"
            logger.error(said, where_it_failed(error))
            self.own_dropped["recorder_error"] += 1
        return ()

    def _ask(self, columns: dict[str, Any]) -> Iterable[Buffer]:
        known = self._live.get(columns["request_id"])
        if known is None:
            self.opened += 1
        session = known.session if known else self._sessions.by_header(columns["request_headers"])
        came = {
            "request_body": None,
            "request_body_ns": None,
            **columns,
            "session_id": session[0] if session else None,
            "turn": session[1] if session else 0,
        }
        drawn = True if known and known.drawn else self._choice.takes(came)
        if drawn is False:
            self._live.pop(columns["request_id"], None)
            self._choice.refuse(columns["request_id"])
            return row_frame(Kind.REQUEST, {"request_id": columns["request_id"], _REFUSED: True})
        kept = None
        try:
            kept = request_as_kept(came, self._options)
        except Exception as error:  # a traceback could show what must not be shown
            said = "peaktape: %s can't be redacted and is dropped (%s)"
            logger.warning(said, columns["request_id"], where_it_failed(error))
        self._live[columns["request_id"]] = _Live(came, kept, session, bool(drawn))
        self.upstreams.add(columns["host"])
        return row_frame(Kind.REQUEST, kept.columns) if kept is not None else ()

    def _end(self, columns: dict[str, Any]) -> Iterable[Buffer]:
        request_id = columns["request_id"]
        condition = columns.pop(CHOSEN_IF, True)
        live = self._live.pop(request_id, None)
        undrawn = live.came if live is not None and not live.drawn else None  # never came whole
        if undrawn is not None and not self._choice.takes({**undrawn, **columns}, at_end=True):
            self._choice.refuse(request_id)
        self._choice.over(request_id, columns)
        if self._choice.is_refused(request_id):
            return row_frame(Kind.LOST, {"request_id": request_id, "cause": "not_chosen"})
        if live is None:
            self.own_dropped["request_lost"] += 1
            return ()
        row = {**NOT_ANSWERED, **live.came, **columns}
        row["session_id"], row["turn"] = live.session or (None, 0)
        if not self._choice.meets(row, condition):
            return row_frame(Kind.LOST, {"request_id": request_id, "cause": "not_chosen"})
        try:
            fill_semantics(row, self._sessions)
        except Exception as error:  # what a request means is worth less than the request
            said = "peaktape: %s is recorded without its meaning (%s)"
            logger.warning(said, request_id, where_it_failed(error))
        try:
            if live.kept is None:
                return self._not_redacted(request_id)
            kept, left_out = row_as_kept(row, columns, live.kept, self._options)
        except Exception as error:
            said = "peaktape: %s can't be redacted and is dropped (%s)"
            logger.warning(said, request_id, where_it_failed(error))
            return self._not_redacted(request_id)
        self.left_out.update(left_out)
        self.rows += 1
        self._pending_rows += 1
        known = live.kept.columns
        news = {name: value for name, value in kept.items() if name not in known or known[name] != value}
        return row_frame(Kind.END, {**news, "request_id": request_id})

    def _not_redacted(self, request_id: str) -> Iterable[Buffer]:
        self.own_dropped["not_redacted"] += 1
        return row_frame(Kind.LOST, {"request_id": request_id, "cause": "not_redacted"})

    def _state(self, **more: str) -> list[Buffer]:
        return row_frame(
            Kind.STATE,
            {
                **more,
                "capture_id": self._facts.capture_id,
                "positions": self.positions,
                "opened": self.opened,
                "rows": self.rows,
                "own_dropped": dict(self.own_dropped),
                "own_not_chosen": dict(self.own_not_chosen),
                "left_out": dict(self.left_out),
                "own_expired": dict(self.own_expired),
                "reported": self.reported,
                "upstreams": sorted(self.upstreams),
            },
        )

    def _write(self) -> bool:
        try:
            self._journal.check_room(sum(len(part) for part in self._pending))
            self._journal.append(self._pending)
        except OSError as error:
            self._refused(error)
            return False
        self._pending, self._pending_rows = [], 0
        self.trouble = ""
        return True

    def _refused(self, error: OSError) -> None:
        self.trouble = f"{drop_cause(error)}: {error.strerror or error}"
