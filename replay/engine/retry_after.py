"""The Retry-After header: how long a server asked its client to wait. Pure."""

from __future__ import annotations

import email.utils
import re
from typing import Final

MOST_LENGTH: Final = 64
"""Of a header's value that is kept until it is read: longer than any date."""

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def retry_after_s(value: str, date: str = "") -> float | None:
    """Retry-After → s from the answer on (≥ 0); None where it says nothing that can be read.

    RFC 9110, 10.2.3: seconds, which some servers give with a fraction, or an HTTP date in one of its three
    forms. A date counts from the answer's own `Date`, since two clocks need not agree; without one it says
    nothing. An instant that is over by then is 0.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until_s, said_s = _instant_s(value), _instant_s(date)
    return None if until_s is None or said_s is None else max(until_s - said_s, 0.0)


def _instant_s(date: str) -> float | None:
    """An HTTP date as s since the epoch: always in GMT, said or (asctime) not; None for what is none."""
    fields = email.utils.parsedate_tz(date.strip())
    if fields is None:
        return None
    try:
        return float(email.utils.mktime_tz((*fields[:9], fields[9] or 0)))
    except (ValueError, OverflowError):
        return None
