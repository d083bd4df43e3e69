"""Whether undecoded bytes could hold a secret at all: a fast question, asked of every body.

It may say yes where `SecretFinder` finds nothing, and must never say no where that finds something in a
string of the JSON that the bytes are, however it is escaped. Most bodies hold none, and are then written byte
for byte as they came.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Final

import numpy as np
import numpy.typing as npt

from capture.privacy.secret_patterns import (
    ASSIGNED,
    BEARER,
    CARD,
    EMAIL,
    IBAN,
    LONG_RUN,
    PASSWORD_IN_URL,
    PRIVATE_KEY,
    US_SSN,
    VENDOR_PATTERNS,
    SecretFinder,
)

_OTHER, _LETTER, _DIGIT = 0, 1, 3


def _class_of(byte: int) -> int:
    character = chr(byte)
    if byte >= 128:
        return _OTHER
    if character.isdigit():
        return _DIGIT
    return _LETTER if character.isalpha() or character in "_.+/=-" else _OTHER


_DIGITS: Final = np.frombuffer(b"0123456789", np.uint8)
_CLASSES: Final = bytes(map(_class_of, range(256)))
_ESCAPE: Final = re.compile(rb"\\+u00([2-7][0-9A-Fa-f])")
_VENDORS: Final = re.compile("|".join(VENDOR_PATTERNS.values()).encode())
_SECRET_WORD: Final = re.compile(
    rb"passw|passphrase|pwd|secret|token|credential|auth|sig|(?:api|access|private|account|subscription"
    rb"|shared|master)[_-]?key",
    re.IGNORECASE,
)
_SECRET_NAME: Final = re.compile(
    rb"passw|passphrase|pwd|secret|token(?!s)|credential|auth|cookie|jwt|(?:api|access|private|account"
    rb"|subscription|shared|master|license|functions)[_-]?keys?|[_-]key$",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(rb"(?:earer|asic|EARER|ASIC)[^A-Za-z0-9]{1,8}(?:20)?$")
_CARD: Final = re.compile(rb"[2-6]\d{3}(?:[ -]?\d){9,15}")
_SSN: Final = re.compile(rb"\d{3}-\d\d-\d{4}")
_IBAN: Final = re.compile(rb"[A-Z]{2}\d\d ?[A-Z0-9]{4} ?[A-Z0-9]{4}")
_LOOK_BACK: Final = 56
_NAME_TAIL: Final = 16
_TAIL: Final = np.arange(-_NAME_TAIL, 0)


def may_hold_secret(raw: bytes, finder: SecretFinder) -> bool:
    """Whether `raw` (text in UTF-8, its content coding taken off) needs to be searched by `finder`."""
    if finder.own:
        return True
    if b"\\" in raw:
        if b"\\u00" in raw:
            raw = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw)
        if b"\\/" in raw:
            raw = raw.replace(b"\\/", b"/")
    classes = np.frombuffer(raw.translate(_CLASSES), np.uint8)
    return (
        _beside_a_literal(raw, finder.kinds)
        or _in_a_long_run(raw, classes, finder.kinds)
        or (CARD in finder.kinds and _card(raw, classes))
        or (ASSIGNED in finder.kinds and _member_of_a_secret_name(raw))
    )


def _beside_a_literal(raw: bytes, kinds: tuple[str, ...]) -> bool:
    if b"@" in raw and (EMAIL in kinds or (PASSWORD_IN_URL in kinds and b"://" in raw)):
        return True
    if PRIVATE_KEY in kinds and b"-----BEGIN" in raw:
        return True
    if US_SSN in kinds and _SSN.search(raw):
        return True
    return IBAN in kinds and _IBAN.search(raw) is not None


def _in_a_long_run(raw: bytes, classes: npt.NDArray[np.uint8], kinds: tuple[str, ...]) -> bool:
    """A run of at least `LONG_RUN` characters that is a vendor's key, or stands behind a telling word."""
    inside = np.empty(len(raw) + 2, bool)
    inside[0] = inside[-1] = False
    np.not_equal(classes, _OTHER, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts = edges[::2]
    long = np.flatnonzero(edges[1::2] - starts >= LONG_RUN)
    if not len(long):
        return False
    spans = list(zip(starts[long].tolist(), edges[1::2][long].tolist(), strict=True))
    runs = b" ".join({raw[start:end] for start, end in spans})
    if _VENDORS.search(runs) or (BEARER in kinds and (b"earer" in runs or b"EARER" in runs)):
        return True
    before = {raw[max(0, start - _LOOK_BACK) : start] for start, _ in spans}
    if BEARER in kinds and any(map(_SCHEME.search, before)):
        return True
    if ASSIGNED not in kinds:
        return False
    if any(near.rstrip(b" \t\\\"'>")[-1:] in (b":", b"=") and _SECRET_WORD.search(near) for near in before):
        return True
    return any(_SECRET_WORD.search(raw, s, min(e, s + 200)) for s, e in spans if raw.find(b"=", s, e) >= 0)


def _card(raw: bytes, classes: npt.NDArray[np.uint8]) -> bool:
    """Whether 13 digits stand together, single blanks and hyphens aside, not behind a decimal point."""
    digits = classes == _DIGIT
    if np.count_nonzero(digits) < 13:
        return False
    inside = np.empty(len(raw) + 2, bool)
    inside[0] = inside[-1] = False
    inside[1:-1] = digits
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    sizes = ends - starts
    whole = starts[(sizes >= 13) & (sizes <= 19)]
    if len(whole):
        padded = np.frombuffer(b"  " + raw, np.uint8)
        point, digit = padded[whole + 1] == ord("."), np.isin(padded[whole], _DIGITS)
        if not np.all(point & digit):
            return True
    four = starts[sizes == 4]
    return any(_CARD.match(raw, start) for start in four.tolist())


def _member_of_a_secret_name(raw: bytes) -> bool:
    """Whether a JSON member's name (what stands before a quote and a colon) is that of a credential."""
    if b'"' not in raw:
        return False
    codes = np.frombuffer(raw, np.uint8)
    quotes = np.flatnonzero(codes[:-1] == ord('"'))
    following = codes[quotes + 1]
    # Whitespace may stand between: then the name is looked at as well.
    ends = quotes[(following == ord(":")) | (following == ord(" ")) | (following == ord("\n"))]
    ends = ends[ends >= 1]
    if not len(ends):
        return False
    if ends[0] < _NAME_TAIL:
        raw = b" " * _NAME_TAIL + raw
        codes, ends = np.frombuffer(raw, np.uint8), ends + _NAME_TAIL
    tails = set(codes[ends[:, None] + _TAIL].view(f"S{_NAME_TAIL}").ravel().tolist())
    return any(map(_ends_a_secret_name, tails))


@functools.lru_cache(4096)
def _ends_a_secret_name(tail: bytes) -> bool:
    return _SECRET_NAME.search(tail.rstrip(b"\\").rpartition(b'"')[2]) is not None


def stream_may_hold_secret(raw: bytes, finder: SecretFinder) -> bool:
    """As `may_hold_secret` for a stream of events (or lines), also for a secret that no event holds whole.

    Most events of a stream differ in one string alone. What they have in common is looked at once, and the
    strings joined as a reader would join them.
    """
    separator = b"\n\n" if b"data:" in raw[:4096] or b"\n\n" in raw[:4096] else b"\n"
    events = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(separator)
    if len(events) < 4:
        return len(events) > 1 or may_hold_secret(raw, finder)
    shared = _shared(events[len(events) // 2 - 1], events[len(events) // 2])
    if shared is None:
        return True
    head, tail = shared
    name = head.rpartition(b":")[0].rstrip()[:-1].rpartition(b'"')[2].decode("utf-8", "replace")
    first, last = len(head), -len(tail)
    joined: list[bytes] = []
    others: list[bytes] = [head + tail]
    for event in events:
        told = event[first:last] if event.startswith(head) and event.endswith(tail) else None
        if told is not None and b'"' not in told:
            joined.append(told)
        elif event:
            others.append(event)
            if len(others) > 8 + len(events) // 5:
                return True  # too unlike one another for this short way
            joined += _strings_named(name, event)
    return may_hold_secret(b"".join(joined), finder) or may_hold_secret(b"\n".join(others), finder)


def _shared(one: bytes, other: bytes) -> tuple[bytes, bytes] | None:
    """What two events have in common before and after the string in which they differ; None if not that."""
    head = _beginning(one, other)
    begun = max(head.rfind(b'":"') + 3, head.rfind(b'": "') + 4)
    tail = _beginning(one[:begun:-1], other[:begun:-1])[::-1]
    ended = tail.find(b'"')
    return None if begun < 4 or ended < 0 else (head[:begun], tail[ended:])


def _beginning(one: bytes, other: bytes) -> bytes:
    size = min(len(one), len(other))
    unlike = np.flatnonzero(np.frombuffer(one, np.uint8, size) != np.frombuffer(other, np.uint8, size))
    return one[: int(unlike[0]) if len(unlike) else size]


def _strings_named(name: str, event: bytes) -> list[bytes]:
    """All strings of that member name in an event's JSON, in order."""
    texts: list[bytes] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        texts.extend(
            value.encode("utf-8", "replace") for key, value in pairs if key == name and isinstance(value, str)
        )

    try:
        json.loads(event.removeprefix(b"data:"), object_pairs_hook=note)
    except (ValueError, RecursionError):
        return [event]
    return texts
