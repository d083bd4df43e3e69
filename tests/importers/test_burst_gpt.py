"""BurstGPT: both releases of its columns, whole seconds told and spread, failures kept as such."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from capture.failures import BadInput
from capture.importers.burst_gpt import open_burst_gpt
from capture.importers.clock import Rounded
from capture.importers.pending_trace import write_pending
from capture.importers.synthetic_prompt import SyntheticPrompts, count_tokens
from capture.importers.synthetic_request import ChatRequests
from capture.trace_reader import open_trace

S = 1_000_000_000
FIRST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
THIRD = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
GOOD = (
    FIRST
    + "5,ChatGPT,472,18,490,Conversation log\n"
    + "45,GPT-4,1087,0,1087,API log\n"
    + "45,ChatGPT,3,2,5,API log\n"
)


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "burst.csv"
    path.write_text(text)
    return path


def rows_of(source: Path, **options: Any) -> list[dict[str, Any]]:
    output = source.with_name("t.parquet")
    pending = open_burst_gpt(source, SyntheticPrompts(), ChatRequests(), **options)
    write_pending(pending, output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def test_lines_become_requests_of_their_lengths_to_their_models(tmp_path: Path) -> None:
    rows = rows_of(csv_file(tmp_path, GOOD))
    assert [(row["arrival_ns"] // S, row["model"]) for row in rows] == [
        (0, "ChatGPT"),
        (40, "GPT-4"),
        (40, "ChatGPT"),
    ]
    bodies = [json.loads(row["request_body"]) for row in rows]
    assert [count_tokens(body["messages"][0]["content"]) for body in bodies] == [472, 1087, 3]
    assert [body["max_tokens"] for body in bodies] == [18, 1, 2]
    assert [row["outcome"] for row in rows] == ["complete", "server_error", "complete"]
    notes = open_trace(tmp_path / "t.parquet").metadata.notes
    assert any("1 requests have no response tokens" in note for note in notes)
    assert any("ticks every 1 s" in note for note in notes)


def test_the_third_release_has_sessions_and_spans(tmp_path: Path) -> None:
    lines = "19440110.0,s1,43,GPT-4,906,446,1352,Conversation log\n19440161.0,s1,2.5,GPT-4,36,29,65,x\n"
    first, second = rows_of(csv_file(tmp_path, THIRD + lines), model="mine")
    assert (first["session_id"], first["turn"], second["turn"]) == ("s1", 0, 1)
    assert (first["end_ns"], second["end_ns"] - second["arrival_ns"]) == (43 * S, 5 * S // 2)
    assert json.loads(second["request_body"])["model"] == second["model"] == "mine"


def test_whole_seconds_are_spread_or_refused(tmp_path: Path) -> None:
    source = csv_file(tmp_path, FIRST + "".join(f"{n // 5},m,1,1,2,x\n" for n in range(50)))
    spread = [row["arrival_ns"] for row in rows_of(source, rounded=Rounded.SPREAD)]
    assert spread == sorted(set(spread))
    assert len(spread) == 50
    with pytest.raises(BadInput, match="ticks every 1 s found"):
        rows_of(source, rounded=Rounded.REFUSE)
    fine = csv_file(tmp_path, FIRST + "0.001,m,1,1,2,x\n")
    assert len(rows_of(fine, rounded=Rounded.REFUSE)) == 1


def test_lines_in_any_order_are_sorted(tmp_path: Path) -> None:
    source = csv_file(tmp_path, FIRST + "7,b,1,1,2,x\n3,a,1,1,2,x\n")
    assert [(row["model"], row["arrival_ns"]) for row in rows_of(source)] == [("a", 0), ("b", 4 * S)]


def test_a_gzipped_trace_is_read_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "burst.csv.gz"
    source.write_bytes(gzip.compress(GOOD.encode()))
    assert len(rows_of(source)) == 3


BROKEN = {
    "header only": (FIRST, "a header without rows"),
    "other columns": ("a,b\n", ":1: column Timestamp missing"),
    "no instant": (GOOD + "soon,m,1,1,2,x\n", ":5: column Timestamp: 'soon' found, seconds"),
    "endless": (GOOD + "inf,m,1,1,2,x\n", ":5: column Timestamp: 'inf' found"),
    "no count": (GOOD + "50,m,many,1,2,x\n", ":5: column Request tokens: 'many' found"),
    "cut off": (GOOD + "50,m,1", ":5: column Response tokens: 'nothing' found"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    text, wanted = BROKEN[name]
    with pytest.raises(BadInput) as caught:
        rows_of(csv_file(tmp_path, text))
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["burst.csv"]
