"""Clients and servers that mean harm: the proxy lives, its memory is bounded, nothing is recorded wrongly.

Small figures here; `tests/benchmarks/hostile_input.py` runs the same at full size.
"""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_rig import metadata_of, rows_of
from hostile_rig import (
    Capture,
    Seen,
    brotli_bomb,
    digest,
    download,
    gzip_bomb,
    running_capture,
    running_server,
    slow_clients,
    throw,
    throw_malformed,
    upload_zeros,
    zstd_bomb,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from capture import content_codings
from capture.content_codings import decode_content
from capture.semantics import answer_text

MB = 1 << 20


def check_rows(rows: list[dict[str, Any]], log: list[Seen]) -> None:
    """Every answer that was recorded belongs to the request that the server answered so."""
    for row in rows:
        headers = {pair["name"].lower(): pair["value"] for pair in row["response_headers"] or ()}
        if "x-number" not in headers:
            continue
        seen = log[int(headers["x-number"])]
        path = re.sub(r"^http://[^/]*", "", seen.path)  # a target in absolute form passes as it came
        assert (row["method"], row["path"].encode("latin-1")) == (seen.method, path.encode("latin-1"))
        if row["request_body"] is not None:
            assert digest(row["request_body"]) == seen.body


def check_capture(capture: Capture, trace: Path, log: list[Seen]) -> list[dict[str, Any]]:
    """End the capture: it was well to the end, and what it wrote agrees with what the server saw."""
    assert capture.process.poll() is None, capture.said
    assert capture.stop() == 0
    raised = [
        line for line in capture.said if "rror in " in line or "xception in " in line or "Traceback" in line
    ]
    # mitmproxy itself stumbles when more comes on a connection whose TLS has failed, which it then closes.
    assert all(re.search(r"\(AttributeError in tls\.py:", line) for line in raised), raised
    rows = rows_of(trace)
    counts = metadata_of(trace)["counts"]
    assert counts == {"seen": len(rows), "recorded": len(rows), "dropped": {}}
    check_rows(rows, log)
    return rows


@pytest.mark.slow
def test_a_target_in_absolute_form_passes_as_it_came_and_is_a_path_in_the_row(tmp_path: Path) -> None:
    trace = tmp_path / "prod.parquet"
    with running_server() as (url, log), running_capture(trace, url) as capture:
        throw(capture, [b"GET http://other/a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"])
        (row,) = check_capture(capture, trace, log)
    assert log[0].path == "http://other/a?b"
    assert row["path"] == "/a?b"


@pytest.mark.slow
def test_a_thousand_malformed_requests(tmp_path: Path) -> None:
    trace = tmp_path / "prod.parquet"
    with running_server() as (url, log), running_capture(trace, url) as capture:
        throw_malformed(capture, 100, seed=1)
        before = capture.rss_bytes()
        good = throw_malformed(capture, 900, seed=2)
        assert capture.rss_bytes() - before < 40 * MB
        rows = check_capture(capture, trace, log)
    kept = {row["path"]: row for row in rows if row["path"].startswith("/good/")}
    for path in good:
        assert kept[path]["request_body"] == path.encode()
        assert (kept[path]["outcome"], kept[path]["status"]) == ("complete", 200)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    trace = tmp_path_factory.mktemp("fuzzed") / "prod.parquet"
    with running_server() as (url, log), running_capture(trace, url) as capture:
        yield capture
        check_capture(capture, trace, log)


TOKEN = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
ANY_LINE = st.binary(max_size=60) | st.builds(lambda n, v: f"{n}: {v}".encode(), TOKEN, TOKEN)
LENGTHS = st.sampled_from([b"0", b"3", b"-1", b"1e9", b"", b"3, 3", b"0x3", b"+3", b" 3"])
HEADS = st.builds(
    lambda method, target, lines, length: b"\r\n".join(
        [b"%s %s HTTP/1.1" % (method, target), b"Host: h", *lines, b"Content-Length: " + length, b"", b"abc"]
    ),
    st.sampled_from([b"GET", b"POST", b"", b"P\x00ST"]) | st.binary(max_size=8),
    st.sampled_from([b"/", b"*", b"http://other/", b"//", b"/\xff"]) | st.binary(max_size=30),
    st.lists(ANY_LINE, max_size=5),
    LENGTHS,
)


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    database=None,
)
@given(script=st.lists(HEADS | st.binary(max_size=200), min_size=1, max_size=3), reset=st.booleans())
def test_whatever_bytes_come_the_next_client_is_served(
    fuzzed: Capture, script: list[bytes], reset: bool
) -> None:
    throw(fuzzed, script, reset=reset)
    assert fuzzed.ask("/next").endswith(b"ok")


