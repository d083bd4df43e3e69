"""May a replay fire there? Every row of the table is a way to hit production by accident, or not to."""

from __future__ import annotations

import pytest

from capture.failures import BadInput, TargetRefused
from replay.engine.target import Target, check_target, parse_target, split_authority

PRODUCTION = {("api.prod.test", 443)}
PRODUCTION_ADDRESSES = {("203.0.113.7", 443)}


@pytest.mark.parametrize(
    ("url", "addresses", "allowed", "refused"),
    [
        ("http://127.0.0.1:9000", ["127.0.0.1"], [], None),
        ("http://staging.internal", ["10.1.2.3"], [], None),
        ("http://[::1]:9000", ["::1"], [], None),
        ("https://staging.example.com", ["198.18.0.1"], [], None),  # benchmarking range counts as private
        ("https://staging.example.com", ["93.184.216.34"], [], "public address"),
        ("https://staging.example.com", ["10.0.0.1", "93.184.216.34"], [], "public address"),
        ("https://staging.example.com", ["93.184.216.34"], ["staging.example.com"], None),
        ("https://staging.example.com", ["93.184.216.34"], ["STAGING.example.com"], None),
        ("https://staging.example.com", ["93.184.216.34"], ["example.com"], "public address"),
        ("https://api.prod.test", ["10.0.0.1"], ["api.prod.test"], "captured from this host"),
        ("https://API.prod.test", ["10.0.0.1"], [], "captured from this host"),
        ("https://alias.test", ["203.0.113.7"], ["alias.test"], "captured from this host"),
        ("https://203.0.113.7", ["203.0.113.7"], [], "captured from this host"),
        ("https://api.prod.test:8443", ["10.0.0.1"], [], "captured from this host"),  # whatever the port
        ("https://alias.test", ["::ffff:203.0.113.7"], ["alias.test"], "captured from this host"),
        ("http://[::ffff:93.184.216.34]", ["::ffff:93.184.216.34"], [], "public address"),
    ],
)
def test_the_table(url: str, addresses: list[str], allowed: list[str], refused: str | None) -> None:
    def check() -> None:
        check_target(parse_target(url), addresses, PRODUCTION, PRODUCTION_ADDRESSES, allowed_hosts=allowed)

    if refused is None:
        check()
        return
    with pytest.raises(TargetRefused, match=refused) as failure:
        check()
    assert failure.value.exit_code == 4


@pytest.mark.parametrize(
    ("url", "addresses", "refused"),
    [
        ("http://127.0.0.1:8000", ["127.0.0.1"], True),
        ("http://localhost:8000", ["127.0.0.1", "::1"], True),
        ("http://[::1]:8000", ["::1"], True),
        ("http://0.0.0.0:8000", ["0.0.0.0"], True),
        ("http://127.0.0.2:8000", ["127.0.0.2"], True),
        ("http://127.0.0.1:9000", ["127.0.0.1"], False),
        ("http://localhost:9000", ["127.0.0.1"], False),
    ],
)
def test_on_this_machine_the_port_tells_servers_apart(url: str, addresses: list[str], refused: bool) -> None:
    captured = {("127.0.0.1", 8000)}
    if not refused:
        check_target(parse_target(url), addresses, captured, captured)
        return
    with pytest.raises(TargetRefused, match="captured from this host"):
        check_target(parse_target(url), addresses, captured, captured)


def test_a_name_that_does_not_resolve_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"nowhere\.test does not resolve"):
        check_target(parse_target("http://nowhere.test"), [], set(), set())


def test_the_captured_host_may_be_fired_at_only_by_its_own_flag() -> None:
    target = parse_target("http://127.0.0.1:8000")
    with pytest.raises(TargetRefused):
        check_target(target, ["127.0.0.1"], {("127.0.0.1", 8000)}, set(), allowed_hosts=["127.0.0.1"])
    check_target(target, ["127.0.0.1"], {("127.0.0.1", 8000)}, set(), allow_captured_host=True)


def test_targets_parse_and_print() -> None:
    assert parse_target("https://a.test/v2/") == Target("https", "a.test", 443, "/v2")
    assert parse_target("http://[::1]:8080").base_url == "http://[::1]:8080"
    assert split_authority("A.test:81", 80) == ("a.test", 81)
    assert split_authority("[::1]:81", 80) == ("::1", 81)
    assert split_authority("a.test", 443) == ("a.test", 443)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:9000", "ftp://a", "http://", "http://a:99999", "http://u:p@a", "http://a/?q=1"]
)
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(BadInput, match="--target: "):
        parse_target(text)
