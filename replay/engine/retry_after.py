"""The Retry-After header: how long a server asked its client to wait. Pure."""

from __future__ import annotations

import datetime
import re
from typing import Final

MOST_LENGTH: Final = 64
"""Of a header's value that is kept until it is read: longer than any date."""

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_DATES: Final = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
"""RFC 9110, 5.6.7: IMF-fixdate, RFC 850's, asctime's; all in GMT."""


def retry_after_s(value: str, date: str = "") -> float | None:
    """Retry-After → s from the answer on (≥ 0); None where it says nothing that can be read.

    RFC 9110, 10.2.3: seconds, which some servers give with a fraction, or an HTTP date. A date counts from
    the answer's own `Date`, since two clocks need not agree; without one it says nothing. An instant that is
    over by then is 0.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until, said = _instant(value), _instant(date.strip())
    return None if until is None or said is None else max((until - said).total_seconds(), 0.0)


def _instant(date: str) -> datetime.datetime | None:
    for form in _DATES:
        try:
            return datetime.datetime.strptime(date, form)
        except ValueError:
            continue
    return None
