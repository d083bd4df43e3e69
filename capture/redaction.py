"""What is never written to a trace: credentials in headers and in the query, decided by name and by value.

The header's or parameter's name stays, so that a replay knows what to put back; the value becomes
`REDACTED`. When in doubt it is redacted: a lost header can be given again, a leaked key can't be taken back.
Bodies are not looked into here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

REDACTED: Final = "REDACTED"

CREDENTIAL_NAMES: Final = (
    "authorization",
    "proxy-authorization",
    "authentication",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    "ocp-apim-subscription-key",
    "x-functions-key",
    "x-forwarded-client-cert",
    "key",
    "auth",
    "sig",
    "pwd",
    "jwt",
)
CREDENTIAL_NAME_PATTERN: Final = (
    r"(?:token|secret|passw(?:or)?d|passphrase|credentials?|signature|cookie|jwt|auth|authorization"
    r"|(?:api|access|private|auth|subscription|functions|account|master|shared|license)[-_]?keys?)(?![a-z])"
    r"|[-_]key$"
)
"""A name is a credential's when it holds one of these words. Plural "tokens" counts tokens and stays."""
HARMLESS_NAMES: Final = (
    "idempotency-key",
    "x-idempotency-key",
    "sec-websocket-key",
    "surrogate-key",
    "cache-key",
    "x-cache-key",
    "prompt-cache-key",
)
CREDENTIAL_VALUE_PATTERN: Final = (
    r"^(?:bearer|basic|digest|negotiate|token|apikey|aws4-hmac-sha256)\s+\S"
    r"|(?<![a-z0-9])(?:sk|rk|pk)-[a-z0-9_-]{8,}"
    r"|(?<![a-z0-9])(?:hf_|gh[opsu]_|github_pat_|xox[abps]-|glpat-|nvapi-|gsk_|AIza|AKIA|ASIA)[a-z0-9_-]{12,}"
    r"|(?<![a-z0-9])eyJ[a-z0-9_-]{8,}\.eyJ[a-z0-9_-]{4,}\."
)
"""A value is a credential when it looks like one, whatever its name: schemes, vendors' prefixes, JWT."""
URL_HEADERS: Final = ("referer", "location", "content-location", "link", "x-original-url", "x-forwarded-uri")


@dataclasses.dataclass(frozen=True)
class RedactionPolicy:
    """What counts as a credential. `extra_names` are further header and parameter names, any case."""

    extra_names: tuple[str, ...] = ()

    def headers(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """The header pairs with credential values replaced; names, order and duplicates are kept."""
        return [(name, self._header_value(name, value)) for name, value in pairs]

    def path(self, path: str) -> str:
        """The path with query, credential parameters' values replaced; all else byte for byte."""
        before, mark, query = path.partition("?")
        if _value_is_credential(before):
            before = "/".join(REDACTED if _value_is_credential(part) else part for part in before.split("/"))
        if not mark:
            return before
        return before + mark + "&".join(self._parameter(pair) for pair in query.split("&"))

    def describe(self) -> dict[str, Any]:
        """The policy and its digest, for the trace's metadata."""
        rules = {
            "names": sorted({*CREDENTIAL_NAMES, *(name.lower() for name in self.extra_names)}),
            "name_pattern": CREDENTIAL_NAME_PATTERN,
            "harmless_names": sorted(HARMLESS_NAMES),
            "value_pattern": CREDENTIAL_VALUE_PATTERN,
            "url_headers": sorted(URL_HEADERS),
        }
        digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()
        return {"policy": "credentials", "extra_names": sorted(self.extra_names), "sha256": digest}

    def is_credential(self, name: str) -> bool:
        """Whether a header or parameter of this name holds a credential."""
        lower = name.lower()
        return _name_is_credential(lower) or any(lower == extra.lower() for extra in self.extra_names)

    def _header_value(self, name: str, value: str) -> str:
        if self.is_credential(name) or _value_is_credential(value):
            return REDACTED
        if name.lower() in URL_HEADERS and "?" in value:
            return self.path(value)
        return value

    def _parameter(self, pair: str) -> str:
        name, equals, value = pair.partition("=")
        if self.is_credential(unquote_plus(name)) or _value_is_credential(unquote_plus(value)):
            return f"{name}{equals}{REDACTED}" if equals else name
        return pair


@functools.lru_cache(maxsize=4096)
def _name_is_credential(lower: str) -> bool:
    if lower in HARMLESS_NAMES:
        return False
    return lower in CREDENTIAL_NAMES or re.search(CREDENTIAL_NAME_PATTERN, lower) is not None


_VALUE: Final = re.compile(CREDENTIAL_VALUE_PATTERN, re.IGNORECASE)


def _value_is_credential(value: str) -> bool:
    return _VALUE.search(value) is not None


def redact(row: dict[str, Any], policy: RedactionPolicy) -> None:
    """Take the credentials out of a trace row's headers, trailers and path, in place."""
    row["request_headers"] = policy.headers(row["request_headers"])
    for name in ("response_headers", "request_trailers", "response_trailers"):
        if row.get(name) is not None:
            row[name] = policy.headers(row[name])
    row["path"] = policy.path(row["path"])


def redacted_names(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Names of the headers whose value was taken out, for a replay that must put them back."""
    return [name for name, value in pairs if value == REDACTED]
