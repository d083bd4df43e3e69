"""The time window of a capture, from what a user types to instants. Functions of values; no clock is read."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Final

from capture.failures import BadInput
from capture.quantities import parse_duration_ns

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_WANTED: Final = "2026-11-25T09:00 or 09:00 wanted, in local time unless it ends in Z or +01:00"


@dataclasses.dataclass(frozen=True)
class TimeWindow:
    """Instants in ns since 1970, None for none. With `for_ns` the capture ends with the window, which begins
    at `from_ns`, or when the capture does."""

    from_ns: int | None = None
    until_ns: int | None = None
    for_ns: int | None = None

    def until(self, begun_ns: int) -> int | None:
        """When the window of a capture that began then ends."""
        if self.for_ns is None:
            return self.until_ns
        return (begun_ns if self.from_ns is None else max(begun_ns, self.from_ns)) + self.for_ns


def window_of(start: str | None, end: str | None, lasts: str | None, now: datetime.datetime) -> TimeWindow:
    """The window of --from, --to and --for; `now` is an instant with its time zone.

    A time without a day is one of today, or, for --to, of the day of --from. Raises `BadInput` for what is
    no instant, for a window that has no length, and for one that is past.
    """
    if end is not None and lasts is not None:
        raise BadInput(f"--for {lasts}: --to {end} ends the window already; leave one of them out")
    begins = None if start is None else _instant(start, "--from", now)
    ends = None if end is None else _instant(end, "--to", begins or now)
    for_ns = None if lasts is None else parse_duration_ns(lasts, "--for")
    if for_ns == 0:
        raise BadInput(f"--for {lasts}: a duration above 0 wanted, such as 10m")
    if begins is not None and ends is not None and ends <= begins:
        raise BadInput(f"--to {end}: {ends:%Y-%m-%dT%H:%M} is not after --from {begins:%Y-%m-%dT%H:%M}")
    if ends is not None and ends <= now:
        raise BadInput(f"--to {end}: is past, it is {now:%Y-%m-%dT%H:%M:%S} now; name a later end")
    return TimeWindow(None if begins is None else _ns(begins), None if ends is None else _ns(ends), for_ns)


def _instant(text: str, place: str, day: datetime.datetime) -> datetime.datetime:
    try:
        if "-" in text or len(text) > len("HH:MM:SS"):
            found = datetime.datetime.fromisoformat(text)
        else:
            found = datetime.datetime.combine(day, datetime.time.fromisoformat(text), day.tzinfo)
    except ValueError:
        raise BadInput(f"{place} {text}: {_WANTED}") from None
    return found if found.tzinfo is not None else found.astimezone()


def _ns(instant: datetime.datetime) -> int:
    return (instant - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
