"""Bounds on what strangers can make the log say: whoever sends garbage would else fill the disk with it, and
what an error quotes may be what no log may hold."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from capture.failures import where_it_failed

MOST_ALIKE: Final = 20
_KINDS: Final = 1000
_LONGEST: Final = 500


class AlikeFilter(logging.Filter):
    """Lets so many messages of a kind through, and then each whose number is a power of two, with the number.

    Alike are messages of one logger that begin with the same 24 characters. Long ones are cut. Of an error
    stays its kind and place.
    """

    def __init__(self, most: int = MOST_ALIKE) -> None:
        super().__init__()
        self._most = most
        self._seen: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        key = (record.name, message[:24])
        if key not in self._seen and len(self._seen) >= _KINDS:
            key = (record.name, "")
        self._seen[key] += 1
        number = self._seen[key]
        if number > self._most and number & (number - 1):
            return False
        if len(message) > _LONGEST:
            message = f"{message[:_LONGEST]} …"
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({where_it_failed(record.exc_info[1])})"
        record.exc_info = record.exc_text = None
        if number >= self._most:
            message += f" ({number:,} like it; most are not shown)"
        record.msg, record.args = message, None
        return True
