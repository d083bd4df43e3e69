"""`peaktape redact`: a trace recorded with more is, afterwards, what a capture under the policy would be."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from capture.encrypted_parquet import is_encrypted
from capture.encryption_keys import Keys
from capture.exchange import Exchange, RequestHead
from capture.importers.synthetic_prompt import WORDS
from capture.privacy.policy_file import read_policy
from capture.privacy.pseudonyms import pieces_of
from capture.redacted_trace import Redaction, write_redacted
from capture.redaction import RedactionPolicy
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, rows_of, write_trace
from replay.cli.auditing import contents_line
from tests.capture.recording_rig import Desk, give
from tests.command_line import peaktape_here
from tests.privacy.canaries import KINDS, canary
from tests.privacy.test_canaries import PLACES, fragments, plant, readings
from tests.trace_rows import trace_row, write_rows

MS = 1_000_000
VARIABLES = {"POLICY_KEY": "a key of at least thirty-two letters"}
POLICY = """\
name: strict
headers: {{redact: [x-tenant-id]}}
json:
  - {{path: $.user, action: hash}}
  - {{path: $.metadata, action: drop, in: request}}
secrets:
  also: [email]
  patterns: [{{name: staff, regex: 'EMP-\\d{{6}}'}}]
contents: {{prompts: {contents}, completions: {contents}, key_env: POLICY_KEY}}
"""


def strict(folder: Path, contents: str) -> RedactionPolicy:
    path = folder / f"{contents}.yml"
    path.write_text(POLICY.format(contents=contents))
    return read_policy(path, VARIABLES)


def said(number: int, turn: int) -> str:
    return f"In round {turn} customer {number} (jane{number}@example.com) asks EMP-{100_000 + number}"


def chat(number: int, turns: int) -> Exchange:
    """Turn `turns` of a conversation, its answer a stream whose words are cut anywhere."""
    messages: list[dict[str, str]] = [{"role": "system", "content": "You sell the wares of a small shop."}]
    for turn in range(turns + 1):
        messages.append({"role": "user", "content": said(number, turn)})
        if turn < turns:
            messages.append({"role": "assistant", "content": f"Reply {turn} to {number}: it is in stock."})
    asked: dict[str, Any] = {"model": "m", "stream": True, "messages": messages, "user": f"user-{number}"}
    headers = [("content-type", "application/json"), ("x-tenant-id", f"tenant-{number}"), ("accept", "*/*")]
    body = json.dumps(asked | {"metadata": {"note": said(number, 9)}}).encode()
    if number % 2:
        headers, body = [*headers, ("content-encoding", "gzip")], gzip.compress(body, mtime=0)
    start = (10 * turns + number) * 10 * MS
    made = Exchange(
        f"{number}-{turns}",
        RequestHead("POST", "http", "h:1", f"/v1/chat?q=words+of+{number}", "HTTP/1.1", headers),
        start,
    )
    made.whole(body, start + MS)
    made.answered(200, [("content-type", "text/event-stream")], start + 2 * MS)
    answer = f"Reply {turns} to {number}: it is in stock."
    pieces = [answer[:7], answer[7:12], answer[12:]]
    for i, piece in enumerate(pieces):
        event = {"id": f"c-{number}-{turns}", "choices": [{"index": 0, "delta": {"content": piece}}]}
        made.take(b"data: " + json.dumps(event).encode() + b"\n\n", start + (3 + i) * MS + 777, i)
    made.take(b"data: [DONE]\n\n", start + 7 * MS, 9)
    made.finish(start + 7 * MS)
    return made


def failed(number: int) -> Exchange:
    """A text that is no JSON, refused with a word of the server's."""
    head = RequestHead(
        "PUT", "http", "h:1", "/files/my+own+words", "HTTP/1.1", [("content-type", "text/plain")]
    )
    made = Exchange(f"f-{number}", head, number)
    made.whole(said(number, 0).encode(), number + 1)
    made.answered(400, [("content-type", "application/json")], number + 2)
    made.take(json.dumps({"error": {"message": f"bad: {said(number, 0)}"}}).encode(), number + 3, 1)
    made.finish(number + 4)
    return made


