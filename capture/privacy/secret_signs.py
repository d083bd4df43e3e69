"""What a secret cannot do without, as one expression that runs over undecoded bytes in a single pass.

`SecretFinder` and `holds_secret` judge decoded texts; a sign stands in the raw bytes wherever one of them
finds something, however JSON has escaped it, and seldom where not. RE2 looks for all signs at once, some 2 ns
a byte and in linear time whatever the bytes are; it knows no look-around, so signs are a little wider than
what they stand for. How escapes by number are undone, and how streams are looked at, is in `quick_look`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import re2

from capture.privacy.leaves import PLAIN_SECRETS
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
)
from capture.privacy.vendor_keys import VENDOR_PATTERNS

_MEMORY_BYTES: Final = 32 << 20
"""For the automaton's states: what does not fit is found out anew, which takes longer."""
_RUN: Final = rf"[A-Za-z0-9_.+/=-]{{{LONG_RUN}}}"
_KEYS: Final = r"(?:api|access|private|account|subscription|shared|master"
_WORDS: Final = rf"(?:passw|passphrase|pwd|secret|token|credential|auth|sig|{_KEYS})[_-]?key)"
_NAMES: Final = (
    r"(?:token|secret|passwd|password|passphrase|credentials?|signature|cookie|jwt|auth(?:orization)?"
    rf"|{_KEYS}|auth|functions|license)[_-]?keys?)"
)
_WHOLE_NAMES: Final = ("authentication", "pwd", *sorted(PLAIN_SECRETS))
_NO_LETTER: Final = r"(?:^|[^A-Za-z0-9]|\\[A-Za-z])"
_NO_NUMBER: Final = r"(?:^|[^0-9A-Za-z_.]|\\[A-Za-z]|(?:^|[^0-9])\.)"
_END_OF_STRING: Final = r'(?:(?:(?:[^A-Za-z"\\]|\\.)(?:[^"\\]|\\.)*)?"|(?:[^A-Za-z"][^"]*)?\\+")'
"""No further letter of a word, and the string's closing quote; also of a string within a string of JSON."""
_BLANKS: Final = r"(?:[ \t\r\n]|\\+[nrt])*"
_AROUND_A_SIGN: Final = r"[\s\\\"'\x80-\xff]"


def _by_itself(name: str) -> str:
    """A string that is this name and no more, with "_" and "-" wherever."""
    return r"[_-]*".join(("", *name, ""))


def _without_looking_around(pattern: str) -> str:
    """A vendor's pattern as RE2 knows patterns: what must or must not follow is left out."""
    wider = re.sub(r"\(\?[=!][^()]*\)", "", pattern)
    return re.sub(r"\{(\d+),\d*\}\+?", r"{\1,}", wider)


_SIGNS: Final[dict[str, tuple[str, ...]]] = {
    "": (rf"{_NO_LETTER}(?:{'|'.join(map(_without_looking_around, VENDOR_PATTERNS.values()))})",),
    BEARER: (rf"(?i:earer|asic)(?:[^A-Za-z0-9]|20|\\[a-z])+[A-Za-z0-9_.~+/=-]{{{LONG_RUN}}}",),
    PRIVATE_KEY: ("-----BEGIN",),
    PASSWORD_IN_URL: (r'://[^/@"<>]*@',),
    ASSIGNED: (
        rf"(?i:{_WORDS})(?:[A-Za-z_-]|{_AROUND_A_SIGN})*[:=]+>?{_AROUND_A_SIGN}*{_RUN}",
        rf"(?i:{_NAMES}){_END_OF_STRING}{_BLANKS}:",
        rf'[_-](?i:key)\\*"{_BLANKS}:',
        rf'"(?i:{"|".join(map(_by_itself, _WHOLE_NAMES))})\\*"',
    ),
    CARD: (rf"{_NO_NUMBER}[2-6](?:\d{{12}}|\d{{3}}[ -]\d{{4,6}}[ -]\d{{4}})",),
    EMAIL: ("@",),
    US_SSN: (r"\d{3}-\d\d-\d{4}",),
    IBAN: (r"[A-Z]{2}\d\d ?[A-Z0-9]{4} ?[A-Z0-9]{4}",),
}
"""By kind of secret; those of all vendors' keys under ""."""
_NAMED_PAIR: Final = rf'"(?:name|key)\\*"{_BLANKS}:{_BLANKS}\\*"(?:[^"]|\\")*(?i:{_NAMES}|[_-]key\\*")'
"""{"name": …, "value": …}: the secret's name is itself a value, before or behind it."""


def has_sign(raw: bytes, kinds: Sequence[str]) -> bool:
    """Whether something of these kinds could stand in `raw`, numbered escapes undone."""
    with_pairs, without = _searches(tuple(kinds))
    if with_pairs(raw) is None:
        return False
    # A tool may be called "get_token"; nothing is beside that name.
    return with_pairs is without or b"value" in raw or without(raw) is not None


@functools.lru_cache(maxsize=16)
def _searches(kinds: tuple[str, ...]) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    signs = [sign for kind, signs in _SIGNS.items() if not kind or kind in kinds for sign in signs]
    without = _compiled("|".join(signs))
    return _compiled("|".join([*signs, _NAMED_PAIR])) if ASSIGNED in kinds else without, without


def _compiled(expression: str) -> Callable[[bytes], Any]:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    search: Callable[[bytes], Any] = re2.compile(expression.encode(), options).search
    return search
