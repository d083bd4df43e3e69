"""What a HAR that peaktape wrote states in its entries' `_peaktape` member, beyond what HAR can hold.

The HAR standard leaves members that begin with an underscore to whoever writes them. Instants count from the
entry's start. What is not of its column's type is passed over, as a HAR is anybody's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from capture.sse import storable
from capture.trace_format import OUTCOMES

MEMBER: Final = "_peaktape"
_LONGEST_NS: Final = 10**17
_INT32: Final = 2**31


def _is_int(value: Any, least: int, beyond: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < beyond


def _is_instant(value: Any) -> bool:
    return _is_int(value, -_LONGEST_NS, _LONGEST_NS)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == storable(value)


def _or_null(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


_COUNT: Final = _or_null(lambda value: _is_int(value, 0, _INT32))

INSTANTS: Final = ("request_body_ns", "first_byte_ns", "end_ns")
COLUMNS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "request_id": _is_text,
    "session_id": _or_null(_is_text),
    "method": _is_text,
    "scheme": _is_text,
    "host": _is_text,
    "path": _is_text,
    "turn": lambda value: _is_int(value, 0, _INT32),
    "http_version": _is_text,
    "request_body_ns": _or_null(_is_instant),
    "request_bytes": _or_null(lambda value: _is_int(value, 0, 2**62)),
    "outcome": lambda value: value in OUTCOMES,
    "error": _or_null(_is_text),
    "status": _or_null(lambda value: _is_int(value, 0, _INT32)),
    "response_bytes": lambda value: _is_int(value, 0, 2**62),
    "first_byte_ns": _or_null(_is_instant),
    "end_ns": _or_null(_is_instant),
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
    "model": _or_null(_is_text),
    "stream": lambda value: isinstance(value, bool),
    "connection": _or_null(_is_text),
    # Whether there was a body that is not there: a HAR has no word for it.
    "request_body": lambda value: value is None,
    "response_body": lambda value: value is None,
    "response_headers": lambda value: value is None,
}
"""The columns that may be stated, each with its check."""


def stated_in(entry: Mapping[str, Any], arrival_ns: int) -> dict[str, Any]:
    """The columns that `entry` states, checked; instants relative to what `arrival_ns` is relative to."""
    found = entry.get(MEMBER)
    if not isinstance(found, dict):
        return {}
    stated = {name: found[name] for name, fits in COLUMNS.items() if name in found and fits(found[name])}
    for name in INSTANTS:
        if stated.get(name) is not None:
            stated[name] += arrival_ns
    instants, sizes = found.get("chunk_ns"), found.get("chunk_bytes")
    if (
        isinstance(instants, list)
        and isinstance(sizes, list)
        and len(instants) == len(sizes)
        and all(map(_is_instant, instants))
        and all(_is_int(size, 0, _INT32) for size in sizes)
    ):
        stated["chunk_ns"] = [arrival_ns + instant for instant in instants]
        stated["chunk_bytes"] = sizes
    return stated
