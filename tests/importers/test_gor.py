"""GoReplay files: requests paired with their answers, in all three generations of the format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.importers.gor import SEPARATOR, open_gor
from capture.importers.http_payload import read_message, unchunked
from capture.importers.pending_trace import write_pending
from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy
from capture.trace_reader import open_trace

START_NS = 1_700_000_000_000_000_000
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
ANSWER = b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}'


def payload(head: str, message: bytes) -> bytes:
    return head.encode() + b"\n" + message + b"\n" + SEPARATOR


def request(ident: str = "a1", at_ns: int = 0, *, latency: str = " 5000", path: str = "/v1/chat") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: api.test:8000\r\nAuthorization: Bearer hush\r\n"
    length = f"Content-Length: {len(BODY)}\r\n\r\n"
    return payload(f"1 {ident} {START_NS + at_ns}{latency}", (head + length).encode() + BODY)


def answer(ident: str = "a1", figures: str = f"{START_NS + 40_000} 60000") -> bytes:
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (ANSWER[:9], ANSWER[9:]))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return payload(f"2 {ident} {figures}", head + chunks + b"0\r\n\r\n")


def gor_file(folder: Path, *payloads: bytes) -> Path:
    path = folder / "requests_0.gor"
    path.write_bytes(b"".join(payloads))
    return path


def rows_of(source: Path) -> list[dict[str, Any]]:
    output = source.with_name("t.parquet")
    write_pending(open_gor(source, RedactionPolicy()), output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def test_a_request_and_its_answer_become_a_row(tmp_path: Path) -> None:
    (row,) = rows_of(gor_file(tmp_path, request(), answer()))
    assert (row["request_id"], row["method"], row["scheme"], row["host"], row["path"]) == (
        "gor-1",
        "POST",
        "http",
        "api.test:8000",
        "/v1/chat",
    )
    assert (row["request_body"], row["response_body"]) == (BODY, ANSWER)
    assert (row["outcome"], row["status"], row["http_version"]) == ("complete", 200, "HTTP/1.1")
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("m", 3, 4)
    assert {"name": "Authorization", "value": REDACTED} in row["request_headers"]
    assert "Transfer-Encoding" not in [header["name"] for header in row["response_headers"]]


GENERATIONS = {
    "until 0.1x": ("", "100000", (None, None, 100_000)),
    "until 1.2": ("", f"{START_NS + 40_000} 100000", (None, 40_000, 100_000)),
    "since 1.3": (" 5000", f"{START_NS + 40_000} 60000", (5_000, 40_000, 100_000)),
    "answer without figures of use": (" 5000", f"{START_NS} -1", (5_000, None, None)),
}


@pytest.mark.parametrize("name", GENERATIONS)
def test_instants_of_every_generation(tmp_path: Path, name: str) -> None:
    latency, figures, wanted = GENERATIONS[name]
    (row,) = rows_of(gor_file(tmp_path, request(latency=latency), answer(figures=figures)))
    assert row["arrival_ns"] == 0
    assert (row["request_body_ns"], row["first_byte_ns"], row["end_ns"]) == wanted
    assert open_trace(tmp_path / "t.parquet").metadata.wall_zero_ns == START_NS


def test_rows_come_in_order_of_arrival_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    source = gor_file(tmp_path, answer("b2"), request("c3", 9), request("b2", 7), request("a1", 8))
    rows = rows_of(source)
    assert [(row["arrival_ns"], row["status"]) for row in rows] == [(0, 200), (1, None), (2, None)]
    assert [row["outcome"] for row in rows] == ["complete", "in_flight", "in_flight"]


def test_what_can_not_be_a_row_is_counted(tmp_path: Path) -> None:
    binary = payload(f"1 zz {START_NS}", b"\x00\x01")
    replayed = payload(f"3 a1 {START_NS} 7", b"HTTP/1.1 200 OK\r\n\r\n")
    source = gor_file(tmp_path, request(), replayed, answer(), answer("lost"), binary)
    assert len(rows_of(source)) == 1
    assert open_trace(tmp_path / "t.parquet").metadata.counts["dropped"] == {
        "not an HTTP/1 request": 1,
        "answer to a replayed request": 1,
        "answer without its request": 1,
    }


def test_a_body_that_was_cut_off_is_told(tmp_path: Path) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
    (row,) = rows_of(gor_file(tmp_path, payload(f"1 a {START_NS}", head + b"short")))
    assert (row["request_body"], row["host"]) == (b"short", "a:80")
    assert any("1 bodies are shorter" in n for n in open_trace(tmp_path / "t.parquet").metadata.notes)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://other:81/x?y", "other:81", "/x?y"),
        ("https://other", "other:443", "/"),
        ("http://[bad/x", "api.test:8000", "http://[bad/x"),
        ("*", "api.test:8000", "*"),
    ],
)
def test_other_forms_of_a_request_target(tmp_path: Path, target: str, host: str, path: str) -> None:
    (row,) = rows_of(gor_file(tmp_path, request(path=target)))
    assert (row["host"], row["path"]) == (host, path)


def test_a_gzipped_file_is_read_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "requests.gor.gz"
    source.write_bytes(gzip.compress(request() + answer()))
    assert len(rows_of(source)) == 1


BROKEN = {
    "empty": (b"", "empty file"),
    "something else": (b"hello\n", ":1: a payload without its end found"),
    "cut off": (request() + answer()[:-30], ":9: a payload without its end found"),
    "unknown kind": (payload(f"4 a {START_NS}", b"GET / HTTP/1.1\r\n\r\n"), ":1: '4 a 17000"),
    "no instant": (request() + payload("1 a b", b""), ":9: '1 a b' found, a line '1|2|3 id instant"),
    "seconds": (payload("1 a 1700000000", b"GET / HTTP/1.1\r\n\r\n"), ":1: instant 1700000000 found"),
    "answers only": (answer(), "no request found (1 answer without its request)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    content, wanted = BROKEN[name]
    source = gor_file(tmp_path, content)
    with pytest.raises(BadInput) as caught:
        rows_of(source)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["requests_0.gor"]


@given(parts=st.lists(st.binary(min_size=1, max_size=40)), extension=st.sampled_from(["", ";a=b"]))
def test_what_was_chunked_comes_back_whole(parts: list[bytes], extension: str) -> None:
    chunked = b"".join(f"{len(p):X}{extension}\r\n".encode() + p + b"\r\n" for p in parts)
    assert unchunked(chunked + b"0\r\n\r\n") == (b"".join(parts), True)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none(data: bytes) -> None:
    message = read_message(data)
    assert message is None or message.start.strip()
