"""A policy file: what each key does, and that whatever is wrong in it is refused with its line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from capture.failures import BadInput
from capture.privacy.credential_names import REDACTED
from capture.privacy.policy_file import policy_of, read_policy
from capture.redaction import RedactionPolicy, redact
from capture.trace_format import TRACE_SCHEMA

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "redaction.yml"


def row(**given: Any) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(TRACE_SCHEMA.names)
    columns |= {"request_headers": [], "path": "/", "chunk_bytes": [], "chunk_ns": [], "request_id": "r"}
    return columns | given


def refusal(tmp_path: Path, text: str, **environment: str) -> str:
    path = tmp_path / "policy.yml"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read_policy(path, environment)
    said = str(refused.value).removeprefix(f"{path}")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- a list", 1, "a list found, a mapping with name, headers"),
        ("name: x\nheader: {}", 2, "'header' found, one of name, headers"),
        ("headers:\n  keep: x-a", 2, "keep: 'x-a' found, a list wanted"),
        ("headers:\n  keep:\n  - x-a\n  - 5", 4, "5 found, the name of a header"),
        ("headers:\n  keep: ['a b']", 2, "'a b' found"),
        ("query: [a]", 1, "query: a list found, a mapping with redact wanted"),
        ("json:\n- {path: $.a, action: drop}\n- {path: user, action: drop}", 3, "a path begins with $"),
        ("json:\n- path: $.a[-1]\n  action: drop", 2, "not understood from '[-1]' on"),
        ("json:\n- {path: $.a}", 2, "action: nothing found, one of drop, mask, hash wanted"),
        ("json:\n- path: $.a\n  action: shred", 3, "'shred' found, one of drop, mask, hash"),
        ("json:\n- {action: drop}", 2, "no path found"),
        (
            "json:\n- {path: $.a, action: drop, in: body}",
            2,
            "in: 'body' found, one of request, response, both",
        ),
        ("secrets:\n  also: [emails]", 2, "'emails' found, one of email, us_ssn, iban wanted"),
        ("secrets:\n  except: [email]", 2, "'email' found, one of anthropic_key"),
        ("secrets:\n  patterns:\n  - name: x\n    regex: '(['", 4, "a regular expression"),
        ("secrets:\n  patterns:\n  - {name: x, regex: 'a*'}", 3, "matches nothing at all"),
        ("secrets:\n  patterns:\n  - {name: 'x]', regex: a}", 3, "'x]' found"),
        ("contents:\n  prompts: forget", 2, "'forget' found, one of keep, drop, hash, pseudonymise wanted"),
        ("contents:\n  block_tokens: 1", 2, "block_tokens: 1 found, a whole number from 4 to 512"),
        ("contents:\n  block_tokens: yes", 2, "found, a whole number"),
        ("contents:\n\n  key_env: NOT_THERE", 3, "NOT_THERE: not set, at least 32 characters wanted"),
        ("contents:\n  key_env: SHORT", 2, "SHORT: 5 characters, at least 32"),
        ("contents:\n  tokenizer: nothing.json", 2, "tokenizer: "),
        ("name: [1]", 1, "name: a list found, a text wanted"),
        ("name: a\nname: b", 2, "duplicate key"),
        ("a: 'open", 1, "valid YAML wanted"),
        ("a: !!python/object:os.system x", 1, "found"),
        ("\x07", None, "valid YAML wanted"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int | None, words: str
) -> None:
    said = refusal(tmp_path, text, SHORT="short")
    assert words in said
    if line is not None:
        assert said.startswith(f":{line}: ")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        read_policy(tmp_path / "missing.yml")
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_policy(tmp_path / "binary.yml")


def test_an_empty_file_is_the_default_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "lenient.yml"
    path.write_text("# nothing\n")
    assert read_policy(path).describe() | {"policy": "default"} == RedactionPolicy().describe()
    assert read_policy(path).describe()["policy"] == "lenient"


def test_the_sample_does_what_it_says() -> None:
    policy = policy_of(SAMPLE, ["x-more"])
    asked = {
        "user": "jane",
        "metadata": {"ticket": "7"},
        "messages": [{"role": "user", "name": "Jane", "content": "My employee number is EMP-123456"}],
        "max_tokens": 5,
        "ssn": "078-05-1120",
    }
    before = row(
        path="/v1/chat?customer=acme&n=1",
        request_headers=[("X-Region", "eu"), ("X-Tenant-Id", "acme"), ("x-more", "1"), ("x-other", "2")],
        request_body=json.dumps(asked).encode(),
        response_headers=[("content-type", "application/json"), ("set-cookie", "a=b")],
        response_body=b'{"choices": [{"message": {"content": "write to jane@example.com"}}]}',
        error="refused for jane@example.com",
    )
    redact(before, policy)
    assert before["path"] == f"/v1/chat?customer={REDACTED}&n=1"
    assert before["request_headers"] == [
        ("X-Region", "eu"),
        *((name, REDACTED) for name in ("X-Tenant-Id", "x-more", "x-other")),
    ]
    assert before["response_headers"] == [("content-type", "application/json"), ("set-cookie", REDACTED)]
    assert before["error"] == f"refused for {REDACTED}"
    kept = json.loads(before["request_body"])
    assert set(kept) == {"user", "messages", "max_tokens"}
    assert kept["user"].startswith("hmac:")
    assert kept["messages"][0]["name"] == "[REDACTED:path]"
    everything = repr(before)
    for word in ("Jane", "jane", "EMP", "employee", "acme", "write", "078"):
        assert word not in everything


def test_a_loosened_kind_and_an_own_pattern_count(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text(
        "secrets:\n  except: [payment_card]\n  patterns:\n  - {name: room, regex: 'room (\\d+)'}\n"
    )
    policy = read_policy(path)
    before = row(request_body=b'{"a": "4111111111111111 in room 42"}')
    redact(before, policy)
    assert before["request_body"] == b'{"a": "4111111111111111 in room [REDACTED:room]"}'


def test_a_key_from_the_environment_makes_captures_agree(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("json:\n- {path: $.user, action: hash}\ncontents:\n  key_env: KEY\n")
    bodies = []
    for key in ("k" * 32, "k" * 32, "other" * 8):
        before = row(request_body=b'{"user": "jane"}')
        redact(before, read_policy(path, {"KEY": key}))
        bodies.append(before["request_body"])
    assert bodies[0] == bodies[1] != bodies[2]
    assert "kkkk" not in repr(read_policy(path, {"KEY": "k" * 32}))
    assert "kkkk" not in json.dumps(read_policy(path, {"KEY": "k" * 32}).describe())


def test_the_digest_tells_policies_apart_and_the_key_is_no_part_of_it() -> None:
    assert RedactionPolicy().describe() == RedactionPolicy().describe()
    sample = read_policy(SAMPLE)
    assert sample.describe()["sha256"] == read_policy(SAMPLE).describe()["sha256"]
    assert sample.describe()["sha256"] != RedactionPolicy().describe()["sha256"]
    assert sample.describe()["policy"] == "production"


def test_a_policy_passes_to_another_process_with_its_key_or_by_values_without() -> None:
    policy = read_policy(SAMPLE)
    redact(row(request_headers=[("x", "y")], request_body=b"{}"), policy)  # fills what is cached
    copy = pickle.loads(pickle.dumps(policy))  # noqa: S301
    assert copy == policy
    assert copy.key == policy.key
    values = json.loads(json.dumps(policy.to_values()))
    assert policy.key.hex() not in json.dumps(values)
    again = RedactionPolicy.from_values(values, policy.key)
    assert again == policy
    assert again.describe() == policy.describe()
    assert RedactionPolicy.from_values(values).key != policy.key
