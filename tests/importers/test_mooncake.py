"""The Mooncake trace: shared prefixes from block ids, and a rounded clock told and un-rounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_files import real

from capture.failures import BadInput
from capture.importers.clock import Rounded
from capture.importers.mooncake import open_mooncake
from capture.importers.pending_trace import write_pending
from capture.importers.synthetic_prompt import SyntheticPrompts, count_tokens
from capture.importers.synthetic_request import ChatRequests
from capture.trace_reader import Trace, open_trace

TICK_NS = 3_000_000_000


def line(
    timestamp: Any = 0, tokens: Any = 600, output: Any = 5, ids: Any = (0, 1), **more: Any
) -> dict[str, Any]:
    fields = {"timestamp": timestamp, "input_length": tokens, "output_length": output, "hash_ids": ids}
    return {**fields, **more}


def jsonl(folder: Path, lines: list[Any]) -> Path:
    path = folder / "mooncake.jsonl"
    path.write_text("".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in lines))
    return path


def imported(source: Path, *, unround: bool = False, limit: int | None = None) -> Trace:
    output = source.with_suffix(".parquet")
    rounded = Rounded.SPREAD if unround else Rounded.KEEP
    pending = open_mooncake(source, SyntheticPrompts(), ChatRequests(), rounded=rounded)
    write_pending(pending, output, limit=limit, overwrite=True)
    return open_trace(output)


def prompts_of(trace: Trace) -> list[str]:
    bodies = trace.column("request_body").to_pylist()
    return [json.loads(body)["messages"][0]["content"] for body in bodies]


def test_equal_ids_become_equal_prefixes(tmp_path: Path) -> None:
    trace = imported(
        jsonl(
            tmp_path, [line(ids=[7, 8]), line(ids=[7, 9]), line(tokens=1100, ids=[7, 8, 1]), line(ids=[9, 8])]
        )
    )
    first, second, third, fourth = (prompt.split() for prompt in prompts_of(trace))
    assert first[:512] == second[:512] == third[:512]
    assert first[512:] != second[512:]
    assert third[:600] == first
    assert fourth[:512] != first[:512]
    assert [len(words) for words in (first, second, third, fourth)] == [600, 600, 1100, 600]


def test_arrivals_count_from_the_first_line(tmp_path: Path) -> None:
    trace = imported(jsonl(tmp_path, [line(5000), line(5000.5), "", line(7000)]))
    assert trace.arrival_ns.tolist() == [0, 500_000, 2_000_000_000]
    assert trace.metadata.wall_zero_ns == 0
    assert trace.column("request_id").to_pylist() == ["mooncake-1", "mooncake-2", "mooncake-3"]


def ticking() -> list[dict[str, Any]]:
    return [line(3000 * tick, ids=[tick, i]) for tick in range(20) for i in range(5)]


def test_a_rounded_clock_is_told_and_left_alone(tmp_path: Path) -> None:
    trace = imported(jsonl(tmp_path, ticking()))
    assert trace.metadata.clock_tick_ns == TICK_NS
    assert any("ticks every 3 s" in note and "--unround" in note for note in trace.metadata.notes)
    assert any("answers were never seen" in note for note in trace.metadata.notes)
    assert set(np.unique(trace.arrival_ns % TICK_NS)) == {0}


def test_unrounding_spreads_each_tick_and_keeps_order_and_counts(tmp_path: Path) -> None:
    source = jsonl(tmp_path, ticking())
    before, prompts = imported(source), prompts_of(imported(source))
    trace = imported(source, unround=True)
    assert (trace.arrival_ns // TICK_NS).tolist() == (before.arrival_ns // TICK_NS).tolist()
    assert len(set(trace.arrival_ns.tolist())) == trace.rows
    assert prompts_of(trace) == prompts
    assert trace.metadata.clock_tick_ns == 1_000_000
    assert imported(source, unround=True).arrival_ns.tolist() == trace.arrival_ns.tolist()


def test_unrounding_a_fine_clock_changes_nothing_and_says_so(tmp_path: Path) -> None:
    source = jsonl(tmp_path, [line(0), line(3), line(9)])
    trace = imported(source, unround=True)
    assert trace.arrival_ns.tolist() == [0, 3_000_000, 9_000_000]
    assert any("changed nothing" in note for note in trace.metadata.notes)


def test_a_rounded_clock_is_refused_when_asked(tmp_path: Path) -> None:
    source = jsonl(tmp_path, ticking())
    with pytest.raises(BadInput, match=r"a clock that ticks every 3 s found, .* add --unround"):
        open_mooncake(source, SyntheticPrompts(), ChatRequests(), rounded=Rounded.REFUSE)


BROKEN = {
    "cut off": ([line(), '{"timestamp": 3000, "input_le'], ':2: \'{"timestamp": 3000, "input_le\' found'),
    "no object": ([line(), "[1, 2]"], ":2: '[1, 2]' found, a whole JSON object wanted"),
    "no instant": ([{"input_length": 1}], ":1: field timestamp: nothing found"),
    "instant as text": ([line("0")], ":1: field timestamp: '0' found"),
    "negative instant": ([line(-1)], ":1: field timestamp: -1 found"),
    "instant not finite": ([line(float("nan"))], ":1: field timestamp: nan found"),
    "instant beyond int64": ([line(10**30)], ":1: field timestamp: 1000"),
    "unsorted": (
        [line(5000), line(4000)],
        ":2: field timestamp: 4000 found after 5000, ascending wanted",
    ),
    "length as text": ([line(tokens="600")], ":1: field input_length: '600' found"),
    "truth for a length": ([line(output=True)], ":1: field output_length: True found"),
    "negative length": ([line(output=-1)], ":1: field output_length: -1 found"),
    "no ids": ([{k: v for k, v in line().items() if k != "hash_ids"}], "field hash_ids: nothing found"),
    "ids as text": ([line(ids=["a", "b"])], ":1: field hash_ids"),
    "too few ids": ([line(ids=[1])], ":1: field hash_ids: 1 ids found, 2 wanted for 600 tokens"),
    "blank": ([""], "no request found"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    lines, wanted = BROKEN[name]
    source = jsonl(tmp_path, lines)
    with pytest.raises(BadInput) as caught:
        imported(source)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["mooncake.jsonl"]


def test_the_real_trace_keeps_its_shared_prefixes(tmp_path: Path) -> None:
    source = real("mooncake-fast25/conversation_trace.jsonl")
    pending = open_mooncake(source, SyntheticPrompts(), ChatRequests(), rounded=Rounded.SPREAD)
    write_pending(pending, tmp_path / "mooncake.parquet", limit=300)
    trace = open_trace(tmp_path / "mooncake.parquet")
    lines = [json.loads(text) for text in source.read_text().splitlines()[:300]]
    prompts = [prompt.split() for prompt in prompts_of(trace)]
    assert [len(words) for words in prompts] == [found["input_length"] for found in lines]
    blocks: dict[int, list[str]] = {}
    for found, words in zip(lines, prompts, strict=True):
        for k, hash_id in enumerate(found["hash_ids"]):
            block = words[512 * k : 512 * (k + 1)]
            assert blocks.setdefault(hash_id, block) == block
    full = {tuple(block) for block in blocks.values()}
    assert len(full) == len(blocks)
    assert any("un-rounded" in note for note in trace.metadata.notes)


@pytest.mark.slow
def test_a_real_hour_s_beginning_is_imported_with_all_its_tokens(tmp_path: Path) -> None:
    lines = real("mooncake-fast25/conversation_trace.jsonl").read_text().splitlines()[:1000]
    published = [json.loads(line) for line in lines]
    source = tmp_path / "beginning.jsonl"
    source.write_text("\n".join(lines))
    pending = open_mooncake(source, SyntheticPrompts(), ChatRequests())
    written = write_pending(pending, tmp_path / "mooncake.parquet")
    trace = open_trace(tmp_path / "mooncake.parquet")
    span_ms = published[-1]["timestamp"] - published[0]["timestamp"]
    assert (written.rows, written.span_ns) == (1000, span_ms * 1_000_000)
    assert trace.metadata.clock_tick_ns == TICK_NS
    tokens = 0
    for batch in trace.iter_batches(["request_body"]):
        tokens += sum(
            count_tokens(json.loads(b)["messages"][0]["content"]) for b in batch.column(0).to_pylist()
        )
    assert tokens == sum(one["input_length"] for one in published) > 8_000_000
