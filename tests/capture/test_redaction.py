"""Credentials are found by name and by value; everything else is kept as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy, redacted_names

POLICY = RedactionPolicy()


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "api-key",
        "x-api-key",
        "X-API-Key",
        "x_api_key",
        "apikey",
        "x-goog-api-key",
        "x-amz-security-token",
        "x-auth-token",
        "private-token",
        "x-vault-token",
        "x-csrf-token",
        "ocp-apim-subscription-key",
        "x-functions-key",
        "x-shared-secret",
        "x-hub-signature-256",
        "x-forwarded-authorization",
        "x-password",
        "session_token",
        "openai-api-key",
        "anthropic-api-key",
        "x-forwarded-client-cert",
        "x-jwt-assertion",
        "x-access-key",
        "x-my-key",
        "db-credentials",
    ],
)
def test_credential_headers_lose_their_value_and_keep_their_name(name: str) -> None:
    assert POLICY.headers([(name, "v")]) == [(name, REDACTED)]


@pytest.mark.parametrize(
    "name",
    [
        "content-type",
        "content-length",
        "host",
        "user-agent",
        "accept",
        "x-request-id",
        "x-session-id",
        "traceparent",
        "idempotency-key",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-limit-tokens",
        "sec-websocket-key",
        "openai-organization",
        "keep-alive",
        "x-stainless-lang",
        "anthropic-ratelimit-tokens-remaining",
        "grpc-status",
    ],
)
def test_headers_on_the_list_are_kept(name: str) -> None:
    assert POLICY.headers([(name, "v")]) == [(name, "v")]


@pytest.mark.parametrize("name", ["max-tokens", "author", "x-authored-by", "www-monkey", "x-customer-email"])
def test_headers_that_are_not_on_the_list_keep_their_name_alone_unless_the_policy_names_them(
    name: str,
) -> None:
    assert not POLICY.is_credential(name)
    assert POLICY.headers([(name, "v")]) == [(name, REDACTED)]
    assert RedactionPolicy(kept_headers=(name.upper(),)).headers([(name, "v")]) == [(name, "v")]


@pytest.mark.parametrize(
    "name", ["x-forwarded-for", "x-real-ip", "forwarded", "true-client-ip", "from", "baggage"]
)
def test_headers_that_name_a_person_or_an_address_are_not_on_the_list(name: str) -> None:
    assert POLICY.headers([(name, "192.0.2.1")]) == [(name, REDACTED)]


def test_a_credential_stays_one_even_if_its_header_is_to_be_kept() -> None:
    generous = RedactionPolicy(kept_headers=("authorization", "x-note"))
    pairs = [("authorization", "v"), ("x-note", "key sk-abcdefgh1234567890")]
    assert generous.headers(pairs) == [("authorization", REDACTED), ("x-note", REDACTED)]


@pytest.mark.parametrize(
    "value",
    [
        "Bearer abc",
        "basic dXNlcjpwYXNz",
        "sk-proj-0123456789",
        "hf_abcdefghijklmnop",
        "ghp_0123456789abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "realtime, openai-insecure-api-key.sk-0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
)
def test_values_that_look_like_credentials_are_never_written_whatever_their_name(value: str) -> None:
    assert POLICY.headers([("x-request-id", value)]) == [("x-request-id", REDACTED)]
    assert value not in POLICY.path(f"/v1?q={value.replace(' ', '%20')}")


@pytest.mark.parametrize("value", ["basically fine", "task-0123456789", "risk-assessment-model", "Bearer"])
def test_values_that_only_resemble_credentials_are_kept(value: str) -> None:
    assert POLICY.headers([("x-request-id", value)]) == [("x-request-id", value)]


def test_credential_parameters_are_masked_and_the_rest_of_the_path_is_kept_byte_for_byte() -> None:
    path = "/v1beta/models/g:generate?key=abc&alt=sse&a%70i_key=x&b=%7e+%2F&access_token=&flag&sig=1#f"
    assert POLICY.path(path) == (
        "/v1beta/models/g:generate?key=REDACTED&alt=sse&a%70i_key=REDACTED&b=%7e+%2F"
        "&access_token=REDACTED&flag&sig=REDACTED"
    )
    assert POLICY.path("/bot/sk-0123456789/send") == "/bot/REDACTED/send"


def test_urls_in_headers_lose_their_credentials() -> None:
    pairs = [("Referer", "https://a/b?token=secret&x=1"), ("Location", "/next?page=2")]
    assert POLICY.headers(pairs) == [
        ("Referer", "https://a/b?token=REDACTED&x=1"),
        ("Location", "/next?page=2"),
    ]


def test_further_names_can_be_given_and_change_the_digest() -> None:
    stricter = RedactionPolicy(("X-Tenant",))
    assert stricter.headers([("x-tenant", "acme")]) == [("x-tenant", REDACTED)]
    assert stricter.path("/a?x-tenant=acme") == "/a?x-tenant=REDACTED"
    assert stricter.describe()["sha256"] != POLICY.describe()["sha256"]
    assert POLICY.describe() == RedactionPolicy().describe()


def test_order_and_duplicates_are_kept_and_the_redacted_names_can_be_listed() -> None:
    pairs = [("Cookie", "a"), ("te", "1"), ("cookie", "b"), ("te", "1")]
    redacted = POLICY.headers(pairs)
    assert [name for name, _ in redacted] == [name for name, _ in pairs]
    assert redacted_names(redacted) == ["Cookie", "cookie"]


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_redaction_is_idempotent_on_any_path(path: str) -> None:
    once = POLICY.path(path)
    assert POLICY.path(once) == once
