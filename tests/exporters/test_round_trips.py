"""Laws of round trips: what a format holds comes back as it was, and what it doesn't is told."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_rows import read_back, rows, write_made

from capture.exporters.aiperf import aiperf
from capture.exporters.csv_table import COLUMNS, CSV, EPOCH
from capture.exporters.export_file import ExportFormat, export_trace
from capture.exporters.har import HAR
from capture.exporters.lengths import guidellm, mooncake
from capture.exporters.prefix_blocks import tokens_a_word
from capture.exporters.vegeta import HELD, vegeta
from capture.failures import BadInput
from capture.importers.har import open_har
from capture.importers.mooncake import open_mooncake
from capture.importers.pending_trace import write_pending
from capture.importers.synthetic_prompt import SyntheticPrompts
from capture.importers.synthetic_request import ChatRequests
from capture.importers.vegeta import open_vegeta
from capture.redaction import RedactionPolicy
from capture.trace_format import TRACE_SCHEMA
from capture.trace_reader import open_trace

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "demo-traffic.parquet"
laws = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)


def exported(source: Path, into: ExportFormat, name: str) -> Path:
    path = source.with_name(name)
    export_trace(open_trace(source), path, into, overwrite=True)
    return path


def har_and_back(source: Path) -> list[dict[str, Any]]:
    har = exported(source, HAR, "t.har")
    write_pending(open_har(har, RedactionPolicy()), source.with_name("b.parquet"), overwrite=True)
    return read_back(source.with_name("b.parquet"))


@laws
@given(made=rows())
def test_a_har_gives_every_column_back(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    source = write_made(tmp_path / "t.parquet", made)
    back = har_and_back(source)
    assert back == read_back(source)
    assert (
        open_trace(tmp_path / "b.parquet").metadata.wall_zero_ns == open_trace(source).metadata.wall_zero_ns
    )


def test_a_captured_trace_comes_back_from_a_har_but_for_codings(tmp_path: Path) -> None:
    source = tmp_path / "t.parquet"
    source.write_bytes(SAMPLE.read_bytes())
    before, after = read_back(source), har_and_back(source)
    zero_ns = before[0]["arrival_ns"]
    for row in before:
        for name in ("arrival_ns", "request_body_ns", "first_byte_ns", "end_ns"):
            row[name] = None if row[name] is None else row[name] - zero_ns
        row["chunk_ns"] = [instant - zero_ns for instant in row["chunk_ns"]]
    assert after == before


def test_a_coded_body_is_decoded_in_a_har_and_that_is_told(tmp_path: Path) -> None:
    (made,) = [row for row in read_back(SAMPLE) if row["response_body"]][:1]
    body = made["response_body"]
    made |= {"response_headers": [("Content-Encoding", "gzip"), ("Content-Type", "application/json")]}
    source = write_made(tmp_path / "t.parquet", [made | {"response_body": gzip.compress(body)}])
    done = export_trace(open_trace(source), tmp_path / "t.har", HAR)
    assert done.lost == ("1 bodies are decoded, as a HAR's are: their Content-Encoding is lost",)
    (row,) = har_and_back(source)
    assert row["response_body"] == body
    assert row["response_headers"] == [("Content-Type", "application/json")]


def test_a_har_is_one_that_others_read(tmp_path: Path) -> None:
    from mitmproxy.http import HTTPFlow
    from mitmproxy.io import FlowReader

    har = exported(write_made(tmp_path / "t.parquet", read_back(SAMPLE)[:40]), HAR, "t.har")
    with har.open("rb") as file:
        flows = [flow for flow in FlowReader(file).stream() if isinstance(flow, HTTPFlow)]
    wanted = read_back(tmp_path / "t.parquet")
    assert [flow.request.path for flow in flows] == [row["path"] for row in wanted]
    assert [flow.request.content for flow in flows] == [row["request_body"] for row in wanted]
    assert [flow.response.content if flow.response else b"" for flow in flows] == [
        row["response_body"] or b"" for row in wanted
    ]


@laws
@given(made=rows())
def test_vegeta_targets_give_requests_back(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    for row in made:
        row |= {"path": f"/{row['path'].strip('/#é* ?')}", "method": "POST"}
    source = write_made(tmp_path / "t.parquet", made)
    targets = exported(source, vegeta(), "t.jsonl")
    write_pending(open_vegeta(targets, RedactionPolicy(), rate=1), tmp_path / "b.parquet", overwrite=True)
    before, after = read_back(source), read_back(tmp_path / "b.parquet")
    for held in HELD - {"request_headers", "request_body"}:
        assert [row[held] for row in after] == [row[held] for row in before]
    assert [row["request_body"] for row in after] == [row["request_body"] or b"" for row in before]
    for one, other in zip(before, after, strict=True):
        assert Counter(one["request_headers"]) == Counter(other["request_headers"])


def test_targets_point_to_staging_when_asked(tmp_path: Path) -> None:
    (made,) = read_back(SAMPLE)[:1]
    source = write_made(tmp_path / "t.parquet", [made])
    done = export_trace(open_trace(source), tmp_path / "t.jsonl", vegeta("http://staging:1/base/"))
    target = json.loads((tmp_path / "t.jsonl").read_text())
    assert target["url"] == f"http://staging:1/base{made['path']}"
    assert not {"Host", "Authorization"} & set(target["header"])
    assert any("1 requests lack their redacted headers" in sentence for sentence in done.lost)


LENGTHS = st.lists(
    # Blocks of fewer than 32 words may be equal by chance.
    st.tuples(
        st.integers(0, 10**6),
        st.builds(lambda full, last: 512 * full + last, st.integers(0, 2), st.integers(32, 512)),
        st.integers(0, 9),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


@laws
@given(lengths=LENGTHS)
def test_mooncake_gives_arrivals_lengths_and_sharing_back(
    tmp_path: Path, lengths: list[tuple[int, int, int, int]]
) -> None:
    lines = []
    for number, (at, tokens, output, shared) in enumerate(sorted(lengths)):
        blocks = -(-tokens // 512)
        # The last block, maybe a partial one, is nobody else's.
        ids = [*range(min(shared, blocks - 1)), *range(100 * (number + 1), 100 * (number + 1) + 9)][:blocks]
        lines.append({"timestamp": at, "input_length": tokens, "output_length": output, "hash_ids": ids})
    lines = [{**line, "timestamp": line["timestamp"] - lines[0]["timestamp"]} for line in lines]
    source = tmp_path / "m.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pending = open_mooncake(source, SyntheticPrompts(), ChatRequests())
    write_pending(pending, tmp_path / "m.parquet", overwrite=True)
    trace = open_trace(tmp_path / "m.parquet")
    assert tokens_a_word(trace) == 1.0
    again = exported(tmp_path / "m.parquet", mooncake(tokens_a_word(trace)), "again.jsonl")
    found = [json.loads(text) for text in again.read_text().splitlines()]
    names: dict[int, int] = {}
    for line in lines:
        line["hash_ids"] = [names.setdefault(block, len(names)) for block in line["hash_ids"]]
    assert found == lines


@laws
@given(made=rows())
def test_lengths_hold_instants_to_the_nanosecond(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    counted = [row for row in made if row["input_tokens"] is not None and row["output_tokens"] is not None]
    source = write_made(tmp_path / "t.parquet", made)
    for into, unit_ns in ((mooncake(1.0), 10**6), (guidellm(1.0), 10**9)):
        if not counted:
            with pytest.raises(BadInput, match="requests without token counts"):
                exported(source, into, "t.jsonl")
            continue
        found = [json.loads(text) for text in exported(source, into, "t.jsonl").read_text().splitlines()]
        zero_ns = counted[0]["arrival_ns"]
        assert [round(line["timestamp"] * unit_ns) for line in found] == [
            row["arrival_ns"] - zero_ns for row in counted
        ]
        assert all(len(line["hash_ids"]) == -(-line["input_length"] // 512) for line in found)


@laws
@given(made=rows())
def test_csv_gives_its_columns_back(tmp_path: Path, made: list[dict[str, Any]]) -> None:
    source = write_made(tmp_path / "t.parquet", made)
    types = {name: TRACE_SCHEMA.field(name).type for name in COLUMNS} | {EPOCH: pa.int64()}
    table = pacsv.read_csv(
        exported(source, CSV, "t.csv"),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    wall_zero_ns = open_trace(source).metadata.wall_zero_ns
    for row, line in zip(read_back(source), table.to_pylist(), strict=True):
        assert line == {name: row[name] for name in COLUMNS} | {EPOCH: wall_zero_ns + row["arrival_ns"]}


def test_aiperf_gets_each_body_at_its_instant(tmp_path: Path) -> None:
    path = "/v1/chat/completions"
    done = export_trace(open_trace(SAMPLE), tmp_path / "t.jsonl", aiperf(path))
    found = [json.loads(text) for text in (tmp_path / "t.jsonl").read_text().splitlines()]
    chats = [row for row in read_back(SAMPLE) if row["path"] == path]
    usable = [row for row in chats if (row["request_body"] or b"").startswith(b"{")]
    assert len(found) == done.rows
    bodies = [json.loads(row["request_body"]) for row in usable if _is_json(row["request_body"])]
    assert [line["payload"] for line in found] == bodies
    assert all("timestamp" in line and line["timestamp"] >= 0 for line in found)
    assert done.rows + sum(done.left_out.values()) == open_trace(SAMPLE).rows


def _is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def test_only_losses_that_happen_are_told(tmp_path: Path) -> None:
    (made,) = read_back(SAMPLE)[:1]
    bare = made | dict.fromkeys(["request_body", "response_body", "response_headers", "status"])
    bare |= {"request_headers": [], "chunk_ns": [], "chunk_bytes": []}
    done = export_trace(open_trace(write_made(tmp_path / "t.parquet", [bare])), tmp_path / "t.csv", CSV)
    assert done.lost == ()
    done = export_trace(open_trace(write_made(tmp_path / "u.parquet", [made])), tmp_path / "u.csv", CSV)
    assert done.lost[0].startswith("CSV holds no request headers, request bodies")


def test_no_column_is_without_a_word_for_its_loss() -> None:
    from capture.exporters.export_file import WORDS

    assert set(WORDS) == set(TRACE_SCHEMA.names)
