"""Times of day as a person reads them off a dashboard, and where in a trace they lie.

"2026-11-27T09:55" is an instant; "09:55" is one where the trace has that time once. Without "Z" or "+01:00"
they are UTC. A time is meant as exactly as it is written: 09:55 fits a trace that began at 09:55:20.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Final

from capture.failures import BadInput
from capture.quantities import parse_duration_ns, parse_window_ns, quoted

_S: Final = 10**9
_DAY_NS: Final = 24 * 3600 * _S
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_MOST_NAMED: Final = 4
_FORM: Final = re.compile(
    r"(?:(?P<day>\d{4}-\d\d-\d\d)[Tt ])?(?P<clock>\d\d:\d\d(?P<seconds>:\d\d(?P<part>\.\d{1,6})?)?)"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?"
)


@dataclasses.dataclass(frozen=True)
class WallTime:
    """A time of day as it was given: `text` is what `parse_wall` makes the same of.

    `local_ns` counts from 1970 where it has a day, else from midnight, by its own zone, `zone_ns` east of
    UTC, None where none was given. `grain_ns` is how exactly it was written: to the minute, say.
    """

    text: str
    local_ns: int
    dated: bool
    zone_ns: int | None
    grain_ns: int

    @property
    def utc_ns(self) -> int:
        """`local_ns` by UTC; of a time without a day it may lie on the day before or after."""
        return self.local_ns - (self.zone_ns or 0)

    def __str__(self) -> str:
        return self.text


type Window = tuple[int, int] | tuple[WallTime, WallTime]
"""Start and end: int ns from a trace's first request, or times of day."""


def is_wall(text: str) -> bool:
    """Whether a time of day is meant: no duration and no share has a colon."""
    return ":" in text


def parse_wall(text: str, place: str) -> WallTime:
    """ "2026-11-27T09:55", "09:55:30", either with "Z" or "+01:00"; raises `BadInput` naming `place`."""
    text = text.strip()
    found = _FORM.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        instant = datetime.datetime.fromisoformat(f"{found['day'] or _EPOCH.date()}T{found['clock']}")
        zone = datetime.time.fromisoformat(f"00:00{(found['zone'] or 'Z').upper()}").utcoffset()
    except ValueError:
        raise BadInput(
            f"{place}: {quoted(text)} found, a time such as 2026-11-27T09:55 or 09:55:30 wanted, in UTC "
            "unless it ends in +01:00 or the like"
        ) from None
    return WallTime(
        text,
        local_ns=_ns(instant - _EPOCH),
        dated=found["day"] is not None,
        zone_ns=_ns(zone or datetime.timedelta()) if found["zone"] else None,
        grain_ns=1000 if found["part"] else _S if found["seconds"] else 60 * _S,
    )


def parse_window(text: str, place: str) -> Window:
    """ "10m..15m" or "2026-11-27T09:55..10:20"; raises `BadInput` naming `place`."""
    start, dots, end = (part.strip() for part in text.partition(".."))
    if not dots:
        raise BadInput(f"{place}: {quoted(text)} found, START..END such as 10m..15m or 09:55..10:20 wanted")
    if not (is_wall(start) or is_wall(end)):
        return parse_window_ns(text, place)
    for part in (start, end):
        if not is_wall(part):
            parse_duration_ns(part, place)
            raise BadInput(
                f"{place}: {quoted(text)} found, two times of day or two durations from the trace's start "
                "wanted"
            )
    return parse_wall(start, place), parse_wall(end, place)


def show_instant(since_1970_ns: int) -> str:
    """An instant as `parse_wall` reads it, to the second, in UTC."""
    return f"{_EPOCH + datetime.timedelta(seconds=since_1970_ns // _S):%Y-%m-%dT%H:%M:%S}Z"


@dataclasses.dataclass(frozen=True)
class WallClock:
    """When a trace's first and last request came, in ns since 1970; `name` names it in errors."""

    name: str
    began_ns: int
    ended_ns: int

    def part(self, from_ns: int, to_ns: int) -> WallClock:
        """The clock of a slice, which lies so far from the first request."""
        ended_ns = min(self.ended_ns, self.began_ns + to_ns)
        return WallClock(f"the slice of {self.name}", self.began_ns + from_ns, ended_ns)

    def since_began_ns(self, at: WallTime, place: str) -> int:
        """How long after the first request a time is, in ns, 0 for one of that very minute or second.

        Raises `BadInput` naming `place` for one outside of the trace, and for one without a day that the
        trace has on several.
        """
        return max(0, self._instant_ns(at, place) - self.began_ns)

    def window_ns(self, start: WallTime, end: WallTime, place: str) -> tuple[int, int]:
        """From when to when a stretch goes, in ns from the first request; raises `BadInput` as above.

        An end has its start's zone where it has none; where it has no day, it is the next such time.
        """
        start_ns = self._instant_ns(start, place)
        if end.zone_ns is None:
            end = dataclasses.replace(end, zone_ns=start.zone_ns)
        end_ns = end.utc_ns
        if not end.dated:
            end_ns = start_ns + 1 + (end.utc_ns - start_ns - 1) % _DAY_NS
        if end_ns <= start_ns:
            raise BadInput(f"{place}: {start}..{end} found, a start before the end wanted")
        if end_ns > -(-self.ended_ns // end.grain_ns) * end.grain_ns:
            raise self._outside(end, place)
        return max(0, start_ns - self.began_ns), end_ns - self.began_ns

    def _instant_ns(self, at: WallTime, place: str) -> int:
        least_ns = self.began_ns // at.grain_ns * at.grain_ns
        first_ns = at.utc_ns
        if not at.dated:
            first_ns -= (at.utc_ns - least_ns) // _DAY_NS * _DAY_NS
        times = 1 if at.dated else (self.ended_ns - first_ns) // _DAY_NS + 1
        if not least_ns <= first_ns <= self.ended_ns:
            raise self._outside(at, place)
        if times > 1:
            named = [show_instant(first_ns + nth * _DAY_NS) for nth in range(min(times, _MOST_NAMED))]
            more = f" and {times - len(named):,} more" if times > len(named) else ""
            raise BadInput(
                f"{place}: {at} found, of which {self.name} has {times:,}: {', '.join(named)}{more}; "
                "write which"
            )
        return first_ns

    def _outside(self, at: WallTime, place: str) -> BadInput:
        zone = "" if at.zone_ns is not None else " UTC"
        return BadInput(
            f"{place}: {at}{zone} found, a time within {self.name} wanted, which spans "
            f"{show_instant(self.began_ns)} to {show_instant(self.ended_ns)}"
        )


def _ns(span: datetime.timedelta) -> int:
    return span // datetime.timedelta(microseconds=1) * 1000
