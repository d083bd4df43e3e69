"""Replays through an HTTP proxy: absolute form for http, a tunnel for https; and what the guard says."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from connection_rig import Authority, free_port, header, proxy, site
from replay_rig import MS, Replayed, replay_rows, request
from test_connections import LARGE_BYTES, assert_staged, errors

from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.engine.connecting import Connecting, proxy_target
from replay.engine.dialling import connect_time_ns
from replay.engine.run_format import read_run
from replay.engine.target import parse_target
from tests.command_line import peaktape_here

pytestmark = pytest.mark.slow

LEISURE_NS = 150 * MS  # between requests: an answer that takes longer has the next one open a connection


def through(folder: Path, url: str, proxy_url: str, rows: Any = None, **connecting: Any) -> Replayed:
    """A replay at a name that only the proxy knows."""
    return replay_rows(
        folder,
        rows or [request(i, i * 40 * MS) for i in range(6)],
        "http://127.0.0.1:1",
        connecting={
            "target": parse_target(url),
            "proxy": proxy_url,
            "proxy_addresses": ("127.0.0.1",),
        }
        | connecting,
    )


@pytest.mark.alone  # a request that takes long has the next one open a connection of its own
def test_http_goes_in_absolute_form_and_staged(tmp_path: Path) -> None:
    rows = [request(i, i * LEISURE_NS) for i in range(6)]
    with site() as found, proxy({"name.test:80": found.port}) as way:
        done = through(tmp_path, "http://name.test/v2", way.url, rows)
    assert errors(done) == {None}
    assert_staged(done, found)
    assert_staged_at_the_proxy(done, way.arrivals[0].at_ns)
    assert way.arrivals[0].head.startswith(
        b"POST http://name.test/v2/v1/embeddings HTTP/1.1\r\nHost: name.test\r\n"
    )
    assert found.connections() == 1
    assert [row["connection_reused"] for row in done.rows.values()] == [False] + [True] * 5


def assert_staged_at_the_proxy(done: Replayed, at_ns: int) -> None:
    first = min(row["due_ns"] for row in done.rows.values())
    assert at_ns - done.metadata.zero_monotonic_ns >= first


@pytest.mark.alone  # likewise
@pytest.mark.parametrize("host", ["name.test", "localhost"])
def test_https_goes_through_a_tunnel_that_is_dug_ahead_and_used_again(tmp_path: Path, host: str) -> None:
    authority = Authority(tmp_path)
    rows = [request(i, 100 * MS + i * LEISURE_NS) for i in range(6)]
    with site(tls=authority.server_side(host)) as found, proxy({f"{host}:443": found.port}) as way:
        done = through(tmp_path, f"https://{host}", way.url, rows, ca=authority.path)
    assert errors(done) == {None}
    assert_staged(done, found)
    assert [arrival.head.split(b"\r\n")[0] for arrival in way.arrivals] == [
        b"CONNECT %s:443 HTTP/1.1" % host.encode()
    ]
    assert found.connections() == 1
    zero_ns = done.metadata.zero_monotonic_ns
    assert way.arrivals[0].at_ns - zero_ns < min(row["due_ns"] for row in done.rows.values())


def test_large_bodies_pass_a_tunnel(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES + b"y" * LARGE_BYTES
    rows = [request(i, i * 200 * MS) | {"request_body": b"x" * LARGE_BYTES} for i in range(2)]
    with (
        site(tls=authority.server_side("name.test"), answer=lambda arrival: reply) as found,
        proxy({"name.test:443": found.port}) as way,
    ):
        done = through(tmp_path, "https://name.test", way.url, rows, ca=authority.path)
    assert errors(done) == {None}
    assert_staged(done, found)
    assert {arrival.body_bytes for arrival in found.arrivals} == {LARGE_BYTES}
    assert {sum(row["chunk_bytes"]) for row in done.rows.values()} == {LARGE_BYTES}


def test_an_untrusted_server_behind_a_tunnel_is_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with site(tls=authority.server_side("name.test")) as found, proxy({"name.test:443": found.port}) as way:
        done = through(tmp_path, "https://name.test", way.url)
    assert errors(done) == {"tls"}
    assert not found.arrivals


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_is_connect_refused(tmp_path: Path, scheme: str) -> None:
    done = through(tmp_path, f"{scheme}://name.test", f"http://127.0.0.1:{free_port()}")
    assert errors(done) == {"connect_refused"}
    assert all(row["sent_ns"] is None for row in done.rows.values())


def test_a_tunnel_that_is_refused_is_a_failure_to_connect(tmp_path: Path) -> None:
    reply = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with proxy({"name.test:443": 1}, connect_reply=reply) as way:
        done = through(tmp_path, "https://name.test", way.url)
    assert errors(done) == {"connect_failed"}
    assert all("403" in row["error_text"] for row in done.rows.values())


def test_a_proxy_that_does_not_answer_is_a_connect_timeout(tmp_path: Path) -> None:
    with site(answer=lambda arrival: b"") as silent:
        done = through(tmp_path, "https://name.test", silent.url, connect_timeout_s=0.5)
    for row in done.rows.values():
        assert (row["error"], row["sent_ns"]) == ("connect_timeout", None)
        assert 400 * MS <= row["end_ns"] - row["dequeued_ns"] < 2500 * MS


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_credentials_for_the_proxy_go_to_the_proxy_alone(tmp_path: Path, scheme: str) -> None:
    authority = Authority(tmp_path)
    tls = authority.server_side("name.test") if scheme == "https" else None
    port = 443 if tls else 80
    with site(tls=tls) as found, proxy({f"name.test:{port}": found.port}) as way:
        url = way.url.replace("http://", "http://me:secret%21@")
        done = through(tmp_path, f"{scheme}://name.test", url, ca=authority.path if tls else None)
        connecting = Connecting(
            parse_target(f"{scheme}://name.test"),
            *(5, 5),
            proxy=url,
            proxy_addresses=("127.0.0.1",),
            ca=authority.path if tls else None,
        )
        assert connect_time_ns(connecting) > 0
    assert errors(done) == {None}
    wanted = b"Basic " + base64.b64encode(b"me:secret!")
    assert {header(arrival.head, b"proxy-authorization") for arrival in way.arrivals} == {wanted}
    if tls:
        assert {header(arrival.head, b"proxy-authorization") for arrival in found.arrivals} == {b""}


def test_the_time_to_connect_covers_the_tunnel_and_its_refusal_is_one_line(tmp_path: Path) -> None:
    reply = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
    with proxy({}, connect_reply=reply) as way:
        connecting = Connecting(
            parse_target("https://name.test"), 5, 5, proxy=way.url, proxy_addresses=("127.0.0.1",)
        )
        with pytest.raises(BadInput, match=r"--proxy http://127.0.0.1:\d+: 'HTTP/1.1 407 .* name.test:443"):
            connect_time_ns(connecting)
        with pytest.raises(BadInput, match="can't connect"):
            connect_time_ns(dataclasses.replace(connecting, proxy=f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:3128", "localhost:3128", "https://a:1", "http://", "http://a:x", "http://[::1", "http://a/b"],
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(BadInput, match="http://HOST:PORT wanted"):
        proxy_target(text)


def test_a_proxy_s_password_is_in_no_message() -> None:
    with pytest.raises(BadInput) as failure:
        proxy_target("https://me:secret@a:1")
    assert "secret" not in str(failure.value)
    assert proxy_target("http://me:secret@a:1").base_url == "http://a:1"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = [request(i, i * 50 * MS) for i in range(4)]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return tmp_path / "t.parquet"


def test_the_command_line_goes_through_a_proxy_to_a_name_that_was_allowed(
    tmp_path: Path, trace: Path
) -> None:
    with site() as found, proxy({"name.test:80": found.port}) as way:
        url = way.url.replace("http://", "http://me:secret@")
        given = ["replay", trace, "--target", "http://name.test", "--proxy", url, "-o", "r.parquet"]
        refused = peaktape_here(*given, cwd=tmp_path)
        done = peaktape_here(*given, "--allow-host", "name.test", "--max-lateness", "9s", cwd=tmp_path)
    assert refused.returncode == 4
    assert refused.stderr.count("\n") == 1
    assert "the proxy looks name.test up" in refused.stderr
    table, metadata = read_run(tmp_path / "r.parquet")
    assert table["status"].to_pylist() == [200] * 4, done.stderr
    assert len(found.arrivals) == 4
    assert metadata.sender == "session"
    assert "secret" not in str(metadata)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--proxy", "http://127.0.0.1:{port}"], 2, "--proxy http://127.0.0.1:{port}: can't connect"),
        (["--proxy", "http://127.0.0.1:{port}", "--sender", "wire"], 2, "the wire sender knows no proxies"),
        (["--proxy", "socks5://127.0.0.1:{port}"], 2, "http://HOST:PORT wanted"),
        (
            ["--proxy", "http://93.184.216.34:3128"],
            4,
            "--proxy http://93.184.216.34:3128: 93.184.216.34 is a",
        ),
        (
            ["--proxy", "http://production.test:80"],
            2,
            "--proxy http://production.test:80: production.test does",
        ),
        (["--proxy", "http://127.0.0.1:{port}", "--unix-socket", "s"], 2, "goes not with --unix-socket"),
        (
            ["--proxy", "http://127.0.0.1:{port}", "--resolve", "a:1:::1"],
            2,
            "--resolve: goes not with --proxy",
        ),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_what_goes_wrong_with_a_proxy_is_one_line(
    tmp_path: Path, trace: Path, options: list[str], code: int, words: str
) -> None:
    port = str(free_port())
    given = [option.replace("{port}", port) for option in options]
    said = peaktape_here(
        *("replay", trace, "--target", "http://127.0.0.1:9", "-o", "r.parquet", *given), cwd=tmp_path
    )
    assert (said.returncode, said.stderr.count("\n")) == (code, 1), said.stderr
    assert words.replace("{port}", port) in said.stderr
    assert not (tmp_path / "r.parquet").exists()
