"""HAR files: every entry becomes one row or one counted drop, whatever a browser or proxy left out."""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from real_files import TRACES, real

from capture.failures import BadInput
from capture.importers.har import open_har
from capture.importers.pending_trace import write_pending
from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy
from capture.trace_reader import open_trace

SSE = (
    'data: {"model":"m-1","choices":[{"delta":{"content":"hé"}}]}\n\n'
    'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)
CHAT = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
ENTRY: dict[str, Any] = {
    "startedDateTime": "2024-01-01T00:00:00.500Z",
    "time": 100,
    "request": {
        "method": "POST",
        "url": "https://api.example.com/v1/chat/completions?api-version=1&key=hush",
        "httpVersion": "http/2.0",
        "headers": [
            {"name": ":method", "value": "POST"},
            {"name": "Authorization", "value": "Bearer hush"},
            {"name": "content-type", "value": "application/json"},
        ],
        "postData": {"mimeType": "application/json", "text": CHAT},
    },
    "response": {
        "status": 200,
        "httpVersion": "http/2.0",
        "headers": [
            {"name": "content-type", "value": "text/event-stream"},
            {"name": "content-encoding", "value": "gzip"},
        ],
        "content": {"size": len(SSE), "mimeType": "text/event-stream", "text": SSE},
    },
    "timings": {"blocked": 5, "dns": -1, "connect": -1, "ssl": -1, "send": 5, "wait": 60, "receive": 30},
}
MS = 1_000_000


def entry(changes: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """`ENTRY` with further top-level fields, and changes by dotted path; the value None takes one away."""
    made = copy.deepcopy(ENTRY) | top
    for path, value in (changes or {}).items():
        *way, last = path.split(".")
        place = made
        for name in way:
            place = place[name]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return made


def har_file(folder: Path, entries: Any) -> Path:
    path = folder / "session.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": entries}}))
    return path


