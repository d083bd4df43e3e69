"""A bound on what strangers can make the log say: whoever sends garbage would else fill the disk with it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

MOST_ALIKE: Final = 20
_KINDS: Final = 1000
_LONGEST: Final = 500


class AlikeFilter(logging.Filter):
    """Lets so many messages of a kind through, and then each whose number is a power of two, with the number.

    Alike are messages of one logger that begin with the same 24 characters. Long ones are cut.
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
        if number >= self._most:
            message += f" ({number:,} like it; most are not shown)"
            record.exc_info = record.exc_text = None
        record.msg, record.args = message, None
        return True
