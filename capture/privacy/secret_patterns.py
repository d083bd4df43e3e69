"""What a secret looks like in text: vendors' keys, tokens, private keys, passwords in assignments, cards.

`SecretFinder.find` is the judge: it says where a decoded text holds a secret, and of which kind. A pattern
is cheap to write and dear to run over every body, so most are tried only on what could be one: runs of at
least `LONG_RUN` characters without a blank, and places beside a literal. `quick_look` does the same for
undecoded bytes in some tens of microseconds.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from capture.privacy.vendor_keys import VENDOR_PATTERNS, beginnings

LONG_RUN: Final = 16
"""A secret without a telling literal beside it is at least this long."""
_LOOK_BACK: Final = 48

BEARER: Final = "bearer_token"
PRIVATE_KEY: Final = "private_key"
PASSWORD_IN_URL: Final = "password_in_url"  # noqa: S105 - a kind, no password
ASSIGNED: Final = "assigned_secret"
CARD: Final = "payment_card"
DEFAULT_KINDS: Final = (*VENDOR_PATTERNS, BEARER, PRIVATE_KEY, PASSWORD_IN_URL, ASSIGNED, CARD)
MARKS: Final = ("[REDACTED:", "REDACTED")
"""How a value begins that stands for one that was taken out."""
EMAIL: Final = "email"
US_SSN: Final = "us_ssn"
IBAN: Final = "iban"
OPTIONAL_KINDS: Final = (EMAIL, US_SSN, IBAN)
"""Personal data rather than secrets: found only when asked for."""

_RUN: Final = re.compile(rf"[A-Za-z0-9_.+/=-]{{{LONG_RUN},}}")
_TELLING_WORD: Final = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|credential|authorization"
    r"|(?:api|access|private|auth|account|subscription|shared|master)[_-]?key)s?(?:[_-]?(?:key|id|value))?"
)
_ASSIGNMENT: Final = re.compile(
    rf"(?<![A-Za-z]){_TELLING_WORD}\\*[\"']?\s{{0,2}}(?:=>|:=|[:=])\s{{0,2}}\\*[\"']?$", re.IGNORECASE
)
_ASSIGNED_WITHIN: Final = re.compile(rf"(?:{_TELLING_WORD}|signature|\bsig)=(?=[^=])", re.IGNORECASE)
_BEARER: Final = re.compile(r"(?:bearer|basic)(?:\s|%20|\+){1,3}([A-Za-z0-9_.~+/=-]{16,})", re.IGNORECASE)
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_URL_PASSWORD: Final = re.compile(r"://[^\s/:@\"'<>\\]{0,64}:([^\s/@\"'<>\\]{1,128})@")
_CARD: Final = re.compile(
    r"[2-6](?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5})(?!\w|\.\d)"
)
_CARD_START_IN_TEXT: Final = re.compile(r"\b[2-6]\d{3}")
_LONG_BYTES: Final = 4096
"""From here on it pays to look at a text as an array first."""
_BYTES: Final = [chr(byte) if byte < 128 else "" for byte in range(256)]
_DIGITS: Final = np.array([character.isdigit() for character in _BYTES])
_WORD: Final = np.array([character.isalnum() or character == "_" for character in _BYTES])
_CARD_START: Final = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]\d|7[01]|720)|3[47]|3(?:0[0-5]|[68])|35|6(?:011|5|4[4-9]|2)"
)
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}"
)
_US_SSN: Final = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Found:
    """One secret: it stands at text[start:end]."""

    start: int
    end: int
    kind: str


@dataclasses.dataclass(frozen=True)
class OwnPattern:
    """A user's own kind of secret. A group in the expression narrows what is taken out to that group."""

    kind: str
    expression: str


