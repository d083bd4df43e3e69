"""`peaktape audit`: finds what should not be there, says how often, which kind and where, and never what."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from capture.privacy.audit import Audit
from capture.privacy.secret_patterns import DEFAULT_KINDS, OPTIONAL_KINDS
from capture.redaction import RedactionPolicy, redact
from capture.trace_format import TRACE_SCHEMA, TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.cli.auditing import contents_line
from tests.command_line import peaktape_here
from tests.privacy.canaries import KINDS, canary
from tests.trace_rows import trace_row

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-proj-7abcdefgh1234567890"
EVERYTHING = RedactionPolicy(kinds=(*DEFAULT_KINDS, *OPTIONAL_KINDS))


def row(**given: Any) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(TRACE_SCHEMA.names)
    return columns | trace_row(0, 0, request_headers=[], request_body=None, status=None) | given


def findings(*rows: dict[str, Any], policy: RedactionPolicy = EVERYTHING) -> dict[tuple[str, str], int]:
    audit = Audit(policy)
    for one in rows:
        audit.row(one)
    return {(finding.kind, finding.place): finding.count for finding in audit.findings()}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_findings_are_counted_by_kind_and_place() -> None:
    stream = b"".join(
        b"data: " + body({"choices": [{"index": 0, "delta": {"content": piece}}]}) + b"\n\n"
        for piece in ("It is ", KEY[:9], KEY[9:], ", ok", ".")
    )
    found = findings(
        row(
            path=f"/v1/{KEY}?api_key=x&q=jane@example.com&n=1",
            request_headers=[
                ("Authorization", "Basic x"),
                ("X-Mine", "1"),
                ("accept", f"{KEY}"),
                ("te", "a"),
            ],
            request_body=body({"messages": [{"content": "jane@example.com"}, {"content": f"{KEY} {KEY}"}]}),
            response_headers=[("content-type", "text/event-stream"), ("set-cookie", "REDACTED")],
            response_body=stream,
            error=f"refused {KEY}",
            session_id="jane@example.com",
        ),
        row(
            request_body=body(
                {"tool": {"arguments": json.dumps({"password": "x", "card": 4111111111111111})}}
            )
        ),
    )
    assert found == {
        ("openai_key", "path"): 1,
        ("credential_parameter", "path?api_key"): 1,
        ("email", "path?q"): 1,
        ("credential_header", "request_headers.authorization"): 1,
        ("header_not_on_the_list", "request_headers.x-mine"): 1,
        ("openai_key", "request_headers.accept"): 1,
        ("email", "request_body $.messages[*].content"): 1,
        ("openai_key", "request_body $.messages[*].content"): 2,
        ("openai_key", "response_body $.choices[*].delta.content"): 1,
        ("openai_key", "error"): 1,
        ("email", "session_id"): 1,
        ("assigned_secret", "request_body $.password"): 1,
        ("payment_card", "request_body $.card"): 1,
    }


@pytest.mark.parametrize("contents", ["keep", "drop", "hash", "pseudonymise"])
def test_what_was_redacted_by_a_policy_is_clean_under_it(contents: Any) -> None:
    chance = random.Random(5)
    policy = RedactionPolicy(kinds=EVERYTHING.kinds, prompts=contents, completions=contents)
    for kind in KINDS:
        planted = canary(kind, chance)
        one = row(
            path=f"/v1?key={planted.secret}&x=1",
            request_headers=[("x-mine", planted.secret), ("content-type", "application/json")],
            request_body=body(
                {
                    "model": "m",
                    "messages": [{"role": "user", "content": f"So: {planted.text}"}],
                    "tools": [
                        {
                            "type": "function",
                            "function": {"name": "f_x", "parameters": {"properties": {"a": {}}}},
                        }
                    ],
                    "password": "x",
                }
            ),
            response_headers=[("content-type", "application/json"), ("set-cookie", planted.secret)],
            response_body=body(
                {
                    "choices": [
                        {
                            "message": {
                                "content": planted.text,
                                "tool_calls": [
                                    {
                                        "function": {
                                            "name": "f_x",
                                            "arguments": json.dumps({"a": planted.text}),
                                        }
                                    }
                                ],
                            }
                        }
                    ]
                }
            ),
        )
        assert findings(one, policy=policy)
        redact(one, policy)
        assert findings(one, policy=policy) == {}


def test_a_policys_paths_and_contents_are_audited() -> None:
    from capture.privacy.json_paths import PathRule

    policy = RedactionPolicy(
        paths=(PathRule("$.user", "hash"), PathRule("$..ssn", "drop"), PathRule("$.note", "mask")),
        prompts="pseudonymise",
        completions="drop",
    )
    one = row(
        request_headers=[("content-type", "application/json")],
        request_body=body({"user": "u", "a": {"ssn": 1}, "note": "n", "prompt": "real words", "model": "m"}),
        response_headers=[("content-type", "application/json")],
        response_body=body({"choices": [{"text": "real"}]}),
    )
    assert findings(one, policy=policy) == {
        ("path $.user", "request_body"): 1,
        ("path $..ssn", "request_body"): 1,
        ("path $.note", "request_body"): 1,
        ("prompt not under pseudonymise", "request_body $.prompt"): 1,
        ("completion not under drop", "response_body $.choices[*].text"): 1,
    }
    redact(one, policy)
    assert findings(one, policy=policy) == {}


def test_a_place_never_shows_a_secret_and_their_number_is_bounded() -> None:
    found = findings(row(request_body=body({KEY: {"x": "jane@example.com"}, "a": {"jane@example.com": KEY}})))
    assert found
    assert KEY not in repr(found)
    assert "jane" not in repr(found)
    many = findings(*(row(request_body=body({f"id-{i}-{j}": KEY for j in range(100)})) for i in range(50)))
    assert len(many) <= 2001
    assert sum(many.values()) == 5000


def test_the_verb_says_what_kind_and_where_exits_with_one_and_shows_no_secret(tmp_path: Path) -> None:
    rows = [
        row(request_id=f"r{i}", arrival_ns=i, request_body=body({"content": f"key {KEY}"}))
        for i in range(150)
    ]
    write_trace(tmp_path / "t.parquet", [batch_of(rows)], TraceMetadata(wall_zero_ns=0, source="test"))
    told = peaktape_here("audit", "t.parquet", cwd=tmp_path)
    assert told.returncode == 1
    assert told.stderr == ""
    assert "150  openai_key  request_body $.content" in told.stdout
    assert "7abcdefgh" not in told.stdout
    as_json = peaktape_here("audit", "t.parquet", "--json", cwd=tmp_path)
    facts = json.loads(as_json.stdout)
    assert facts["clean"] is False
    assert facts["findings"] == [{"count": 150, "kind": "openai_key", "place": "request_body $.content"}]
    (tmp_path / "p.yml").write_text("secrets:\n  except: [openai_key]\n")
    clean = peaktape_here("audit", "t.parquet", "--policy", "p.yml", cwd=tmp_path)
    assert clean.returncode == 0
    assert "nothing found" in clean.stdout
    assert "it names no policy: prompts and completions, if any, may stand in it" in clean.stdout


def test_the_verb_refuses_bad_input_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("nonsense: 1\n")
    for arguments, words in (
        (("audit", "missing.parquet"), "no such file"),
        (
            ("audit", ROOT / "samples" / "demo-traffic.parquet", "--policy", "p.yml"),
            "p.yml:1: 'nonsense' found",
        ),
        (("import", "har", "x.har", "-o", "t.parquet", "--policy", "no.yml"), "can't be read"),
    ):
        told = peaktape_here(*arguments, cwd=tmp_path)
        assert told.returncode == 2
        assert len(told.stderr.strip().splitlines()) == 1
        assert words in told.stderr
    shipped = peaktape_here("audit", ROOT / "samples" / "demo-traffic.parquet", cwd=tmp_path)
    assert shipped.returncode == 0, shipped.stdout
    assert "prompts and completions, if any, stand in it as they were" in shipped.stdout
    assert contents_line({"policy": "p", "prompts": "drop", "completions": "keep"}) == (
        "recorded with policy p: prompts: drop, completions, if any, stand in it as they were"
    )
