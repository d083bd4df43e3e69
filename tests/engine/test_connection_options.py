"""Connection options by the real command line: what works, and what is refused, in one line each."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import time
from pathlib import Path

import pytest
from connection_rig import Authority, free_port, full_backlog, site
from replay_rig import MS, request

from capture.failures import TargetRefused
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace
from replay.cli.ordering import guarded, without_secrets
from replay.cli.replay_flags import Target
from replay.engine.connecting import Connecting
from replay.engine.run_format import read_run
from replay.engine.target import parse_target
from tests.command_line import peaktape_here

pytestmark = pytest.mark.slow


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Four requests that were captured from production.test:80."""
    rows = [request(i, i * 50 * MS) for i in range(4)]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return tmp_path / "t.parquet"


def replay(trace: Path, target: str, *options: object) -> subprocess.CompletedProcess[str]:
    wide = ("--max-lateness", "9s", "--max-lateness-p99", "9s")
    given = ("replay", trace, "--target", target, "-o", "r.parquet", *wide, *options)
    return peaktape_here(*given, cwd=trace.parent)


def assert_answered(said: subprocess.CompletedProcess[str], folder: Path) -> None:
    table, _ = read_run(folder / "r.parquet")
    assert table["status"].to_pylist() == [200] * 4, said.stderr


