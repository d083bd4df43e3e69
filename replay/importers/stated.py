"""What results state, member by member: numbers, instants and objects, each refused with its place.

What a member means is each tool's module's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput

Floats = npt.NDArray[np.float64]

LARGEST_S: Final = 9.2e9
"""Seconds since 1970 whose ns fit an int64 (the year 2261); no duration is longer either."""


def number(value: Any, place: str) -> float:
    """A finite number that is not negative; raises `BadInput` naming `place`."""
    found = value
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise BadInput(f"{place}: {_shown(found)} found, a number wanted")
    if not math.isfinite(found) or found < 0:
        raise BadInput(f"{place}: {found} found, a finite number, not negative, wanted")
    return found


def optional_number(value: Any, place: str) -> float | None:
    """As `number`; None for null."""
    return None if value is None else number(value, place)


def seconds_ns(value: Any, place: str) -> int:
    """A number of seconds → int ns; raises `BadInput`."""
    return duration_ns(value, place, 1e9)


def duration_ns(value: Any, place: str, unit_ns: float) -> int:
    """A number of units of `unit_ns` → int ns; raises `BadInput`, also for more than an int64 holds."""
    found = number(value, place)
    if found * (unit_ns / 1e9) > LARGEST_S:
        raise BadInput(f"{place}: {found:g} found, a time below the year 2261 wanted")
    return round(found * unit_ns)


def optional_ns(value: Any, place: str) -> int | None:
    """As `seconds_ns`; None for null."""
    return None if value is None else seconds_ns(value, place)


def many_ns(values: Any, place: str, unit_ns: float = 1e9) -> Floats:
    """A list of numbers → float64 ns, one of which is `unit_ns`; raises `BadInput` naming the wrong one."""
    if values == []:
        return np.empty(0)
    try:
        found = np.asarray(values if isinstance(values, list) else None)
    except ValueError:  # lists among numbers
        found = np.asarray(None)
    if found.dtype.kind not in "iuf" or found.ndim != 1:
        raise BadInput(f"{place}: {_shown(values)} found, a list of numbers wanted")
    wrong = np.flatnonzero(~np.isfinite(found) | (found < 0) | (found * (unit_ns / 1e9) > LARGEST_S))
    if len(wrong):
        raise BadInput(
            f"{place}[{wrong[0]}]: {found[wrong[0]]:g} found, a finite number, not negative, wanted"
        )
    return np.asarray(found * unit_ns, dtype=np.float64)


def count(value: Any, place: str) -> int | None:
    """A count of tokens, None for null or 0 (which stands for unknown in every tool); raises `BadInput`."""
    found = optional_number(value, place)
    if found is not None and (found != int(found) or found >= 2**31):
        raise BadInput(f"{place}: {found:g} found, a count wanted")
    return int(found) if found else None


def member(holder: Any, name: str, place: str, kind: type[Any], way_out: str = "") -> Any:
    """`holder[name]` of type `kind`; raises `BadInput` that ends with the `way_out`."""
    found = holder.get(name) if isinstance(holder, Mapping) else None
    if not isinstance(found, kind):
        what = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}.get(kind, "a value")
        ending = f"; {way_out}" if way_out else ""
        raise BadInput(f"{place}: {name}: {_shown(found)} found, {what} wanted{ending}")
    return found


def rows(holder: Mapping[str, Any], name: str, place: str) -> list[Any]:
    """The list `holder[name]`, [] for null or nothing; raises `BadInput`."""
    return [] if holder.get(name) is None else member(holder, name, place, list)


def text_or_none(value: Any) -> str | None:
    """A text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    said = repr(value)
    return said if len(said) <= 40 else said[:40] + "…"