class SecretFinder:
    """Finds the chosen kinds of secrets. Immutable; two finders with the same arguments find the same."""

    def __init__(self, kinds: Sequence[str] = DEFAULT_KINDS, own: Sequence[OwnPattern] = ()) -> None:
        """Raises ValueError for an unknown kind, re.error for an expression that is none."""
        unknown = set(kinds) - {*DEFAULT_KINDS, *OPTIONAL_KINDS}
        if unknown:
            raise ValueError(f"unknown kind of secret: {sorted(unknown)[0]}")
        self.kinds = tuple(kind for kind in (*DEFAULT_KINDS, *OPTIONAL_KINDS) if kind in kinds)
        self.own = tuple(own)
        self._has = frozenset(kinds)
        self._own = tuple((pattern.kind, re.compile(pattern.expression)) for pattern in own)
        vendors = [f"(?P<{kind}>{VENDOR_PATTERNS[kind]})" for kind in self.kinds if kind in VENDOR_PATTERNS]
        self._vendors = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(vendors) or '(?!)'})")

    def find(self, text: str) -> list[Found]:
        """All secrets in `text`, ascending and disjoint; what two kinds cover together is one."""
        found = sorted(self._candidates(text), key=lambda one: (one.start, -one.end))
        kept: list[Found] = []
        for one in found:
            if not kept or one.start >= kept[-1].end:
                kept.append(one)
            elif one.end > kept[-1].end:  # what two kinds cover together is secret as a whole
                kept[-1] = Found(kept[-1].start, one.end, kept[-1].kind)
        return kept

    def _candidates(self, text: str) -> Iterator[Found]:
        for run in _RUN.finditer(text):
            yield from self._in_run(text, run.start(), run.end())
        if BEARER in self._has and ("earer" in text or "EARER" in text or "asic" in text or "ASIC" in text):
            yield from _groups(BEARER, _BEARER, text)
        if PRIVATE_KEY in self._has and "-----BEGIN" in text:
            yield from _groups(PRIVATE_KEY, _PEM, text)
        if "@" in text:
            if PASSWORD_IN_URL in self._has and "://" in text:
                yield from _groups(PASSWORD_IN_URL, _URL_PASSWORD, text)
            if EMAIL in self._has:
                yield from _groups(EMAIL, _EMAIL, text)
        if CARD in self._has:
            yield from _cards(text)
        if US_SSN in self._has:
            yield from _groups(US_SSN, _US_SSN, text)
        if IBAN in self._has:
            yield from (Found(*m.span(), IBAN) for m in _IBAN.finditer(text) if is_iban(m[0]))
        for kind, expression in self._own:
            yield from _groups(kind, expression, text)

    def _in_run(self, text: str, start: int, end: int) -> Iterator[Found]:
        for match in self._vendor_keys(text, start, end):
            yield Found(*match.span(), match.lastgroup or "")
        if ASSIGNED not in self._has:
            return
        within = _assignment_within(text, start, end)
        value = within.end() if within else start
        named = within or _ASSIGNMENT.search(text[max(0, start - _LOOK_BACK) : start])
        if named and looks_random(text[value:end]):
            yield Found(value, end, ASSIGNED)

    def _vendor_keys(self, text: str, start: int, end: int) -> Iterator[re.Match[str]]:
        if end - start < _LONG_BYTES:
            yield from self._vendors.finditer(text, start, end)
            return
        over = start
        # To try every pattern at every place takes fifty times as long.
        for at in beginnings(text[start:end].encode()):
            match = self._vendors.match(text, start + at, end) if start + at >= over else None
            if match:
                over = match.end()
                yield match


def _assignment_within(text: str, start: int, end: int) -> re.Match[str] | None:
    """The first match of `_ASSIGNED_WITHIN`; of a long run only what stands before signs is looked at."""
    if end - start < _LONG_BYTES or text.count("=", start, end) > (end - start) // _LOOK_BACK:
        return _ASSIGNED_WITHIN.search(text, start, end)
    sign = text.find("=", start, end)
    while sign >= 0:
        within = _ASSIGNED_WITHIN.search(text, max(start, sign - _LOOK_BACK), min(sign + 2, end))
        if within:
            return within
        sign = text.find("=", sign + 1, end)
    return None


def _cards(text: str) -> Iterator[Found]:
    """Cards whose first digit begins a number; one may begin within what looks like another and is none."""
    over = 0
    for at in _card_starts(text):
        match = _CARD.match(text, at) if at >= over and not _decimal(text, at) else None
        if match and is_card(match[0]):
            over = match.end()
            yield Found(*match.span(), CARD)


def _card_starts(text: str) -> Iterator[int]:
    """Where a number of at least four digits begins that no letter or digit stands before."""
    if len(text) < _LONG_BYTES or not text.isascii():
        yield from (match.start() for match in _CARD_START_IN_TEXT.finditer(text))
        return
    codes = np.frombuffer(b" " + text.encode(), np.uint8)
    digits = _DIGITS[codes]
    begins = digits[1:-3] & digits[2:-2] & digits[3:-1] & digits[4:] & ~_WORD[codes[:-4]]
    yield from np.flatnonzero(begins).tolist()


def _decimal(text: str, at: int) -> bool:
    return at > 1 and text[at - 1] == "." and text[at - 2].isdigit()


def _groups(kind: str, expression: re.Pattern[str], text: str) -> Iterator[Found]:
    group = 1 if expression.groups else 0
    for match in expression.finditer(text):
        start, end = match.span(group)
        if start < end and not text.startswith(MARKS, start):
            yield Found(start, end, kind)


def looks_random(value: str) -> bool:
    """Whether a value is rather generated than a word: long, of digits and letters, without a pattern."""
    if len(value) < LONG_RUN or not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
        return False
    return entropy_bits(value) >= 3.0


def entropy_bits(value: str) -> float:
    """Shannon entropy of the characters of `value`, in bits per character; 0.0 of an empty one."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())


def is_card(text: str) -> bool:
    """Whether the digits of `text` are a payment card's number: a known issuer, and the Luhn check holds."""
    digits = [int(character) for character in text if character.isdigit()]
    if not 13 <= len(digits) <= 19 or not _CARD_START.match("".join(map(str, digits))):
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` is an IBAN: length and the check of ISO 7064 (mod 97) hold."""
    bare = text.replace(" ", "")
    if not 15 <= len(bare) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in bare[4:] + bare[:4])) % 97 == 1
