"""mitmproxy flow files: bytes as on the wire, one row per HTTP flow, damage told with what is whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.flow import Error, Flow
from mitmproxy.io import FlowWriter, tnetstring
from mitmproxy.test import tflow
from real_files import real

from capture.failures import BadInput
from capture.importers.mitm_flows import open_mitm
from capture.importers.pending_trace import write_pending
from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy
from capture.trace_reader import open_trace

START_S = 1_700_000_000.0
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
ANSWER = gzip.compress(b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":4}}', mtime=0)


def exchange(at_s: float = 0.0, *, error: str | None = None, answered: bool = True) -> http.HTTPFlow:
    """An HTTP flow that began `at_s` after `START_S`, took 1 s, and was answered after half of it."""
    flow = tflow.tflow(resp=answered)
    start_s = START_S + at_s
    flow.request = http.Request.make(
        "POST", "http://10.0.0.1:8000/v1/chat/completions?key=hush", BODY, {"Authorization": "Bearer hush"}
    )
    flow.request.timestamp_start, flow.request.timestamp_end = start_s, start_s + 0.25
    if answered:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        flow.response = http.Response.make(200, b"", headers)
        flow.response.raw_content = ANSWER
        flow.response.timestamp_start, flow.response.timestamp_end = start_s + 0.5, start_s + 1
    if error:
        flow.error = Error(error, start_s + 0.75)
    return flow


def flow_file(folder: Path, flows: list[Flow]) -> Path:
    path = folder / "flows.mitm"
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in flows:
            writer.add(flow)
    return path


def rows_of(source: Path, **options: Any) -> list[dict[str, Any]]:
    output = source.with_suffix(".parquet")
    write_pending(open_mitm(source, RedactionPolicy(), **options), output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def test_a_flow_becomes_a_row_as_it_is(tmp_path: Path) -> None:
    (row,) = rows_of(flow_file(tmp_path, [exchange()]))
    assert (row["request_id"], row["host"], row["outcome"], row["status"]) == (
        "mitm-1",
        "10.0.0.1:8000",
        "complete",
        200,
    )
    assert row["request_body"] == BODY
    assert row["response_body"] == ANSWER
    assert row["response_bytes"] == len(ANSWER)
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("m", 3, 4)
    instants = [row[name] for name in ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns")]
    assert instants == [0, 250_000_000, 500_000_000, 1_000_000_000]
    assert (row["chunk_ns"], row["chunk_bytes"]) == ([], [])


def test_credentials_are_redacted_as_in_a_live_capture(tmp_path: Path) -> None:
    (row,) = rows_of(flow_file(tmp_path, [exchange()]))
    assert "hush" not in str(row)
    assert {"name": "Authorization", "value": REDACTED} in row["request_headers"]


def test_rows_are_in_order_of_arrival_not_of_completion(tmp_path: Path) -> None:
    rows = rows_of(flow_file(tmp_path, [exchange(2.0), exchange(0.0), exchange(1.0)]))
    assert [row["request_id"] for row in rows] == ["mitm-2", "mitm-3", "mitm-1"]
    assert [row["arrival_ns"] for row in rows] == [0, 1_000_000_000, 2_000_000_000]


@pytest.mark.parametrize(
    ("error", "answered", "outcome", "status"),
    [
        (None, False, "in_flight", None),
        ("Client disconnected.", True, "client_aborted", 200),
        ("stream reset by client (CANCEL)", True, "client_aborted", 200),
        ("[Errno 111] Connect call failed", False, "server_error", 502),
        ("server closed connection", True, "server_error", 200),
        ("Connection killed.", False, "proxy_error", None),
    ],
)
def test_an_error_becomes_an_outcome(
    tmp_path: Path, error: str | None, answered: bool, outcome: str, status: int | None
) -> None:
    (row,) = rows_of(flow_file(tmp_path, [exchange(error=error, answered=answered)]))
    assert (row["outcome"], row["error"], row["status"]) == (outcome, error, status)
    assert row["end_ns"] == (750_000_000 if error else None)


def test_a_client_that_left_right_after_the_end_of_a_stream_has_had_it_all(tmp_path: Path) -> None:
    flow = exchange(error="Client disconnected.")
    assert flow.response is not None
    flow.response.headers["Content-Type"] = "text/event-stream"
    flow.response.raw_content = gzip.compress(b'data: {"choices":[]}\n\ndata: [DONE]\n\n')
    (row,) = rows_of(flow_file(tmp_path, [flow]))
    assert (row["outcome"], row["error"], row["end_ns"]) == ("complete", None, 750_000_000)


def test_an_answer_that_had_no_end_when_saved_was_in_flight(tmp_path: Path) -> None:
    flow = exchange()
    assert flow.response is not None
    flow.response.timestamp_end = None
    flow.response.raw_content = None
    flow.response.headers["Content-Length"] = "77"
    (row,) = rows_of(flow_file(tmp_path, [flow]))
    assert (row["outcome"], row["end_ns"], row["response_body"], row["response_bytes"]) == (
        "in_flight",
        None,
        None,
        77,
    )


def test_other_flows_are_counted_and_left_out(tmp_path: Path) -> None:
    flows = [tflow.ttcpflow(), exchange(), tflow.tudpflow(), tflow.tdnsflow(), tflow.ttcpflow()]
    source = flow_file(tmp_path, flows)
    assert [row["request_id"] for row in rows_of(source)] == ["mitm-2"]
    counts = open_trace(source.with_suffix(".parquet")).metadata.counts
    assert counts["dropped"] == {"tcp flow": 2, "udp flow": 1, "dns flow": 1}
    assert (counts["seen"], counts["recorded"]) == (5, 1)


def test_a_file_without_http_flows_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no HTTP flow found \(1 tcp flow\)"):
        open_mitm(flow_file(tmp_path, [tflow.ttcpflow()]), RedactionPolicy())


def test_a_flow_saved_twice_counts_once_as_it_was_answered(tmp_path: Path) -> None:
    before, after = exchange(answered=False), exchange()
    before.id = after.id = "same"
    source = flow_file(tmp_path, [before, after, after])
    assert [(row["request_id"], row["status"]) for row in rows_of(source)] == [("mitm-2", 200)]
    assert open_trace(source.with_suffix(".parquet")).metadata.counts["dropped"] == {"saved twice": 2}


def test_a_websocket_is_kept_as_its_handshake_with_a_note(tmp_path: Path) -> None:
    flow = tflow.twebsocketflow()
    source = flow_file(tmp_path, [flow])
    assert len(rows_of(source)) == 1
    assert any("1 WebSocket" in note for note in open_trace(source.with_suffix(".parquet")).metadata.notes)


def test_the_metadata_names_source_servers_and_clock(tmp_path: Path) -> None:
    source = flow_file(tmp_path, [exchange()])
    rows_of(source)
    metadata = open_trace(source.with_suffix(".parquet")).metadata
    assert (metadata.source, metadata.upstreams) == ("import:mitm flows.mitm", ("10.0.0.1:8000",))
    assert (metadata.wall_zero_ns, metadata.clock_tick_ns) == (int(START_S) * 10**9, 1000)


def test_a_cut_off_file_is_refused_naming_how_much_is_whole(tmp_path: Path) -> None:
    source = flow_file(tmp_path, [exchange(0), exchange(1), exchange(2)])
    source.write_bytes(source.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"flow 3, at byte .* add --salvage to import the 2 before it"):
        open_mitm(source, RedactionPolicy())


def test_salvage_keeps_what_is_whole_and_says_so(tmp_path: Path) -> None:
    source = flow_file(tmp_path, [exchange(0), exchange(1), exchange(2)])
    source.write_bytes(source.read_bytes()[:-10])
    assert [row["request_id"] for row in rows_of(source, salvage=True)] == ["mitm-1", "mitm-2"]
    notes = open_trace(source.with_suffix(".parquet")).metadata.notes
    assert any("salvaged" in note and "flow 3" in note for note in notes)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "empty file"),
        (b"hello", "flow 1, at byte 0: damaged, cut off or no mitmproxy flow"),
        (b"5:12345#", "flow 1, at byte 0: damaged"),
        (b"0:}", "flow 1, at byte 0: damaged"),
        (b'{"log": {}}', "peaktape import har"),
        (gzip.compress(b"x", mtime=0), "flow 1, at byte 0: damaged"),
        (b"999999999999:x", "flow 1, at byte 0: damaged"),
    ],
)
@pytest.mark.parametrize("salvage", [False, True])
def test_a_file_that_holds_no_flows_gives_one_line(
    tmp_path: Path, content: bytes, wanted: str, salvage: bool
) -> None:
    source = tmp_path / "broken.mitm"
    source.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        open_mitm(source, RedactionPolicy(), salvage=salvage)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_gives_rows_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    source = flow_file(tmp_path, [exchange(0), exchange(1)])
    content = bytearray(source.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] = data.draw(st.integers(0, 255))
    else:
        del content[place:]
    source.write_bytes(content)
    outcome: list[dict[str, Any]] | BadInput
    try:
        outcome = rows_of(source, salvage=data.draw(st.booleans()))
    except BadInput as failure:
        outcome = failure
    if isinstance(outcome, BadInput):
        assert "\n" not in str(outcome)
    else:
        assert 1 <= len(outcome) <= 2


REAL_ROWS = {
    "dumpfile-010.mitm": 1,
    "dumpfile-011.mitm": 1,
    "dumpfile-018.mitm": 1,
    "dumpfile-019.mitm": 1,
    "dumpfile-10.mitm": 1,
    "dumpfile-19.mitm": 1,
    "dumpfile-7-websocket.mitm": 3,
    "dumpfile-7.mitm": 2,
    "flows/corrupted_gzip_body.mitm": 1,
    "flows/error_log.mitm": 2,
    "flows/event_stream.mitm": 2,
    "flows/incomplete_log.mitm": 4,
    "flows/successful_log.mitm": 2,
    "flows/websocket.mitm": 3,
}


@pytest.mark.parametrize("name", REAL_ROWS)
def test_real_flow_files_of_every_version_become_traces(tmp_path: Path, name: str) -> None:
    write_pending(open_mitm(real(f"mitmproxy-flows/{name}"), RedactionPolicy()), tmp_path / "t.parquet")
    trace = open_trace(tmp_path / "t.parquet")
    assert trace.rows == REAL_ROWS[name]
    assert trace.arrival_ns[0] == 0
    assert trace.span_ns < 10**13


def test_a_version_of_the_future_gives_one_line(tmp_path: Path) -> None:
    source = tmp_path / "f.mitm"
    source.write_bytes(tnetstring.dumps({b"version": 99, b"type": b"http"}))
    with pytest.raises(BadInput, match="cannot read files with flow format version 99, please update"):
        open_mitm(source, RedactionPolicy())


OLD = {
    b"version": [0, 10, 1],
    b"error": None,
    b"request": {
        b"client_conn": {b"address": [b"127.0.0.1", 5], b"requestcount": 1, b"error": None},
        b"content": BODY,
        b"headers": [[b"Host", b"h"], [b"Authorization", b"Bearer hush"]],
        b"host": b"h",
        b"httpversion": [1, 1],
        b"ip": b"127.0.0.1",
        b"method": b"POST",
        b"path": b"/v1/x",
        b"port": 443,
        b"scheme": b"https",
        b"ssl_setup_timestamp": START_S,
        b"tcp_setup_timestamp": START_S,
        b"timestamp_start": START_S,
        b"timestamp_end": START_S + 0.25,
    },
    b"response": {
        b"cert": None,
        b"code": 200,
        b"content": ANSWER,
        b"headers": [[b"Content-Encoding", b"gzip"], [b"Content-Type", b"application/json"]],
        b"httpversion": [1, 1],
        b"msg": b"OK",
        b"timestamp_start": START_S + 0.5,
        b"timestamp_end": START_S + 1,
    },
}


def test_flows_from_before_mitmproxys_own_converters(tmp_path: Path) -> None:
    source = tmp_path / "old.mitm"
    failed = OLD | {b"response": None, b"error": {b"msg": b"Client disconnected.", b"timestamp": START_S + 9}}
    source.write_bytes(tnetstring.dumps(OLD) + tnetstring.dumps(failed) + tnetstring.dumps(OLD))
    first, second, third = rows_of(source)
    assert (first["scheme"], first["host"], first["path"]) == ("https", "h:443", "/v1/x")
    assert (first["request_body"], first["response_body"]) == (BODY, ANSWER)
    assert (first["input_tokens"], first["end_ns"]) == (3, 1_000_000_000)
    assert (second["outcome"], second["status"], third["status"]) == ("client_aborted", None, 200)
    assert "hush" not in str(first)


def test_an_old_flow_without_an_answer_which_mitmproxys_converters_stumble_over(tmp_path: Path) -> None:
    loaded = tnetstring.loads(real("mitmproxy-flows/dumpfile-011.mitm").read_bytes())
    source = tmp_path / "old.mitm"
    source.write_bytes(tnetstring.dumps(loaded | {b"response": None}))
    (row,) = rows_of(source)
    assert (row["host"], row["outcome"], row["status"]) == ("example.com:443", "in_flight", None)


def test_an_old_flow_without_its_parts_gives_one_line(tmp_path: Path) -> None:
    source = tmp_path / "old.mitm"
    source.write_bytes(tnetstring.dumps(OLD) + tnetstring.dumps({b"version": [0, 9]}))
    with pytest.raises(BadInput, match=r"flow 2, at byte .* add --salvage to import the 1 before it"):
        open_mitm(source, RedactionPolicy())


def test_a_gzipped_file_is_read_as_it_is(tmp_path: Path) -> None:
    source = flow_file(tmp_path, [exchange(1.0), exchange(0.0)])
    source.write_bytes(gzip.compress(source.read_bytes()))
    assert [row["request_id"] for row in rows_of(source)] == ["mitm-2", "mitm-1"]


@pytest.mark.parametrize("name", ["incomplete_log", "error_log", "successful_log"])
def test_a_real_recording_says_the_same_as_flows_and_as_har(tmp_path: Path, name: str) -> None:
    from capture.importers.har import open_har

    policy = RedactionPolicy()
    write_pending(open_mitm(real(f"mitmproxy-flows/flows/{name}.mitm"), policy), tmp_path / "m.parquet")
    write_pending(open_har(real(f"mitmproxy-flows/flows/{name}.har"), policy), tmp_path / "h.parquet")
    flows, har = open_trace(tmp_path / "m.parquet"), open_trace(tmp_path / "h.parquet")
    for column in ("method", "scheme", "path", "http_version", "outcome", "request_body"):
        assert flows.column(column).to_pylist() == har.column(column).to_pylist()
    assert abs(flows.arrival_ns - har.arrival_ns).max() < 2_000
