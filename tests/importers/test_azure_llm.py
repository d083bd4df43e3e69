"""The Azure LLM trace: exact instants and lengths, checked line by line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from real_files import real

from capture.failures import BadInput
from capture.importers.azure_llm import open_azure_llm
from capture.importers.pending_trace import WrittenTrace, write_pending
from capture.importers.source_file import epoch_ns
from capture.importers.synthetic_prompt import SyntheticPrompts, count_tokens
from capture.importers.synthetic_request import ChatRequests
from capture.trace_reader import Trace, open_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
GOOD = (
    HEADER
    + "2023-11-16 18:15:46.6805900,374,44\r\n"
    + "2023-11-16 18:15:46.6805901,0,1\r\n"
    + "2023-11-16 18:15:47,1,0\r\n"
)


def imported(source: Path, limit: int | None = None) -> tuple[Trace, WrittenTrace]:
    pending = open_azure_llm(source, SyntheticPrompts(), ChatRequests())
    output = source.with_suffix(".parquet")
    written = write_pending(pending, output, limit=limit)
    return open_trace(output), written


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "azure.csv"
    path.write_bytes(text.encode())
    return path


def test_instants_keep_their_100_ns_and_lengths_are_exact(tmp_path: Path) -> None:
    trace, written = imported(csv_file(tmp_path, GOOD))
    assert trace.arrival_ns.tolist() == [0, 100, 319_410_000]
    assert trace.metadata.wall_zero_ns == 1_700_158_546_680_590_000
    assert trace.column("input_tokens").to_pylist() == [374, 0, 1]
    assert trace.column("output_tokens").to_pylist() == [44, 1, 0]
    bodies = [json.loads(body) for body in trace.column("request_body").to_pylist()]
    assert [count_tokens(body["messages"][0]["content"]) for body in bodies] == [374, 0, 1]
    assert [body["max_tokens"] for body in bodies] == [44, 1, 1]
    assert (written.rows, written.span_ns) == (3, 319_410_000)


def test_the_metadata_says_where_the_rows_come_from(tmp_path: Path) -> None:
    trace, _ = imported(csv_file(tmp_path, GOOD), limit=2)
    metadata = trace.metadata
    assert (metadata.source, metadata.sampling) == ("import:azure-llm azure.csv", "first 2 rows")
    assert metadata.counts == {"seen": 2, "recorded": 2, "dropped": {}}
    assert metadata.clock_tick_ns == 100
    assert "synthetic" in metadata.notes[0]
    assert "answers were never seen" in metadata.notes[1]
    assert metadata.upstreams == ()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\r\n", "\n"),
        GOOD + "\r\n",
        GOOD.replace("900,", "900+00:00,").replace("901,", "901Z,"),
        GOOD.replace("374,44", "374,44,extra"),
    ],
    ids=["byte order mark", "unix line ends", "blank last line", "time zones", "further column"],
)
def test_spellings_of_the_same_trace(tmp_path: Path, text: str) -> None:
    trace, _ = imported(csv_file(tmp_path, text))
    assert trace.arrival_ns.tolist() == [0, 100, 319_410_000]


def test_a_gzipped_trace_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert imported(path)[1].rows == 3


BROKEN = {
    "empty file": ("", "empty file"),
    "header only": (HEADER, "without rows"),
    "other columns": ("time,in,out\n1,2,3\n", ":1: column TIMESTAMP missing"),
    "text for a count": (GOOD + "2023-11-16 18:15:48,many,1\n", ":5: column ContextTokens: 'many'"),
    "negative count": (GOOD + "2023-11-16 18:15:48,-1,1\n", ":5: column ContextTokens: '-1'"),
    "fraction": (GOOD + "2023-11-16 18:15:48,1,1.5\n", ":5: column GeneratedTokens: '1.5'"),
    "absurd count": (GOOD + "2023-11-16 18:15:48,99999999,1\n", ":5: column ContextTokens"),
    "no instant": (GOOD + "yesterday,1,1\n", ":5: column TIMESTAMP: 'yesterday'"),
    "impossible day": (GOOD + "2023-02-30 00:00:00,1,1\n", ":5: column TIMESTAMP"),
    "cut off": (GOOD + "2023-11-16 18:15:48,1", ":5: column GeneratedTokens: 'nothing'"),
    "unsorted": (
        GOOD + "2023-11-16 18:15:46,1,1\n",
        ":5: column TIMESTAMP: 2023-11-16 18:15:46 found, before",
    ),
    "not text": (GOOD + "\udcff\udcfe", "not UTF-8"),
    "JSON": ('{"timestamp": 0}\n', "column TIMESTAMP missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    text, wanted = BROKEN[name]
    path = tmp_path / "azure.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as caught:
        imported(path)
    assert wanted in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["azure.csv"]


def test_a_cut_off_gzip_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv.gz"
    path.write_bytes(gzip.compress((GOOD + "2023-11-16 18:15:48,1,1\n" * 50).encode())[:-10])
    with pytest.raises(BadInput, match="damaged compression"):
        imported(path)


def test_an_existing_trace_survives_a_failed_import(tmp_path: Path) -> None:
    source = csv_file(tmp_path, GOOD + "x,1,1\n")
    output = tmp_path / "there.parquet"
    output.write_bytes(b"precious")
    pending = open_azure_llm(source, SyntheticPrompts(), ChatRequests())
    with pytest.raises(BadInput):
        write_pending(pending, output, overwrite=True)
    assert output.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01 00:00:00", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01 00:00:00.1234567", 123_456_700),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
        ("1970-01-01T00:00:00.0000000019", 1),
    ],
)
def test_instants_are_read_to_the_nanosecond(text: str, ns: int) -> None:
    assert epoch_ns(text) == ns


@pytest.mark.slow
def test_the_real_trace_comes_out_as_published(tmp_path: Path) -> None:
    source = real("azure-llm-2023/AzureLLMInferenceTrace_conv.csv")
    pending = open_azure_llm(source, SyntheticPrompts(), ChatRequests())
    written = write_pending(pending, tmp_path / "azure.parquet")
    trace = open_trace(tmp_path / "azure.parquet")
    assert written.rows == trace.rows == 19_366
    assert written.span_ns == 3_501_721_937_000
    assert sum(trace.column("input_tokens").to_pylist()) == 22_361_870
    assert sum(trace.column("output_tokens").to_pylist()) == 4_088_665
    tokens = 0
    for batch in trace.iter_batches(["request_body"]):
        tokens += sum(
            count_tokens(json.loads(b)["messages"][0]["content"]) for b in batch.column(0).to_pylist()
        )
    assert tokens == 22_361_870
