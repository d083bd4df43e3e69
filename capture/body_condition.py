"""What is left of a filter when all but the bodies is known: a condition on them, as plain values.

The proxy makes it (`filter_stages`) and the recorder's process evaluates it: looking through a body, and
decompressing it first, would hold up every client of the proxy. A condition is True, False, or one of

    ["and", …]   ["or", …]   ["not", condition]   ["request", pattern, flags]   ["response", pattern, flags]
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, Final

type Condition = bool | list[Any]

CHOSEN_IF: Final = "chosen_if"
"""Stands beside the columns of a request's end: the condition under which it is recorded."""


def all_of(parts: Sequence[Condition]) -> Condition:
    """The condition that all of `parts` hold, decided where it can be."""
    if any(part is False for part in parts):
        return False
    rest = [part for part in parts if part is not True]
    return True if not rest else rest[0] if len(rest) == 1 else ["and", *rest]


def any_of(parts: Sequence[Condition]) -> Condition:
    """The condition that one of `parts` holds, decided where it can be."""
    if any(part is True for part in parts):
        return True
    rest = [part for part in parts if part is not False]
    return False if not rest else rest[0] if len(rest) == 1 else ["or", *rest]


def none_of(part: Condition) -> Condition:
    """The condition that `part` does not hold."""
    return not part if isinstance(part, bool) else ["not", part]


def holds(condition: Condition, request: bytes | None, response: bytes | None) -> bool:
    """Whether a condition holds for two bodies, decompressed; one that is None matches nothing.

    Raises ValueError when it is no condition.
    """
    if isinstance(condition, bool):
        return condition
    match condition:
        case ["and", *parts]:
            return all(holds(part, request, response) for part in parts)
        case ["or", *parts]:
            return any(holds(part, request, response) for part in parts)
        case ["not", part]:
            return not holds(part, request, response)
        case ["request" | "response" as side, str(pattern), int(flags)]:
            body = request if side == "request" else response
            return body is not None and _compiled(pattern, flags).search(body) is not None
    raise ValueError(f"{condition!r} found, a condition on bodies wanted")


@functools.lru_cache(maxsize=64)
def _compiled(pattern: str, flags: int) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), flags)
