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
    SecretFinder,
)
from capture.privacy.vendor_keys import vendor_key_in

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
_WORD: Final = np.array([byte < 128 and (chr(byte).isalnum() or byte == ord("_")) for byte in range(256)])
_ESCAPE: Final = re.compile(rb"\\\\*u00([2-7][0-9A-Fa-f])")  # begins with a literal: found 10 times as fast
_OTHER_ESCAPE: Final = re.compile(rb"\\\\*u[0-9A-Fa-f]{4}")
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
_SCHEMES: Final = (b"earer", b"asic", b"EARER", b"ASIC")
_AFTER_A_SCHEME: Final = re.compile(rb"(?:[^A-Za-z0-9]|20|\\[a-z]){1,16}[A-Za-z0-9_.~+/=-]{16}")
_NESTED: Final = 3
"""So often an escape may have been escaped, as JSON is in a string of JSON."""
_SPACED_COLON: Final = re.compile(rb'"(?:[ \t\r\n]|\\+[nrt])+:')
_AFTER_A_NAME: Final = np.isin(np.arange(256), np.frombuffer(b": \t\r\n\\", np.uint8))
_CARD: Final = re.compile(rb"[2-6]\d{3}(?:[ -]?\d){9,15}")
_SSN: Final = re.compile(rb"\d{3}-\d\d-\d{4}")
_IBAN: Final = re.compile(rb"[A-Z]{2}\d\d ?[A-Z0-9]{4} ?[A-Z0-9]{4}")
_BEFORE_A_VALUE: Final = b" \t\\\"'>"
_MAY_PRECEDE: Final = np.isin(np.arange(256), np.frombuffer(_BEFORE_A_VALUE, np.uint8))
_LOOK_BACK: Final = 56
_NAME_TAIL: Final = 16
_TAIL: Final = np.arange(-_NAME_TAIL, 0)
_FEW: Final = 64
"""So many are looked at one by one; more of them as an array."""


def may_hold_secret(raw: bytes, finder: SecretFinder) -> bool:
    """Whether `raw` (text in UTF-8, its content coding taken off) needs to be searched by `finder`."""
    if finder.own:
        return True
    if b"\\" in raw:
        if b"\\u" in raw:
            for _ in range(_NESTED):
                raw = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw)
                if b"\\u00" not in raw:
                    break
            raw = _OTHER_ESCAPE.sub(b" ", raw)  # no letter or digit that a pattern knows
        if b"\\/" in raw:
            raw = raw.replace(b"\\/", b"/")
    classes = np.frombuffer(raw.translate(_CLASSES), np.uint8)
    return (
        _beside_a_literal(raw, finder.kinds)
        or vendor_key_in(raw)
        or (ASSIGNED in finder.kinds and _assigned(raw, classes))
        or (CARD in finder.kinds and _card(raw, classes))
        or (ASSIGNED in finder.kinds and _member_of_a_secret_name(raw))
    )


def _beside_a_literal(raw: bytes, kinds: tuple[str, ...]) -> bool:
    if b"@" in raw and (EMAIL in kinds or (PASSWORD_IN_URL in kinds and b"://" in raw)):
        return True
    if PRIVATE_KEY in kinds and b"-----BEGIN" in raw:
        return True
    if BEARER in kinds and any(_scheme_in(raw, scheme) for scheme in _SCHEMES):
        return True
    if US_SSN in kinds and _SSN.search(raw):
        return True
    return IBAN in kinds and _IBAN.search(raw) is not None


def _scheme_in(raw: bytes, scheme: bytes) -> bool:
    """Whether something long follows the name of a scheme."""
    at = raw.find(scheme)
    while at >= 0:
        if _AFTER_A_SCHEME.match(raw, at + len(scheme)):
            return True
        at = raw.find(scheme, at + 1)
    return False


def _assigned(raw: bytes, classes: npt.NDArray[np.uint8]) -> bool:
    """A run of at least `LONG_RUN` characters behind a telling word, or one that holds such before a "="."""
    inside = np.empty(len(raw) + 2, bool)
    inside[0] = inside[-1] = False
    np.not_equal(classes, _OTHER, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    long = np.flatnonzero(ends - starts >= LONG_RUN)
    if not len(long):
        return False
    starts, ends = starts[long], ends[long]
    named = starts if len(starts) <= _FEW else _behind_a_sign(raw, starts)
    before = {raw[max(0, start - _LOOK_BACK) : start] for start in named.tolist()}
    if any(
        near.rstrip(_BEFORE_A_VALUE)[-1:] in (b":", b"=") and _SECRET_WORD.search(near) for near in before
    ):
        return True
    if b"=" not in raw:
        return False
    signs = np.flatnonzero(np.frombuffer(raw, np.uint8) == ord("="))
    run = np.searchsorted(starts, signs, side="right") - 1
    signs = signs[(run >= 0) & (signs < ends[run] - 1)]
    return any(map(_SECRET_WORD.search, {raw[max(0, sign - _LOOK_BACK) : sign] for sign in signs.tolist()}))


def _behind_a_sign(raw: bytes, starts: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Those of `starts` that may stand behind a ":" or "=", quotes and blanks between."""
    codes = np.frombuffer(raw, np.uint8)
    found = np.zeros(len(starts), bool)
    open_ = starts > 0
    for back in range(1, 6):
        near = codes[np.maximum(starts - back, 0)]
        found |= open_ & ((near == ord(":")) | (near == ord("=")))
        open_ &= _MAY_PRECEDE[near]
    return starts[found | open_]


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
        before, at = padded[whole], padded[whole + 1]
        decimal = (at == ord(".")) & np.isin(before, _DIGITS)
        in_a_word = _WORD[at] & (before != ord("\\"))  # and not the last of an escape
        if not np.all(decimal | in_a_word):
            return True
    four = starts[(sizes == 4) & (ends < len(raw))]
    following = np.frombuffer(raw, np.uint8)[four + 4]
    four = four[(following == ord(" ")) | (following == ord("-"))]
    return any(_CARD.match(raw, start) for start in four.tolist())


def _member_of_a_secret_name(raw: bytes) -> bool:
    """Whether a JSON member's name (what stands before a quote and a colon) is that of a credential."""
    parts = raw.split(b'":')
    if len(parts) <= _FEW and not _SPACED_COLON.search(raw):
        return any(_ends_a_secret_name(part[-_NAME_TAIL:]) for part in parts[:-1])
    codes = np.frombuffer(raw, np.uint8)
    quotes = np.flatnonzero(codes[:-1] == ord('"'))
    ends = quotes[_AFTER_A_NAME[codes[quotes + 1]]]  # whitespace may stand between
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
