"""Names and values that mark a credential, and the headers that may be kept."""

from __future__ import annotations

import functools
import re
from typing import Final

REDACTED: Final = "REDACTED"
"""Stands where the value of a credential stood."""

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

_KEPT_HEADERS: Final = """
    :authority :method :path :scheme :status
    accept accept-charset accept-encoding accept-language accept-ranges age allow alt-svc
    access-control-allow-credentials access-control-allow-headers access-control-allow-methods
    access-control-allow-origin access-control-expose-headers access-control-max-age
    access-control-request-headers access-control-request-method
    cache-control connection content-disposition content-encoding content-language content-length
    content-location content-range content-type date deprecation etag expect expires
    host http2-settings if-match if-modified-since if-none-match if-range if-unmodified-since
    keep-alive last-modified link location max-forwards mime-version origin pragma prefer
    preference-applied priority proxy-connection range referer retry-after server server-timing
    strict-transport-security sunset te trailer transfer-encoding upgrade upgrade-insecure-requests
    user-agent vary via warning x-content-type-options x-frame-options x-powered-by
    idempotency-key x-idempotency-key
    sec-websocket-accept sec-websocket-extensions sec-websocket-key sec-websocket-protocol
    sec-websocket-version
    grpc-accept-encoding grpc-encoding grpc-message grpc-message-type grpc-status grpc-timeout
    b3 traceparent tracestate uber-trace-id x-b3-parentspanid x-b3-sampled x-b3-spanid x-b3-traceid
    x-amzn-trace-id x-cloud-trace-context correlation-id request-id x-client-request-id x-correlation-id
    x-request-id x-trace-id x-amzn-requestid apim-request-id cf-ray
    session-id session_id conversation-id helicone-session-id x-session-id x-conversation-id x-chat-id
    x-thread-id x-openwebui-chat-id x-litellm-session-id x-claude-code-session-id
    x-tenant x-tenant-id
    anthropic-beta anthropic-version anthropic-organization-id openai-beta openai-model
    openai-organization openai-processing-ms openai-project openai-version x-goog-api-client
    x-forwarded-host x-forwarded-port x-forwarded-proto x-original-url x-forwarded-uri
    x-accel-buffering x-cache x-compute-time x-compute-type x-envoy-upstream-service-time x-gateway-model
    x-inference-time x-model x-model-id x-original-host x-prompt-tokens x-process-time x-queue-time
    x-response-time x-runtime x-should-retry x-stream x-total-time inference-header-content-length
"""
KEPT_HEADERS: Final = frozenset(_KEPT_HEADERS.split())
"""Headers whose value a trace keeps unless the policy says otherwise: what replays, sessions, tracing and
rate limits need, and nothing that names a person or a client's address."""
KEPT_HEADER_PATTERN: Final = (
    r"x-stainless-[a-z-]+|(?:x-|anthropic-)?ratelimit-[a-z-]+|x-ms-(?:region|request-id|client-request-id)"
)
_NAME: Final = re.compile(CREDENTIAL_NAME_PATTERN)
_VALUE: Final = re.compile(CREDENTIAL_VALUE_PATTERN, re.IGNORECASE)
_KEPT: Final = re.compile(KEPT_HEADER_PATTERN)


@functools.lru_cache(maxsize=4096)
def name_is_credential(lower: str) -> bool:
    """Whether a header or parameter of this lower-case name holds a credential."""
    if lower in HARMLESS_NAMES:
        return False
    return lower in CREDENTIAL_NAMES or _NAME.search(lower) is not None


@functools.lru_cache(maxsize=4096)
def header_is_kept(lower: str) -> bool:
    """Whether a header of this lower-case name is on the default allow-list."""
    return lower in KEPT_HEADERS or _KEPT.fullmatch(lower) is not None


def value_is_credential(value: str) -> bool:
    """Whether a header's or parameter's value looks like a credential."""
    return _VALUE.search(value) is not None