def captured(folder: Path, policy: RedactionPolicy) -> Path:
    """The trace that a recorder makes of the same traffic."""
    desk = Desk(folder, redaction=policy)
    give(desk.recorder, *(failed(n) for n in range(3)))
    give(desk.recorder, *(chat(n, turns) for turns, n in itertools.product(range(3), range(4))))
    desk.taken()
    assert list(desk.compacted()) == [{}]
    desk.recorder.forget()
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for batch in open_trace(path).iter_batches() for row in rows_of(batch)]


def redacted(source: Path, policy: RedactionPolicy, output: Path) -> Path:
    write_redacted(open_trace(source), policy, output)
    return output


@pytest.mark.parametrize("contents", ["keep", "pseudonymise", "hash", "drop"])
def test_what_is_redacted_later_is_what_a_capture_under_the_policy_has(contents: str, tmp_path: Path) -> None:
    policy = strict(tmp_path, contents)
    more = captured(tmp_path / "more", RedactionPolicy())
    found = rows(redacted(more, policy, tmp_path / "later.parquet"))
    wanted = rows(captured(tmp_path / "at-once", policy))
    assert len(found) == len(wanted) == 15
    for one, other in zip(found, wanted, strict=True):
        assert one == other
    assert found != rows(more)


@pytest.mark.parametrize("contents", ["keep", "pseudonymise", "hash", "drop"])
def test_what_stands_as_the_policy_wants_it_stays_as_it_is(contents: str, tmp_path: Path) -> None:
    policy = strict(tmp_path, contents)
    once = captured(tmp_path / "once", policy)
    assert rows(redacted(once, policy, tmp_path / "twice.parquet")) == rows(once)


def test_a_weaker_policy_brings_nothing_back_and_is_not_said_to_hold(tmp_path: Path) -> None:
    once = captured(tmp_path / "once", strict(tmp_path, "hash"))
    twice = redacted(once, RedactionPolicy(prompts="pseudonymise"), tmp_path / "twice.parquet")
    assert rows(twice) == rows(once)
    stated = open_trace(twice).metadata.redaction
    assert (stated["policy"], stated["prompts"], stated["completions"]) == ("default", "hash", "hash")
    assert contents_line(stated) == (
        "recorded with policy strict, redacted with default: prompts: hash, completions: hash"
    )


def test_words_that_an_earlier_redaction_left_are_taken_out(tmp_path: Path) -> None:
    policy = RedactionPolicy(prompts="pseudonymise")
    prompts = (" ".join(WORDS[:5]), "a customer's own words")
    kept = [
        trace_row(n, n, request_body=json.dumps({"prompt": text}).encode()) for n, text in enumerate(prompts)
    ]
    write_rows(tmp_path / "old.parquet", kept, redaction=policy.describe())
    found = [
        json.loads(row["request_body"])["prompt"]
        for row in rows(redacted(tmp_path / "old.parquet", policy, tmp_path / "new.parquet"))
    ]
    assert found[0] == prompts[0]
    assert set(found[1].split()) <= set(WORDS)
    assert len(found[1].split()) == len(pieces_of(prompts[1]))


def test_of_segments_under_several_policies_the_least_counts(tmp_path: Path) -> None:
    hashed, kept = RedactionPolicy(prompts="hash").describe(), RedactionPolicy().describe()
    redaction = Redaction(RedactionPolicy(), [hashed, kept, kept])
    stated = redaction.describe()
    assert stated["prompts"] == "keep"
    assert stated["earlier"] == [hashed, kept]
    assert Redaction(RedactionPolicy(completions="drop"), [stated]).describe()["earlier"][:2] == [
        hashed,
        kept,
    ]
    assert Redaction(RedactionPolicy(), []).describe()["prompts"] == "keep"


