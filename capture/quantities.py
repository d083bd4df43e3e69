"""Durations, factors, shares and key=value lists as a user types them. Parsing only, no showing."""

from __future__ import annotations

import math
import re
from typing import Final

from capture.failures import BadInput

UNIT_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 24 * 3600 * 10**9,
}
UNIT_BYTES: Final = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_DURATION: Final = re.compile(r"(?:(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d))+")
_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(\w+)?")


def parse_duration_ns(text: str, place: str) -> int:
    """ "1m30s", "250ms", "0" → int ns; raises `BadInput` naming `place`."""
    text = text.strip()
    if text == "0":
        return 0
    if not _DURATION.fullmatch(text):
        raise BadInput(f"{place}: {text!r} found, a duration such as 30s, 250ms or 1m30s wanted")
    return round(sum(float(number) * UNIT_NS[unit] for number, unit in _PIECE.findall(text)))


def parse_bytes(text: str, place: str, example: str = "50GB") -> int:
    """ "50GB", "64KiB", "1000" → bytes; raises `BadInput` naming `place`."""
    match = _SIZE.fullmatch(text.strip())
    unit_bytes = UNIT_BYTES.get(match[2] or "B") if match else None
    if match is None or unit_bytes is None:
        raise BadInput(f"{place}: {text!r} found, a size such as {example} wanted")
    return round(float(match[1]) * unit_bytes)


def parse_window_ns(text: str, place: str) -> tuple[int, int]:
    """ "10m..15m" → (start, end) in int ns; raises `BadInput` naming `place` unless start < end."""
    start, dots, end = text.partition("..")
    if not dots:
        raise BadInput(f"{place}: {text!r} found, START..END such as 10m..15m wanted")
    window = (parse_duration_ns(start, place), parse_duration_ns(end, place))
    if window[0] >= window[1]:
        raise BadInput(f"{place}: {text!r} found, a start before the end wanted")
    return window


def parse_factor(text: str, place: str) -> float:
    """A finite number above 0; raises `BadInput` naming `place`."""
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    return check_factor(factor, place, shown=text)


def check_factor(factor: float, place: str, *, shown: str | None = None) -> float:
    """`factor` itself when it is finite and above 0; raises `BadInput` naming `place`."""
    if not (math.isfinite(factor) and factor > 0):
        raise BadInput(
            f"{place}: {shown if shown is not None else f'{factor:g}'} found, a number above 0 wanted"
        )
    return factor


def parse_share(text: str, place: str) -> float:
    """ "2%" or "0.02" → 0.02; raises `BadInput` naming `place` unless it lies in 0 … 1."""
    number, percent = (text.strip()[:-1], True) if text.strip().endswith("%") else (text.strip(), False)
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise BadInput(f"{place}: {text!r} found, a share such as 2% or 0.02 wanted")
    return share


def parse_settings(
    text: str, place: str, *, wanted: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, str]:
    """ "at=60s,for=30s,x=4" → its keys and values; raises `BadInput` for unknown, doubled or missing keys."""
    form = ",".join([*(f"{key}=…" for key in wanted), *(f"[{key}=…]" for key in optional)])
    settings: dict[str, str] = {}
    for piece in text.split(","):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not value or key in settings or key not in wanted + optional:
            raise BadInput(f"{place}: {piece!r} found in {text!r}, {form} wanted")
        settings[key] = value
    missing = [key for key in wanted if key not in settings]
    if missing:
        raise BadInput(f"{place}: {text!r} lacks {', '.join(missing)}; {form} wanted")
    return settings
