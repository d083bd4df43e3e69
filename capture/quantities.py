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
LARGEST: Final = 1 << 62
"""Of times in ns, sizes and counts: they are int64 wherever they go, and are added up."""
FACTORS: Final = (1e-6, 1e6)
_DURATION: Final = re.compile(r"(?:(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d))+")
_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SHOWN: Final = 80
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(\w+)?")


def quoted(text: str) -> str:
    """`text` in quotes, escaped, for an error of one line: a long one is cut."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def parse_count(text: str, place: str) -> int:
    """A whole number above 0 that int64 holds; raises `BadInput` naming `place`."""
    plain = text.isascii() and text.isdigit() and len(text.lstrip("0")) < 20
    if not plain or not 0 < int(text) <= LARGEST:
        raise BadInput(f"{place}: {quoted(text)} found, a whole number above 0 wanted")
    return int(text)


def parse_duration_ns(text: str, place: str) -> int:
    """ "1m30s", "250ms", "0" → int ns; raises `BadInput` naming `place`."""
    text = text.strip()
    if text == "0":
        return 0
    if not _DURATION.fullmatch(text):
        raise BadInput(f"{place}: {quoted(text)} found, a duration such as 30s, 250ms or 1m30s wanted")
    found_ns = sum(float(number) * UNIT_NS[unit] for number, unit in _PIECE.findall(text))
    if found_ns > LARGEST:
        raise BadInput(f"{place}: {quoted(text)} found, at most {LARGEST // UNIT_NS['d']}d wanted")
    return round(found_ns)


def parse_bytes(text: str, place: str, example: str = "50GB") -> int:
    """ "50GB", "64KiB", "1000" → bytes; raises `BadInput` naming `place`."""
    match = _SIZE.fullmatch(text.strip())
    unit_bytes = UNIT_BYTES.get(match[2] or "B") if match else None
    if match is None or unit_bytes is None or float(match[1]) * unit_bytes > LARGEST:
        raise BadInput(f"{place}: {quoted(text)} found, a size such as {example} wanted")
    return round(float(match[1]) * unit_bytes)


def parse_window_ns(text: str, place: str) -> tuple[int, int]:
    """ "10m..15m" → (start, end) in int ns; raises `BadInput` naming `place` unless start < end."""
    start, dots, end = text.partition("..")
    if not dots:
        raise BadInput(f"{place}: {quoted(text)} found, START..END such as 10m..15m wanted")
    window = (parse_duration_ns(start, place), parse_duration_ns(end, place))
    if window[0] >= window[1]:
        raise BadInput(f"{place}: {quoted(text)} found, a start before the end wanted")
    return window


def parse_factor(text: str, place: str) -> float:
    """A number within `FACTORS`; raises `BadInput` naming `place`."""
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    return check_factor(factor, place, shown=text)


def check_factor(factor: float, place: str, *, shown: str | None = None) -> float:
    """`factor` itself when it is within `FACTORS`; raises `BadInput` naming `place`."""
    least, most = FACTORS
    if not least <= factor <= most:
        found = f"{factor:g}" if shown is None else shown if len(shown) <= _SHOWN else quoted(shown)
        wanted = f"a number from {least:g} to {most:,.0f}" if 0 < factor < math.inf else "a number above 0"
        raise BadInput(f"{place}: {found} found, {wanted} wanted")
    return factor


def parse_share(text: str, place: str) -> float:
    """ "2%" or "0.02" → 0.02; raises `BadInput` naming `place` unless it lies in 0 … 1."""
    number, percent = (text.strip()[:-1], True) if text.strip().endswith("%") else (text.strip(), False)
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise BadInput(f"{place}: {quoted(text)} found, a share such as 2% or 0.02 wanted")
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
            raise BadInput(f"{place}: {quoted(piece)} found in {quoted(text)}, {form} wanted")
        settings[key] = value
    missing = [key for key in wanted if key not in settings]
    if missing:
        raise BadInput(f"{place}: {quoted(text)} lacks {', '.join(missing)}; {form} wanted")
    return settings
