"""What vendors' keys begin with and look like, and a fast way to where one could begin.

To try every pattern at every place costs 150 ns a byte. Each key begins with one of some fifty triples of
characters; where those may stand is found for a whole body at once, by looking each byte up in three tables.
What else counts as a secret is in `secret_patterns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

VENDOR_PATTERNS: Final[dict[str, str]] = {
    # The prefixes are those that the vendors publish for secret scanners; lengths are kept loose. What must
    # still follow is looked for within a bound: else a body of nothing but beginnings would take hours.
    "anthropic_key": r"sk-ant-[A-Za-z0-9_-]{12,}",
    "openai_key": r"(?:sk|rk|pk)-(?=[A-Za-z_-]{0,80}+[0-9])[A-Za-z0-9_-]{13,}",
    "stripe_key": r"(?:(?:sk|rk|pk)_(?:live|test)|whsec)_[A-Za-z0-9]{12,}",
    "github_token": r"(?:gh[oprsu]_|github_pat_)[A-Za-z0-9_]{12,}",
    "gitlab_token": r"gl(?:pat|rt|dt|cbt|ptt|soat)-[A-Za-z0-9_-]{12,}",
    "slack_token": r"xox[abeoprs]-[A-Za-z0-9-]{11,}|xapp-[A-Za-z0-9-]{12,}",
    "slack_webhook": r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{12,}",
    "google_key": r"AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{16,}|GOCSPX-[A-Za-z0-9_-]{16,}",
    "aws_access_key": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "huggingface_token": r"(?:hf|api_org)_[A-Za-z0-9]{13,}",
    "vendor_key": (
        r"nvapi-[A-Za-z0-9_-]{12,}|gsk_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}|xai-[A-Za-z0-9]{20,}"
        r"|pplx-[A-Za-z0-9]{16,}|fw_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-AgE[A-Za-z0-9_-]{16,}"
        r"|dckr_pat_[A-Za-z0-9_-]{16,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|shp(?:at|ss|ca|pa)_[A-Fa-f0-9]{16,}"
        r"|do[opr]_v1_[a-f0-9]{32,}|hv[bs]\.[A-Za-z0-9_-]{16,}|ATATT[A-Za-z0-9_=-]{20,}|lin_api_[A-Za-z0-9]{16,}"
        r"|dapi[a-f0-9]{32}|PMAK-[a-f0-9-]{24,}|AGE-SECRET-KEY-1[A-Z0-9]{16,}"
    ),
    "jwt": r"eyJ[A-Za-z0-9_-]{8,2048}+(?:\.[A-Za-z0-9_-]{4,}){1,4}",
}
"""Secrets that tell themselves by their beginning. Each matches only within one run of `_RUN` characters."""

_BEGINNINGS: Final = frozenset(
    b"sk- rk- pk- sk_ rk_ pk_ whs gho ghp ghr ghs ghu git glp glr gld glc gls xox xap hoo AIz ya2 GOC AKI ASI"
    b" ABI ACC hf_ api nva gsk r8_ xai ppl fw_ npm pyp dck SG. shp doo dop dor hvb hvs ATA lin dap PMA AGE"
    b" eyJ".split()
)
"""The first three characters of whatever `VENDOR_PATTERNS` match: a test holds the two together."""
_GROUPS: Final = 8
_FEW: Final = 16
_ALPHANUMERIC: Final = np.array([byte < 128 and chr(byte).isalnum() for byte in range(256)])


def _tables() -> list[bytes]:
    """For the first, second and third byte: the groups of beginnings in which it has that place, as bits."""
    tables = [bytearray(256) for _ in range(3)]
    ordered = sorted(_BEGINNINGS)
    for number, beginning in enumerate(ordered):
        for table, byte in zip(tables, beginning, strict=True):
            table[byte] |= 1 << (number * _GROUPS // len(ordered))
    return [bytes(table) for table in tables]


_FIRST, _SECOND, _THIRD = _tables()


def beginnings(raw: bytes) -> Iterator[int]:
    """Where in `raw` the beginning of a vendor's key stands, ascending: no letter or digit is before it.

    But one may be that is the last character of an escape.
    """
    first, second, third = (
        np.frombuffer(raw.translate(table), np.uint8) for table in (_FIRST, _SECOND, _THIRD)
    )
    places = np.flatnonzero(first[:-2] & second[1:-1] & third[2:])
    if len(places) > _FEW:
        codes = np.frombuffer(raw, np.uint8)
        before = codes[np.maximum(places - 1, 0)]
        escape = codes[np.maximum(places - 2, 0)] == ord("\\")
        places = places[(places == 0) | escape | ~_ALPHANUMERIC[before]]
    return (at for at in places.tolist() if raw[at : at + 3] in _BEGINNINGS)