def test_canaries_of_a_trace_that_kept_them_are_gone(tmp_path: Path) -> None:
    chance = random.Random(20_261_129)
    kinds = itertools.cycle(KINDS)
    planted = [
        plant(PLACES[i % len(PLACES)], [canary(next(kinds), chance) for _ in range(4)], chance)
        for i in range(40)
    ]
    made = [
        trace_row(
            number,
            number * MS,
            path=one.path,
            request_headers=list(one.headers.items()),
            request_body=one.body,
            response_headers=list(one.answer_headers.items()),
            response_body=b"".join(one.answer),
            chunk_ns=[number * MS + i for i in range(len(one.answer))],
            chunk_bytes=[len(piece) for piece in one.answer],
        )
        for number, one in enumerate(planted)
    ]
    write_rows(tmp_path / "all.parquet", made)
    assert peaktape_here("audit", "all.parquet", cwd=tmp_path).returncode == 1
    done = peaktape_here("redact", "all.parquet", "-o", "less.parquet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "less.parquet: 40 rows under policy default, prompts: keep, completions: keep; "
    )
    found = rows(tmp_path / "less.parquet")
    with_pairs = [
        row
        | {
            f"{side}_headers": [{"name": n, "value": v} for n, v in row[f"{side}_headers"]]
            for side in ("request", "response")
        }
        for row in found
    ]
    everything = "\n".join(itertools.chain.from_iterable(map(readings, with_pairs)))
    for secret in itertools.chain.from_iterable(one.secrets for one in planted):
        assert not any(part in everything for part in fragments(secret)), secret.kind
    assert peaktape_here("audit", "less.parquet", cwd=tmp_path).returncode == 0
    for row, one in zip(found, planted, strict=True):
        assert sum(row["chunk_bytes"]) == len(row["response_body"])  # they still cut it
        assert len(row["chunk_ns"]) == len(one.answer)


def test_what_can_t_be_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    trace = write_rows(tmp_path / "t.parquet", [trace_row(0, 0)])
    before = trace.read_bytes()
    (tmp_path / "bad.yml").write_text("contents: {prompts: blur}\n")
    for arguments, complaint in (
        (("t.parquet", "-o", "t.parquet", "--overwrite"), "t.parquet: is the input t.parquet"),
        (("t.parquet", "-o", "s3://bucket/t.parquet"), "s3:/"),
        (("t.parquet", "-o", "new.parquet", "--policy", "bad.yml"), "bad.yml:1: prompts: 'blur' found"),
        (("gone.parquet", "-o", "new.parquet"), "gone.parquet"),
    ):
        done = peaktape_here("redact", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert complaint in done.stderr
        assert done.stderr.count("\n") == 1
    assert trace.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yml", "t.parquet"]


def test_a_folder_under_a_key_becomes_a_file_under_that_key(tmp_path: Path) -> None:
    key = f"file:{tmp_path / 'key'}"
    (tmp_path / "key").write_text("7a" * 32)
    keys = Keys.of(key)
    (tmp_path / "prod").mkdir()
    for n in range(3):
        batch = batch_of([trace_row(n, n * MS, request_headers=[("x-customer", f"c{n}"), ("accept", "a")])])
        metadata = TraceMetadata(wall_zero_ns=5, source="test")
        write_trace(tmp_path / "prod" / f"segment-{n:06}.parquet", [batch], metadata, keys=keys)
    done = peaktape_here(
        "redact", "prod", "--redact", "Accept", "-o", "out.parquet", "--key", key, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert is_encrypted(tmp_path / "out.parquet")
    found = [
        row for batch in open_trace(tmp_path / "out.parquet", keys).iter_batches() for row in rows_of(batch)
    ]
    assert [row["request_id"] for row in found] == ["r0", "r1", "r2"]
    assert all(value == "REDACTED" for row in found for _, value in row["request_headers"])
