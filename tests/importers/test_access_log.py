"""Access logs: what each server's lines mean, in which order requests arrived, and rounded clocks."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_files import real

from capture.failures import BadInput
from capture.importers.access_log import LogOptions, open_access_log
from capture.importers.clock import Rounded
from capture.importers.log_fields import Unreadable, entry_of, instant_ns
from capture.importers.log_format import line_format, pieces_of
from capture.importers.pending_trace import write_pending
from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy
from capture.trace_reader import Trace, open_trace

MS = 1_000_000
S = 1000 * MS
COMMON = '10.0.0.1 - bob [10/Oct/2023:13:55:36 -0700] "POST /v1/chat?key=hush HTTP/1.1" 200 2326'
COMBINED = COMMON + ' "http://ref/" "curl/8.0 \\"x\\""'
NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent rt=$request_time $msec'
APACHE = '%h %l %u [%{%d/%b/%Y:%T}t.%{msec_frac}t] \\"%r\\" %>s %O %D \\"%{Host}i\\"'
ENVOY = (
    '[2023-10-10T20:55:36.310Z] "POST /api/v1 HTTP/2" 200 - 154 20 226 100 "10.0.35.28" "nsq2http" '
    '"cc21d9b0-cf5c" "llm.test" "10.0.2.1:80"'
)
ISTIO = {
    "start_time": "2023-10-10T20:55:36.310Z",
    "method": "POST",
    "path": "/api/v1",
    "protocol": "HTTP/2",
    "response_code": 200,
    "response_flags": "-",
    "bytes_received": 154,
    "bytes_sent": 20,
    "duration": 226,
    "response_duration": 100,
    "user_agent": "nsq2http",
    "request_id": "cc21d9b0-cf5c",
    "authority": "llm.test",
    "upstream_host": "10.0.2.1:80",
}


def log(folder: Path, *lines: str) -> Path:
    path = folder / "access.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def imported(source: Path, **options: Any) -> Trace:
    output = source.with_name("t.parquet")
    write_pending(open_access_log(source, RedactionPolicy(), LogOptions(**options)), output, overwrite=True)
    return open_trace(output)


def rows_of(source: Path, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in imported(source, **options).iter_batches() for row in batch.to_pylist()]


def headers_of(row: dict[str, Any]) -> dict[str, str]:
    return {header["name"]: header["value"] for header in row["request_headers"]}


def test_a_combined_line_becomes_a_row_without_body(tmp_path: Path) -> None:
    source = log(tmp_path, COMBINED)
    (row,) = rows_of(source)
    assert (row["request_id"], row["method"], row["path"]) == ("log-1", "POST", f"/v1/chat?key={REDACTED}")
    assert (row["http_version"], row["status"], row["response_bytes"]) == ("HTTP/1.1", 200, 2326)
    assert (row["request_body"], row["response_body"], row["end_ns"]) == (None, None, None)
    assert (row["host"], row["scheme"], row["session_id"]) == ("import.invalid:80", "http", None)
    assert headers_of(row) == {"Referer": "http://ref/", "User-Agent": 'curl/8.0 "x"'}
    metadata = open_trace(tmp_path / "t.parquet").metadata
    assert metadata.wall_zero_ns == 1_696_971_336 * S
    assert metadata.clock_tick_ns == S
    for words in ("1 POST/PUT/PATCH requests have lost", "ticks every 1 s", "nginx stamps ends"):
        assert any(words in note for note in metadata.notes)


def test_nginx_stamps_the_end_so_arrival_is_its_time_before(tmp_path: Path) -> None:
    lines = [
        '1.1.1.1 - - [10/Oct/2023:13:55:40 +0000] "GET /late HTTP/2.0" 200 5 rt=0.100 1696946140.500',
        '1.1.1.1 - - [10/Oct/2023:13:55:41 +0000] "GET /early HTTP/1.1" 499 0 rt=1.250 1696946141.000',
    ]
    first, second = rows_of(log(tmp_path, *lines), format=NGINX)
    assert (first["path"], first["arrival_ns"], first["end_ns"]) == ("/early", 0, 1250 * MS)
    assert (second["path"], second["arrival_ns"], second["end_ns"]) == ("/late", 650 * MS, 750 * MS)
    assert (first["outcome"], first["status"], second["outcome"]) == ("client_aborted", None, "complete")
    metadata = open_trace(tmp_path / "t.parquet").metadata
    assert metadata.clock_tick_ns == MS
    assert metadata.wall_zero_ns == 1_696_946_139_750 * MS


def test_nginx_times_at_the_end_of_combined_lines_are_found_and_told(tmp_path: Path) -> None:
    (row,) = rows_of(log(tmp_path, f'{COMBINED} "-" 0.125 0.120 1696971336.789'))
    assert (row["arrival_ns"], row["end_ns"]) == (0, 125 * MS)
    metadata = open_trace(tmp_path / "t.parquet").metadata
    assert metadata.wall_zero_ns == (1_696_971_336_789 - 125) * MS
    assert any("1696971336.789 as $msec and 0.125 as $request_time" in note for note in metadata.notes)


def test_apache_stamps_the_start(tmp_path: Path) -> None:
    line = '::1 - - [10/Oct/2023:13:55:36.123] "GET /x?a=b HTTP/1.1" 200 17 2500 "h:8080"'
    (row,) = rows_of(log(tmp_path, line), format=APACHE)
    assert (row["host"], row["arrival_ns"], row["end_ns"]) == ("h:8080", 0, 2_500_000)
    assert row["request_body"] == b""


@pytest.mark.parametrize("line", [ENVOY, ENVOY + " outbound|80||llm - extra", json.dumps(ISTIO)])
def test_envoy_text_and_json_say_the_same(tmp_path: Path, line: str) -> None:
    (row,) = rows_of(log(tmp_path, line))
    assert (row["method"], row["path"], row["http_version"], row["host"]) == (
        "POST",
        "/api/v1",
        "HTTP/2.0",
        "llm.test:80",
    )
    assert (row["status"], row["outcome"], row["response_bytes"]) == (200, "complete", 20)
    assert (row["arrival_ns"], row["end_ns"]) == (0, 226 * MS)
    assert row["first_byte_ns"] == (100 * MS if line.startswith("{") else None)
    assert headers_of(row)["User-Agent"] == "nsq2http"
    assert open_trace(tmp_path / "t.parquet").metadata.wall_zero_ns == 1_696_971_336_310 * MS


@pytest.mark.parametrize(
    ("status", "flags", "outcome", "kept"),
    [
        ("0", "DC", "client_aborted", None),
        ("200", "DC", "client_aborted", 200),
        ("503", "UF,URX", "server_error", 503),
        ("503", "-", "complete", 503),
        ("429", "RL", "complete", 429),
    ],
)
def test_envoys_response_flags_tell_whose_failure_it_was(
    tmp_path: Path, status: str, flags: str, outcome: str, kept: int | None
) -> None:
    (row,) = rows_of(log(tmp_path, ENVOY.replace(" 200 - ", f" {status} {flags} ")))
    assert (row["outcome"], row["status"]) == (outcome, kept)


def test_nginx_json_with_escapes(tmp_path: Path) -> None:
    found = {"time_iso8601": "2023-10-10T20:55:36+00:00", "request_time": 1.5, "request": "GET /é HTTP/1.1"}
    (row,) = rows_of(log(tmp_path, json.dumps(found | {"status": 200, "http_host": "a:1", "args": "-"})))
    assert (row["path"], row["host"], row["end_ns"]) == ("/é", "a:1", 1500 * MS)
    assert open_trace(tmp_path / "t.parquet").metadata.wall_zero_ns == (1_696_971_336_000 - 1500) * MS


def whole_seconds(folder: Path) -> Path:
    lines = [COMMON.replace("13:55:36", f"13:55:{30 + second}") for second in range(20) for _ in range(6)]
    return log(folder, *lines)


def test_whole_seconds_are_spread_when_asked(tmp_path: Path) -> None:
    trace = imported(whole_seconds(tmp_path), rounded=Rounded.SPREAD, seed=1)
    wall = trace.arrival_ns + trace.metadata.wall_zero_ns
    assert [int(second) for second in wall // S] == [1_696_971_330 + s for s in range(20) for _ in range(6)]
    assert len(set(trace.arrival_ns.tolist())) == 120
    assert trace.metadata.clock_tick_ns == 1000
    again = imported(whole_seconds(tmp_path), rounded=Rounded.SPREAD, seed=1)
    assert again.arrival_ns.tolist() == trace.arrival_ns.tolist()


def test_whole_seconds_are_refused_when_asked(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"access.log: a clock that ticks every 1 s found"):
        imported(whole_seconds(tmp_path), rounded=Rounded.REFUSE)
    assert imported(log(tmp_path, ENVOY), rounded=Rounded.REFUSE).rows == 1


def test_clients_become_sessions_without_their_addresses(tmp_path: Path) -> None:
    lines = [COMMON, COMMON.replace("10.0.0.1", "10.0.0.2"), COMMON]
    rows = rows_of(log(tmp_path, *lines), sessions_by_client=True)
    one, other, again = (row["session_id"] for row in rows)
    assert one == again != other
    assert [row["turn"] for row in rows] == [0, 0, 1]
    assert b"10.0.0" not in (tmp_path / "t.parquet").read_bytes()


def test_lines_that_are_no_requests_are_counted(tmp_path: Path) -> None:
    noise = [COMMON.replace("POST /v1/chat?key=hush HTTP/1.1", text) for text in ("-", "\\x16\\x03\\x01")]
    source = log(tmp_path, COMMON, *noise, "", "cut off li")
    with pytest.raises(
        BadInput, match=r"access.log:5: 'cut off li' found, a line of the format common wanted"
    ):
        rows_of(source)
    assert len(rows_of(source, skip_broken=True)) == 1
    counts = open_trace(tmp_path / "t.parquet").metadata.counts
    assert counts["dropped"] == {"line without an HTTP request": 2, "broken line": 1}


BROKEN = {
    "no format fits": (["hello"], {}, ":1: 'hello' found, a line of a common, combined, Envoy or JSON log"),
    "no such day": ([COMMON.replace("10/Oct", "31/Feb")], {}, ":1: '[31/Feb/2023:13:55:36 -0700]' found, an"),
    "beyond int64": (
        [COMMON.replace("/2023", "/9999")],
        {},
        "1: '[10/Oct/9999:13:55:36 -0700]' found, an instant",
    ),
    "no such zone": (
        [COMMON.replace("10/Oct/2023", "31/Dec/9999").replace("-0700", "-9999")],
        {},
        "found, an inst",
    ),
    "no instant": (
        [COMMON.replace("10/Oct/2023", "x")],
        {},
        ":1: '[x:13:55:36 -0700]' found, an instant such",
    ),
    "no status": ([COMMON.replace(" 200 ", " OK ")], {}, ":1: status 'OK' found"),
    "endless": ([ENVOY.replace(" 226 ", " 1e99 ")], {}, ":1: '1e99' found, a duration wanted"),
    "no JSON": ([json.dumps(ISTIO), "{"], {}, ":2: '{' found, a line of the format JSON wanted"),
    "JSON without instant": (['{"path": "/"}'], {}, ":1: no instant found"),
    "another format": (
        [COMMON],
        {"format": ENVOY.replace("200", "%DURATION%")},
        "--format: no instant found",
    ),
    "no format": ([COMMON], {"format": "nginx"}, "--format: 'nginx' found, auto, json, common"),
    "a format without request": ([COMMON], {"format": "%t %s"}, "--format: no request found"),
    "no requests": ([COMMON.replace("POST /v1/chat?key=hush HTTP/1.1", "-")], {}, "no request found (1 line"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    lines, options, wanted = BROKEN[name]
    source = log(tmp_path, *lines)
    with pytest.raises(BadInput) as caught:
        rows_of(source, **options)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["access.log"]


def test_a_gzipped_log_is_read_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "access.log.1.gz"
    source.write_bytes(gzip.compress(f"{COMMON}\n{COMMON}\n".encode()))
    assert len(rows_of(source)) == 2


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("[01/Jan/1970:00:00:00 +0000]", 0),
        ("01/Jan/1970:01:00:00 +0130", -1800 * S),
        ("1696971336.5", 1_696_971_336_500 * MS),
        ("1696971336789", 1_696_971_336_789 * MS),
        ("1696971336789012345", 1_696_971_336_789_012_345),
        ("2023-10-10T20:55:36.310Z", 1_696_971_336_310 * MS),
    ],
)
def test_instants_in_every_spelling(text: str, ns: int) -> None:
    assert instant_ns(text) == ns


def test_the_pieces_of_three_languages() -> None:
    nginx = [kind for kind, _ in pieces_of('$http_x_a "$request" ${msec}')]
    assert nginx == ["header:x-a", "text", "request", "text", "end"]
    apache = list(pieces_of('%{end:%s}t 100%% %{X-A}i "%>s"'))
    assert [kind for kind, _ in apache] == ["end", "text", "header:X-A", "text", "status", "text"]
    assert [text for _, text in apache if text] == [" 100% ", ' "', '"']
    envoy = [kind for kind, _ in pieces_of("%START_TIME(%s.%3f)% %REQ(:PATH):99% %UPSTREAM_HOST%")]
    assert envoy == ["start", "text", "target", "text", ""]


FIELD = st.text(st.characters(codec="ascii", exclude_characters='"\\', categories=["L", "N", "P", "S"]))


@given(target=FIELD.filter(bool), agent=FIELD, status=st.integers(200, 404), ms=st.integers(0, 10**6))
def test_a_line_written_by_a_format_is_read_by_it(target: str, agent: str, status: int, ms: int) -> None:
    line = f'[2023-10-10T20:55:36+00:00] "GET /{target} HTTP/1.1" {status} "{agent}" {ms / 1000:.3f}'
    read = line_format('[$time_iso8601] "$request" $status "$http_user_agent" $request_time').read(line)
    assert read is not None
    entry = entry_of(read)
    assert entry.columns is not None
    assert (entry.columns["path"], entry.columns["status"]) == (f"/{target}", status)
    assert entry.duration_ns == ms * MS
    assert entry.columns["request_headers"] == ([("User-Agent", agent)] if agent not in ("", "-") else [])


@given(text=st.text(max_size=60))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        assert isinstance(instant_ns(text), int)
    except Unreadable as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017 - both ends are fine


@pytest.mark.slow
def test_a_real_log_of_1995_is_sorted_and_spread(tmp_path: Path) -> None:
    with real("nasa-http-1995/nasa_19950701.tsv").open(newline="", encoding="latin-1") as file:
        lines = [
            f"{row['host']} - - [{datetime.fromtimestamp(int(row['time']), UTC):%d/%b/%Y:%H:%M:%S} +0000] "
            f'"{row["method"]} {row["url"]} HTTP/1.0" {row["response"]} {row["bytes"] or "-"}'
            for row in csv.DictReader(file, delimiter="\t")
        ]
    trace = imported(log(tmp_path, *lines), rounded=Rounded.SPREAD, sessions_by_client=True)
    assert trace.rows == len(lines) == 9_999
    assert abs(trace.span_ns / S - 13_183) < 2
    sessions = set(trace.column("session_id").to_pylist())
    assert len(sessions) == len({line.partition(" ")[0] for line in lines})
