"""May a replay fire there? Every row of the table is a way to hit production by accident, or not to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from capture.failures import BadInput, TargetRefused
from replay.engine.target import Guard, Target, parse_target, pinned_addresses, split_authority

PRODUCTION = {("api.prod.test", 443)}
PRODUCTION_ADDRESSES = {("203.0.113.7", 443)}


def check_target(
    target: Target,
    addresses: Iterable[str],
    captured: Iterable[tuple[str, int]],
    captured_addresses: Iterable[tuple[str, int]],
    *,
    allowed_hosts: Iterable[str] = (),
    allow_captured_host: bool = False,
) -> None:
    words = frozenset(allowed_hosts), allow_captured_host
    Guard(frozenset(captured), frozenset(captured_addresses), *words).check(target, addresses)


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
        ("https://api.prod.test.", ["10.0.0.1"], [], "captured from this host"),  # the same name, absolute
        ("https://staging.example.com.", ["93.184.216.34"], ["staging.example.com"], None),
        ("https://bücher.test", ["93.184.216.34"], ["xn--bcher-kva.test"], None),
        ("http://[2001:0:5db8:d822::1]", ["2001:0:5db8:d822::1"], [], "public address"),  # Teredo
        ("http://[64:ff9b:1::5db8:d822]", ["64:ff9b:1::5db8:d822"], [], "public address"),  # local NAT64
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


PROXIED = Guard(frozenset({("api.prod.test", 443)}), frozenset({("10.9.9.9", 443)}))


@pytest.mark.parametrize(
    ("url", "here", "allowed", "refused"),
    [
        ("http://10.1.2.3:8000", [], [], None),
        ("http://127.0.0.1:8000", [], [], None),
        ("http://localhost:8000", [], [], None),
        ("http://93.184.216.34", [], [], "public address"),
        ("http://93.184.216.34", [], ["93.184.216.34"], None),
        ("http://name.test", ["10.1.2.3"], [], "the proxy looks name.test up"),
        ("http://name.test", [], [], "the proxy looks name.test up"),
        ("http://name.test", [], ["NAME.test."], None),
        ("http://127.1", ["127.0.0.1"], [], "the proxy looks 127.1 up"),
        ("https://api.prod.test", [], ["api.prod.test"], "captured from this host"),
        ("https://alias.test", ["10.9.9.9"], ["alias.test"], "captured from this host"),
        ("https://10.9.9.9", [], [], "captured from this host"),
    ],
)
def test_what_a_proxy_may_be_asked_for(
    url: str, here: list[str], allowed: list[str], refused: str | None
) -> None:
    guard = dataclasses.replace(PROXIED, allowed_hosts=frozenset(allowed))
    if refused is None:
        guard.check_behind_proxy(parse_target(url), here)
        return
    with pytest.raises(TargetRefused, match=refused):
        guard.check_behind_proxy(parse_target(url), here)


def test_a_proxy_is_checked_like_a_target() -> None:
    """The load goes to it first; and a "proxy" may be the captured server, given by mistake."""
    with pytest.raises(TargetRefused, match=r"--proxy http://api.prod.test:443: .* captured from this host"):
        PROXIED.check(parse_target("http://api.prod.test:443"), ["10.0.0.1"], option="--proxy")
    with pytest.raises(TargetRefused, match=r"--proxy .*public address"):
        PROXIED.check(parse_target("http://proxy.test"), ["93.184.216.34"], option="--proxy")


def test_the_target_of_a_unix_socket_is_known_by_its_name_alone() -> None:
    guard = Guard(frozenset({("api.prod.test", 443), ("127.0.0.1", 80)}))
    guard.check_socket(parse_target("http://127.0.0.1"))
    guard.check_socket(parse_target("http://staging.test"))
    with pytest.raises(TargetRefused, match="captured from this host"):
        guard.check_socket(parse_target("http://api.prod.test"))
    dataclasses.replace(guard, allow_captured_host=True).check_socket(parse_target("http://api.prod.test"))


def test_pins_give_a_name_its_addresses() -> None:
    target = parse_target("http://Name.test:81")
    pins = ["name.test:81:10.0.0.1", "NAME.test.:81:[::1]", "name.test:82:10.0.0.9", "b.test:81:10.0.0.9"]
    assert pinned_addresses(pins, target) == {"10.0.0.1", "::1"}
    assert pinned_addresses([], target) == frozenset()


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("name.test", "HOST:PORT:ADDRESS wanted"),
        ("name.test:81", "HOST:PORT:ADDRESS wanted"),
        ("name.test:81:other.test", "HOST:PORT:ADDRESS wanted"),
        ("name.test:eighty:10.0.0.1", "HOST:PORT:ADDRESS wanted"),
        (":81:10.0.0.1", "HOST:PORT:ADDRESS wanted"),
        ("name.test:80:10.0.0.1", "not for the target; name.test:81:ADDRESS wanted"),
        ("other.test:81:10.0.0.1", "not for the target; name.test:81:ADDRESS wanted"),
    ],
)
def test_a_pin_that_would_not_hold_is_refused(pin: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        pinned_addresses([pin], parse_target("http://name.test:81"))


def test_an_address_can_t_be_pinned_to_another() -> None:
    """A sender might connect to the address that stands there, and not to the one that was vetted."""
    with pytest.raises(BadInput, match="is an address already"):
        pinned_addresses(["93.184.216.34:80:127.0.0.1"], parse_target("http://93.184.216.34"))