def rows_of(source: Path, policy: RedactionPolicy | None = None) -> list[dict[str, Any]]:
    output = source.with_suffix(".parquet")
    write_pending(open_har(source, policy or RedactionPolicy()), output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def one_row(folder: Path, changes: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    (row,) = rows_of(har_file(folder, [entry(changes, **top)]))
    return row


def names_of(headers: list[dict[str, str]]) -> list[str]:
    return [header["name"] for header in headers]


def test_an_entry_becomes_a_row_as_it_is(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    assert (row["request_id"], row["method"], row["scheme"], row["host"]) == (
        "har-1",
        "POST",
        "https",
        "api.example.com:443",
    )
    assert (row["http_version"], row["outcome"], row["status"]) == ("HTTP/2.0", "complete", 200)
    assert row["request_body"] == CHAT.encode()
    assert row["response_body"] == SSE.encode()
    assert row["response_bytes"] == len(SSE.encode())
    assert (row["chunk_ns"], row["chunk_bytes"]) == ([], [])


def test_instants_follow_from_start_time_and_timings(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    instants = [row[name] for name in ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns")]
    assert instants == [0, 10 * MS, 70 * MS, 100 * MS]


def test_what_the_exchange_means_is_read_as_in_a_live_capture(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    assert (row["model"], row["stream"], row["input_tokens"], row["output_tokens"]) == ("m", True, 7, 2)
    assert row["session_id"] is not None


def test_credentials_are_redacted_as_in_a_live_capture(tmp_path: Path) -> None:
    source = har_file(tmp_path, [entry()])
    (row,) = rows_of(source, RedactionPolicy(("content-type",)))
    assert "hush" not in str(row)
    assert row["path"] == f"/v1/chat/completions?api-version=1&key={REDACTED}"
    assert {"name": "Authorization", "value": REDACTED} in row["request_headers"]
    assert {"name": "content-type", "value": REDACTED} in row["request_headers"]
    assert open_trace(source.with_suffix(".parquet")).metadata.redaction["extra_names"] == ["content-type"]


def test_bodies_are_decoded_so_their_coding_and_pseudo_headers_are_left_out(tmp_path: Path) -> None:
    row = one_row(tmp_path)
    assert names_of(row["request_headers"]) == ["Authorization", "content-type"]
    assert names_of(row["response_headers"]) == ["content-type"]


def test_entries_are_sorted_by_their_start_and_keep_their_number(tmp_path: Path) -> None:
    starts = ["2024-01-01T00:00:02Z", "2024-01-01T01:00:00.25+01:00", "2024-01-01T00:00:01.000000Z"]
    rows = rows_of(har_file(tmp_path, [entry(startedDateTime=start) for start in starts]))
    assert [(row["request_id"], row["arrival_ns"]) for row in rows] == [
        ("har-2", 0),
        ("har-3", 750 * MS),
        ("har-1", 1750 * MS),
    ]


@pytest.mark.parametrize(
    ("changes", "outcome", "error"),
    [
        ({"response._error": "net::ERR_ABORTED"}, "client_aborted", "net::ERR_ABORTED"),
        ({"response._error": "net::ERR_CONNECTION_RESET"}, "server_error", "net::ERR_CONNECTION_RESET"),
        ({}, "in_flight", "no response in the HAR"),
    ],
)
def test_an_entry_without_an_answer_has_an_outcome(
    tmp_path: Path, changes: dict[str, Any], outcome: str, error: str
) -> None:
    row = one_row(tmp_path, {"response.status": 0, **changes})
    assert (row["outcome"], row["error"], row["status"]) == (outcome, error, None)
    assert row["response_headers"] is None
    assert row["response_body"] is None
    assert row["first_byte_ns"] is None
    assert row["end_ns"] == (None if outcome == "in_flight" else 100 * MS)


def test_base64_bodies_are_decoded(tmp_path: Path) -> None:
    content = {
        "size": 4,
        "mimeType": "image/png",
        "text": base64.b64encode(b"\x89PNG").decode(),
        "encoding": "base64",
    }
    assert one_row(tmp_path, {"response.content": content})["response_body"] == b"\x89PNG"


@pytest.mark.parametrize(
    ("content", "body", "count"),
    [
        ({"size": 9, "mimeType": "image/png"}, None, 9),
        ({"size": 0, "mimeType": "x-unknown"}, b"", 0),
        ({"size": 3, "text": "not base64!", "encoding": "base64"}, None, 3),
        ({"size": 1, "mimeType": "text/plain; charset=iso-8859-1", "text": "é"}, b"\xe9", 1),
        ({"size": 1, "mimeType": "text/plain; charset=klingon", "text": "é"}, b"\xc3\xa9", 2),
        ({"size": 1, "mimeType": "text/plain; charset=base64", "text": "é"}, b"\xc3\xa9", 2),
        ({"size": 1, "text": "\ud83d"}, b"?", 1),
        ({}, b"", 0),
    ],
    ids=[
        "left out",
        "none",
        "damaged base64",
        "latin-1",
        "unknown charset",
        "no charset",
        "half a pair",
        "empty",
    ],
)
def test_bodies_in_every_state(
    tmp_path: Path, content: dict[str, Any], body: bytes | None, count: int
) -> None:
    row = one_row(tmp_path, {"response.content": content})
    assert (row["response_body"], row["response_bytes"]) == (body, count)


def test_form_fields_stand_in_for_a_missing_text(tmp_path: Path) -> None:
    posted = {"mimeType": "application/x-www-form-urlencoded", "params": [{"name": "a b", "value": "1&2"}]}
    row = one_row(tmp_path, {"request.postData": posted, "request.headers": []})
    assert row["request_body"] == b"a+b=1%262"


@pytest.mark.parametrize(
    "changes",
    [
        {"timings": None},
        {"time": None},
        {"time": -1},
        {"time": "soon"},
        {"timings": {"wait": None, "receive": -1}},
        {"request.headers": None},
        {"request.headers": [["Content-Type", "text/plain"], ["lonely"], 5, {"value": "nameless"}]},
        {"request.headers": [{"name": "X-Ünï", "value": "日本"}, {"name": "a", "value": None}]},
        {"request.httpVersion": None},
        {"request.postData": None},
        {"request.postData": []},
        {"response.content": None},
        {"response.headers": None},
        {"response.status": "200"},
        {"response": None},
    ],
    ids=str,
)
def test_missing_or_malformed_pieces_become_nulls(tmp_path: Path, changes: dict[str, Any]) -> None:
    row = one_row(tmp_path, changes)
    assert row["arrival_ns"] == 0
    assert row["end_ns"] in (None, 100 * MS)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"startedDateTime": None}, "no usable startedDateTime"),
        ({"startedDateTime": "now"}, "no usable startedDateTime"),
        ({"request.url": None}, "no method or URL"),
        ({"request": None}, "no method or URL"),
        ({"request.url": "data:text/plain,hi"}, "URL not http(s)"),
        ({"request.url": "https://[::1/"}, "no usable URL"),
        ({"request.url": "http://host:port/"}, "no usable URL"),
        ({"_fromCache": "memory"}, "answered by the browser's cache"),
    ],
)
def test_what_cannot_be_a_row_is_counted_by_cause(
    tmp_path: Path, changes: dict[str, Any], cause: str
) -> None:
    source = har_file(tmp_path, [entry(changes), entry()])
    (row,) = rows_of(source)
    assert row["request_id"] == "har-2"
    counts = open_trace(source.with_suffix(".parquet")).metadata.counts
    assert counts == {"seen": 2, "recorded": 1, "dropped": {cause: 1}}
    with pytest.raises(BadInput, match="no entry that can be a request"):
        open_har(har_file(tmp_path, [entry(changes)]), RedactionPolicy())


@pytest.mark.parametrize(
    ("url", "scheme", "host", "path"),
    [
        ("http://h/", "http", "h:80", "/"),
        ("https://h", "https", "h:443", "/"),
        ("http://user:secret@h:81/a?b=c#d", "http", "h:81", "/a?b=c"),
        ("http://[::1]:8000/x", "http", "[::1]:8000", "/x"),
        ("wss://h/socket", "https", "h:443", "/socket"),
    ],
)
def test_urls_are_split_as_a_capture_would_see_them(
    tmp_path: Path, url: str, scheme: str, host: str, path: str
) -> None:
    row = one_row(tmp_path, {"request.url": url})
    assert (row["scheme"], row["host"], row["path"]) == (scheme, host, path)
    assert open_trace(tmp_path / "session.parquet").metadata.upstreams == (host,)


def test_a_websocket_is_kept_as_its_handshake_with_a_note(tmp_path: Path) -> None:
    row = one_row(tmp_path, {"response.status": 101}, _webSocketMessages=[{"type": "send", "data": "hi"}])
    assert row["status"] == 101
    assert any("1 WebSocket" in note for note in open_trace(tmp_path / "session.parquet").metadata.notes)


@pytest.mark.parametrize("wrap", [lambda raw: b"\xef\xbb\xbf" + raw, gzip.compress, zlib.compress])
def test_a_har_is_read_with_a_mark_gzipped_or_deflated(tmp_path: Path, wrap: Any) -> None:
    source = har_file(tmp_path, [entry()])
    source.write_bytes(wrap(source.read_bytes()))
    assert len(rows_of(source)) == 1


BROKEN = {
    "cut off": (b'{"log": {"entries": [', ":1: not JSON"),
    "no HAR": (b'{"logs": []}', "no list log.entries in it"),
    "a list": (b"[]", ":1: not JSON or no HAR"),
    "no entries": (b'{"log": {}}', "no list log.entries in it"),
    "entries of numbers": (b'{"log": {"entries": [1]}}', "entry 1: int found, an object wanted"),
    "empty": (b'{"log": {"entries": []}}', "log.entries is empty"),
    "nested too deep": (b"[" * 200_000, "not JSON|nested too deep"),
    "not text": (b"\xff\xfe\x00", "not UTF-8"),
    "no bytes": (b"", "empty file"),
    "cut off gzip": (gzip.compress(b'{"log": {}}')[:-9], "damaged compression"),
    "cut off zlib": (zlib.compress(b'{"log": {}}')[:-5], "damaged compression"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_har_gives_one_line(tmp_path: Path, name: str) -> None:
    content, wanted = BROKEN[name]
    source = tmp_path / "broken.har"
    source.write_bytes(content)
    with pytest.raises(BadInput, match=wanted) as caught:
        open_har(source, RedactionPolicy())
    assert str(caught.value).startswith(str(source))
    assert "\n" not in str(caught.value)


def test_a_missing_har_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        open_har(tmp_path / "nowhere.har", RedactionPolicy())


REAL_ROWS = {
    "har_files/charles.har": 1,
    "har_files/chrome.har": 3,
    "har_files/firefox.har": 14,
    "har_files/head-content-length.har": 1,
    "har_files/insomnia.har": 1,
    "har_files/postdata.har": 1,
    "har_files/safari.har": 19,
    "har_files/with-bom.har": 1,
    "flows/compressed.zhar": 2,
    "flows/corrupted_gzip_body.har": 1,
    "flows/error_log.har": 2,
    "flows/event_stream.har": 2,
    "flows/incomplete_log.har": 4,
    "flows/successful_log.har": 2,
    "flows/websocket.har": 3,
}


@pytest.mark.parametrize("name", REAL_ROWS)
def test_every_entry_of_real_hars_becomes_a_row(tmp_path: Path, name: str) -> None:
    write_pending(open_har(real(f"mitmproxy-flows/{name}"), RedactionPolicy()), tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    assert trace.rows == REAL_ROWS[name]
    assert trace.metadata.counts["dropped"] == {}


@pytest.mark.parametrize("name", ["corrupted_har/brokenfile.har", "har_extractor.har"])
def test_real_broken_hars_give_one_line(name: str) -> None:
    with pytest.raises(BadInput, match="HAR wanted; export it again"):
        open_har(real(f"mitmproxy-flows/{name}"), RedactionPolicy())


EXPECTED = sorted(path.stem for path in (TRACES / "mitmproxy-flows" / "har_files").glob("*.json"))


@pytest.mark.parametrize("name", EXPECTED or ["chrome"])
def test_real_hars_agree_with_what_mitmproxy_reads_in_them(tmp_path: Path, name: str) -> None:
    expected = json.loads(real(f"mitmproxy-flows/har_files/{name}.json").read_text())
    write_pending(
        open_har(real(f"mitmproxy-flows/har_files/{name}.har"), RedactionPolicy()), tmp_path / "t.parquet"
    )
    rows = [row for batch in open_trace(tmp_path / "t.parquet").iter_batches() for row in batch.to_pylist()]
    zero_ns = open_trace(tmp_path / "t.parquet").metadata.wall_zero_ns
    found = {row["request_id"]: row for row in rows}
    for number, flow in enumerate(expected, start=1):
        row = found[f"har-{number}"]
        asked, answer = flow["request"], flow["response"]
        assert (row["method"], row["scheme"], row["path"]) == (
            asked["method"],
            asked["scheme"],
            asked["path"],
        )
        assert row["host"] == f"{asked['host']}:{asked['port']}"
        assert abs(zero_ns + row["arrival_ns"] - asked["timestamp_start"] * 1e9) < 1000
        assert _sha256(row["request_body"]) == asked["contentHash"]
        assert (row["status"] or 0) == answer["status_code"]
        if row["response_body"]:
            assert _sha256(row["response_body"]) == answer["contentHash"]


def _sha256(body: bytes | None) -> str:
    return hashlib.sha256(body or b"").hexdigest()