def assert_one_line(said: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert (said.returncode, said.stderr.count("\n")) == (code, 1), said.stderr
    for word in words:
        assert word in said.stderr


@pytest.mark.parametrize("sender", ["session", "wire"])
def test_a_pinned_name_needs_no_dns(trace: Path, sender: str) -> None:
    with site() as found:
        said = replay(
            trace,
            f"http://name.test:{found.port}",
            *("--resolve", f"name.test:{found.port}:127.0.0.1", "--sender", sender),
        )
    assert_answered(said, trace.parent)
    assert {b"Host: name.test:%d\r\n" % found.port in arrival.head for arrival in found.arrivals} == {True}


@pytest.mark.parametrize("sender", ["session", "wire"])
def test_a_pinned_name_over_tls_with_a_client_certificate(trace: Path, sender: str) -> None:
    authority = Authority(trace.parent)
    certificate, key = authority.issue("client.test")
    with site(tls=authority.server_side("name.test", demand=authority)) as found:
        said = replay(
            trace,
            f"https://name.test:{found.port}",
            *("--resolve", f"name.test:{found.port}:127.0.0.1", "--sender", sender),
            *("--ca", authority.path, "--client-cert", certificate, "--client-key", key),
        )
    assert_answered(said, trace.parent)


@pytest.mark.parametrize("sender", ["session", "wire"])
def test_a_unix_socket(trace: Path, sender: str) -> None:
    with site(unix=trace.parent / "s") as found:
        said = replay(trace, "http://name.test", "--unix-socket", "s", "--sender", sender)
    assert_answered(said, trace.parent)
    assert len(found.arrivals) == 4


def test_a_name_whose_first_address_is_deaf_is_reached_by_another(trace: Path) -> None:
    with site(at=("127.0.0.2", 0)) as found:
        pins = [f"--resolve=name.test:{found.port}:127.0.0.{last}" for last in (1, 2)]
        said = replay(trace, f"http://name.test:{found.port}", *pins)
    assert_answered(said, trace.parent)


@pytest.mark.parametrize(
    ("pin", "code", "words"),
    [
        ("name.test:443", 2, "--resolve 'name.test:443' found, HOST:PORT:ADDRESS wanted"),
        ("name.test:80:other.test", 2, "HOST:PORT:ADDRESS wanted"),
        ("name.test:81:127.0.0.1", 2, "not for the target; name.test:80:ADDRESS wanted"),
        ("name.test:80:93.184.216.34", 4, "93.184.216.34 is a public address; add --allow-host name.test"),
        ("name.test:80:[2606:4700::1111]", 4, "2606:4700::1111 is a public address"),
    ],
)
def test_a_pin_is_checked_like_an_address_of_dns(trace: Path, pin: str, code: int, words: str) -> None:
    assert_one_line(replay(trace, "http://name.test", "--resolve", pin), code, words)


@pytest.mark.parametrize("pin", ["10.0.0.1", "93.184.216.34"])
def test_a_captured_name_stays_captured_wherever_it_is_pinned(trace: Path, pin: str) -> None:
    said = replay(trace, "http://production.test", "--resolve", f"production.test:80:{pin}")
    assert_one_line(said, 4, "the trace was captured from this host")


def test_an_untrusted_certificate_stops_before_the_load(trace: Path) -> None:
    authority = Authority(trace.parent)
    with site(tls=authority.server_side("127.0.0.1")) as found:
        url = f"https://127.0.0.1:{found.port}"
        assert_one_line(replay(trace, url), 2, f"--target {url}: the certificate is not trusted", "with --ca")
    assert not found.arrivals


def test_a_certificate_for_another_host_stops_before_the_load(trace: Path) -> None:
    authority = Authority(trace.parent)
    with site(tls=authority.server_side("name.test")) as found:
        said = replay(trace, f"https://127.0.0.1:{found.port}", "--ca", authority.path)
    assert_one_line(said, 2, "the certificate is not for 127.0.0.1", "--resolve")


@pytest.mark.parametrize("given", [False, True], ids=["missing", "foreign"])
def test_a_client_certificate_that_the_server_does_not_take_stops_before_the_load(
    trace: Path, given: bool
) -> None:
    authority, another = Authority(trace.parent), Authority(trace.parent, "another")
    certificate, key = another.issue("client.test")
    options = ("--client-cert", certificate, "--client-key", key) if given else ()
    with site(tls=authority.server_side("127.0.0.1", demand=authority)) as found:
        said = replay(trace, f"https://127.0.0.1:{found.port}", "--ca", authority.path, *options)
    assert_one_line(said, 2, "the server broke TLS off", "--client-cert")


def test_a_server_without_tls_is_asked_whether_it_is_http(trace: Path) -> None:
    with site(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as found:
        said = replay(trace, f"https://127.0.0.1:{found.port}")
    assert_one_line(said, 2, "no TLS", "is it an http:// target?")


def test_files_that_can_t_be_used_are_one_line(trace: Path) -> None:
    authority = Authority(trace.parent)
    certificate, key = authority.issue("client.test", b"passphrase")
    other, _ = authority.issue("other.test")
    (trace.parent / "empty.pem").touch()
    url = "https://127.0.0.1:9"
    for options, words in [
        (["--ca", "nowhere.pem"], "--ca nowhere.pem: No such file"),
        (["--ca", "empty.pem"], "--ca empty.pem: "),
        (["--client-cert", "nowhere.pem"], "--client-cert nowhere.pem: No such file"),
        (["--client-cert", certificate], "or the key's own file with --client-key"),
        (["--client-cert", certificate, "--client-key", key], "the key is encrypted"),
        (["--client-cert", other, "--client-key", trace.parent / "other.test.cert.pem"], "--client-key"),
        (["--client-key", key], "--client-key: no --client-cert"),
    ]:
        assert_one_line(replay(trace, url, *options), 2, words)
    assert_one_line(
        replay(trace, "http://127.0.0.1:9", "--ca", authority.path), 2, "the target is plain http"
    )


def test_ways_that_lead_nowhere_are_one_line(trace: Path) -> None:
    assert_one_line(
        replay(trace, "http://name.test", "--unix-socket", "gone"), 2, "--unix-socket gone: can't connect"
    )
    assert_one_line(
        replay(trace, "http://name.test", "--unix-socket", "s", "--resolve", "name.test:80:127.0.0.1"),
        2,
        "--resolve: goes not with --unix-socket",
    )
    assert_one_line(
        replay(trace, "http://production.test", "--unix-socket", "gone"), 4, "captured from this host"
    )
    assert_one_line(replay(trace, f"http://127.0.0.1:{free_port()}"), 2, "can't connect")


def test_a_target_that_takes_no_connection_is_waited_for_no_longer_than_told(trace: Path) -> None:
    with full_backlog() as port:
        began_s = time.monotonic()
        said = replay(trace, f"http://127.0.0.1:{port}", "--connect-timeout", "1s")
    assert time.monotonic() - began_s < 10
    assert_one_line(said, 2, "can't connect (no answer)")


@pytest.mark.parametrize("option", ["--first-byte-timeout", "--timeout"])
@pytest.mark.parametrize("sender", ["session", "wire"])
def test_timeouts_end_requests_that_are_not_answered(trace: Path, sender: str, option: str) -> None:
    with site(answer=lambda arrival: time.sleep(3) or b"") as found:
        said = replay(trace, found.url, option, "400ms", "--sender", sender)
    table, _ = read_run(trace.parent / "r.parquet")
    assert table["error"].to_pylist() == ["timeout"] * 4
    assert said.returncode == 3
    assert_one_line(said, 3, "answered none of 4 requests")


def test_a_timeout_of_nothing_is_refused(trace: Path) -> None:
    for option in ("--timeout", "--connect-timeout", "--first-byte-timeout"):
        assert_one_line(replay(trace, "http://127.0.0.1:9", option, "0s"), 2, f"{option}: ")


def test_a_run_holds_no_secret_of_its_command_line() -> None:
    given = ["--proxy", "http://me:secret@a:1", "--proxy=http://me:secret@a:1", "--label", "a@b"]
    assert without_secrets(given) == ("--proxy", "http://a:1", "--proxy=http://a:1", "--label", "a@b")


def test_dns_is_asked_once_and_what_it_says_later_leads_no_one_astray(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host == "production.test":
            raise socket.gaierror
        address = "10.0.0.7" if asked.count(host) == 1 else "93.184.216.34"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    plain = Connecting(parse_target("http://rebinding.test"), 1, 1)
    assert guarded(plain, open_trace(trace), [], Target()).dialled_addresses == ("10.0.0.7",)
    proxied = dataclasses.replace(plain, proxy="http://proxy.test:3128")
    found = guarded(proxied, open_trace(trace), [], Target(allow_host=["rebinding.test"]))
    assert found.dialled_addresses == ("10.0.0.7",)
    assert (asked.count("proxy.test"), found.target.addresses) == (1, ())
    with pytest.raises(TargetRefused, match=r"93\.184\.216\.34 is a public address"):
        guarded(plain, open_trace(trace), [], Target())