@pytest.mark.slow
def test_half_open_clients_keep_nobody_waiting(tmp_path: Path) -> None:
    trace = tmp_path / "prod.parquet"
    with running_server() as (url, log), running_capture(trace, url) as capture:
        before = capture.rss_bytes()
        clients = slow_clients(capture, 400)
        assert capture.ask("/served", b"at once").endswith(b"ok")
        assert capture.rss_bytes() - before < 400 * 150_000
        for client in clients:
            client.close()
        rows = check_capture(capture, trace, log)
    assert [row["path"] for row in rows if row["outcome"] == "complete"] == ["/served"]


@pytest.mark.alone
@pytest.mark.slow
def test_a_head_or_a_chunk_line_without_an_end_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "prod.parquet"
    chunked = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;"
    with running_server() as (url, log), running_capture(trace, url) as capture:
        before = capture.rss_bytes()
        throw(capture, [b"GET / HTTP/1.1\r\nX: ", *[b"y" * 65536] * 1000])
        throw(capture, [chunked, *[b"y" * 65536] * 1000])
        (row,) = check_capture(capture, trace, log)
        assert capture.peak_bytes - before < 30 * MB
    assert row["outcome"] == "proxy_error"


@pytest.mark.alone
@pytest.mark.slow
def test_large_bodies_pass_in_bounded_memory(tmp_path: Path) -> None:
    trace, size = tmp_path / "prod.parquet", 256 * MB
    with running_server() as (url, log), running_capture(trace, url) as capture:
        before = capture.rss_bytes()
        assert upload_zeros(capture, size).endswith(b"ok")
        assert download(capture, f"/zeros/{size}") > size
        rows = check_capture(capture, trace, log)
        # A copy is kept up to 64 MiB each, and let go of beyond.
        assert capture.peak_bytes - before < 170 * MB
    assert [row["request_bytes"] for row in rows] == [size, 0]
    assert [row["response_bytes"] for row in rows] == [2, size]
    assert rows[0]["request_body"] is None
    assert rows[1]["response_body"] is None


@pytest.mark.slow
def test_compressed_bombs_pass_and_are_not_kept_since_nobody_can_look_into_them(tmp_path: Path) -> None:
    bombs = {"gzip": gzip_bomb(10 << 30), "zstd": zstd_bomb(1 << 30), "br": brotli_bomb(1 << 26)}
    trace = tmp_path / "prod.parquet"
    with running_server(bombs) as (url, log), running_capture(trace, url) as capture:
        before = capture.rss_bytes()
        for coding, bomb in bombs.items():
            assert download(capture, f"/bomb/{coding}") > len(bomb)
        rows = check_capture(capture, trace, log)
        assert capture.peak_bytes - before < 400 * MB
    assert [row["response_bytes"] for row in rows] == [len(bomb) for bomb in bombs.values()]
    assert [row["response_body"] for row in rows] == [None, None, None]


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [("gzip", gzip_bomb), ("zstd", zstd_bomb), ("br", brotli_bomb)],
    ids=["gzip", "zstd", "br"],
)
def test_a_bomb_is_decoded_up_to_the_bound_and_no_further(
    coding: str, bomb: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_codings, "DECODED_LIMIT_BYTES", MB)
    packed = bomb(1 << 26)
    tracemalloc.start()
    decoded = decode_content(packed, coding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoded is not None
    assert len(decoded) == MB
    assert peak < 6 * MB


def test_a_stream_of_nothing_but_line_ends_makes_no_list_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_codings, "DECODED_LIMIT_BYTES", 32 * MB)
    body = zstd_bomb(1 << 26, b"\n")
    tracemalloc.start()
    for kind in ("text/event-stream", "application/x-ndjson"):
        assert answer_text(body, kind, "zstd") is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 170 * MB, "32 million lines in a list, and a copy of it, would take 512 MB"


def test_codings_upon_codings_and_members_without_end_are_given_up() -> None:
    import gzip

    assert decode_content(b"x", ", ".join(["gzip"] * 100)) is None
    assert decode_content(gzip.compress(b"") * 1_000_000, "gzip") == b""
