"""Bodies under a policy: nothing left over, all else byte for byte, valid JSON and framing, reads kept."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from capture.privacy.bodies import RedactedBody, redacted_body
from capture.privacy.json_paths import PathRule
from capture.privacy.secret_patterns import OPTIONAL_KINDS
from capture.redaction import RedactionPolicy
from capture.semantics import answer_text, decode_content
from tests.privacy.canaries import KINDS, canary

POLICY = RedactionPolicy()
KEY = "sk-proj-7abcdefgh1234567890"
MARK = "[REDACTED:openai_key]"


def redacted(
    body: bytes | None,
    content_type: str = "application/json",
    coding: str = "",
    policy: RedactionPolicy = POLICY,
    direction: Any = "response",
    sizes: Sequence[int] = (),
) -> tuple[RedactedBody, Counter[str]]:
    tally: Counter[str] = Counter()
    headers = [("Content-Type", content_type), *([("Content-Encoding", coding)] if coding else [])]
    return redacted_body(body, headers, policy.rules(direction), tally, sizes=sizes), tally


def stream_of(deltas: Sequence[str], **more: Any) -> list[bytes]:
    events = [
        {"id": "c1", "choices": [{"index": 0, "delta": {"content": delta}, **more}]} for delta in deltas
    ]
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


def deltas_of(body: bytes) -> list[str]:
    events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(event)["choices"][0]["delta"]["content"] for event in events]


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [{"role":"user",  "content": "hello\\u00e9 \\/ \\ud83d\\ude00"}], "n": 1.50e0}',
        b"",
        b"\x00\x01binary\xff",
        b"data: not json at all\n\n",
        b'{"truncated": "so f',
        b'[{"usage": {"prompt_tokens": 12, "total_tokens": 4096}, "token": " international"}]',
        b'{"token": "Hello", "reason": "secret", "key": "value", "signature": "RXJvY0NrWUlCeE1hTERBMA=="}',
        json.dumps({"embedding": [random.Random(1).uniform(-1, 1) for _ in range(500)]}).encode(),
    ],
    ids=lambda body: body[:20],
)
def test_a_body_without_a_secret_stays_byte_for_byte(body: bytes) -> None:
    for kind in ("application/json", "text/event-stream", "text/plain", ""):
        result, tally = redacted(body, kind, sizes=[len(body)])
        assert result.body == body
        assert list(result.sizes) == [len(body)]
        assert not tally


def test_only_the_string_that_held_it_is_written_anew() -> None:
    body = b'{"a" : 1.50e0,\n "k\\u00e9y":"caf\\u00e9","b":["x ' + KEY.encode() + b' y", null ] }'
    result, tally = redacted(body)
    assert result.body == body.replace(KEY.encode(), MARK.encode())
    assert tally == {"openai_key": 1}


def test_secrets_are_found_at_any_depth_and_in_escaped_json_and_the_json_stays_valid() -> None:
    inner: Any = {"note": f'say "{KEY}"\n', "password": "hunter2", "n": [4111111111111111, 5]}
    value = inner
    for _ in range(3):
        value = {"deep": [json.dumps(value)]}
    result, tally = redacted(json.dumps(value).encode())
    assert result.body is not None
    found = json.loads(result.body)
    for _ in range(3):
        found = json.loads(found["deep"][0])
    assert found == {"note": f'say "{MARK}"\n', "password": "[REDACTED:assigned_secret]", "n": [0, 5]}
    assert tally == {"openai_key": 1, "assigned_secret": 1, "payment_card": 1}


def test_members_are_secret_by_their_name_also_in_pairs_and_member_names_can_hold_one() -> None:
    asked: dict[str, Any] = {
        "client_secret": "x",
        "Api-Key": "y",
        "deviceToken": "a1b2c3d4e5f6a7b8c9",
        "token": "a1b2c3d4e5f6a7b8c9",
        "headers": [{"name": "Authorization", "value": "z"}, {"name": "accept", "value": "z"}],
        "properties": {"password": {"type": "string"}},
        KEY: 1,
        "idempotency_key": "a1b2c3d4e5f6a7b8c9",
    }
    result, _ = redacted(json.dumps(asked).encode())
    gone = "[REDACTED:assigned_secret]"
    del asked[KEY]
    assert json.loads(result.body or b"") == asked | {
        "client_secret": gone,
        "Api-Key": gone,
        "deviceToken": gone,
        "token": gone,
        "headers": [{"name": "Authorization", "value": gone}, {"name": "accept", "value": "z"}],
        MARK: 1,
    }
    assert KEY.encode() not in (result.body or b"")


@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
    st.integers(0, 3),
    st.sampled_from(["json", "sse", "ndjson", "text"]),
)
def test_a_secret_split_over_deltas_is_left_in_none_of_them(
    kind: str, seed: int, form: int, wire: str
) -> None:
    chance = random.Random(seed)
    planted = canary(kind, chance)
    text = f"Well, {planted.text} it is."
    cuts = sorted(chance.randrange(len(text)) for _ in range(chance.randrange(2, 12)))
    deltas = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    deltas = ["So ", "it ", "goes. ", *deltas, " Yes", ", ", "so."]
    shape = {
        0: lambda d: {"choices": [{"index": 0, "delta": {"content": d}}]},
        1: lambda d: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": d}},
        2: lambda d: {"model": "m", "message": {"role": "assistant", "content": d}, "done": False},
        3: lambda d: {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": d}}]}}]},
    }[form]
    if wire == "json":
        pieces, content_type = [json.dumps(shape(text)).encode()], "application/json"
    elif wire == "sse":
        pieces = [b"data: " + json.dumps(shape(delta)).encode() + b"\n\n" for delta in deltas]
        content_type = "text/event-stream; charset=utf-8"
    elif wire == "ndjson":
        pieces, content_type = (
            [json.dumps(shape(delta)).encode() + b"\n" for delta in deltas],
            "application/x-ndjson",
        )
    else:
        pieces, content_type = (
            [f"data: {d}\n\n".encode() for d in deltas if "\n" not in d],
            "text/event-stream",
        )
        if len(pieces) != len(deltas):
            return
    result, tally = redacted(b"".join(pieces), content_type, sizes=[len(piece) for piece in pieces])
    assert result.body is not None
    assert len(result.sizes) == len(pieces)
    assert sum(result.sizes) == len(result.body)
    assert sum(tally.values()) >= 1
    strings: list[str] = []

    def gather(value: Any) -> None:
        if isinstance(value, str):
            strings.append(value)
        for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            gather(below)

    for line in result.body.decode().splitlines():
        line = line.removeprefix("data: ")
        gather(json.loads(line) if line.startswith("{") else line)
    assert planted.secret not in "".join(strings)
    for part in itertools.pairwise(range(0, len(planted.secret), 12)):
        assert planted.secret[slice(*part)] not in "".join(strings)


def test_interleaved_choices_are_judged_each_for_itself() -> None:
    def event(index: int, text: str) -> bytes:
        return (
            b"data: "
            + json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode()
            + b"\n\n"
        )

    parts = [KEY[:6], KEY[6:12], KEY[12:]]
    other = ["Nothing ", "to ", "see"]
    body = b"".join(event(0, a) + event(1, b) for a, b in zip(parts, other, strict=True))
    result, _ = redacted(body, "text/event-stream")
    found = deltas_of(result.body or b"")
    assert "".join(found[::2]) == MARK
    assert found[1::2] == other


def test_a_delta_that_held_something_still_does_and_every_read_keeps_its_share() -> None:
    deltas = ["My ", "key ", "sk-", "proj-7abc", "defgh12", "34567890", " ok", ""]
    pieces = stream_of(deltas)
    result, _ = redacted(b"".join(pieces), "text/event-stream", sizes=[len(piece) for piece in pieces])
    assert result.body is not None
    found = deltas_of(result.body)
    assert "".join(found) == f"My key {MARK} ok"
    assert [bool(delta) for delta in found] == [bool(delta) for delta in deltas]
    cut = [0, *itertools.accumulate(result.sizes)]
    reads = [result.body[a:b] for a, b in itertools.pairwise(cut)]
    assert all(read.startswith(b"data: ") and read.endswith(b"\n\n") for read in reads)
    assert len(reads) == len(pieces)


def zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstd),
        ("gzip, br", lambda body: brotli.compress(gzip.compress(body))),
    ],
)
def test_coded_bodies_are_decoded_changed_and_coded_again(coding: str, pack: Any) -> None:
    body = b"".join(stream_of(["My key ", KEY[:9], KEY[9:], " ok"]))
    packed = pack(body)
    sizes = [len(packed) // 2, len(packed) - len(packed) // 2]
    result, tally = redacted(packed, "text/event-stream", coding, sizes=sizes)
    assert result.body is not None
    plain = decode_content(result.body, coding) or b""
    assert "".join(deltas_of(plain)) == f"My key {MARK} ok"
    assert len(result.sizes) == 2
    assert sum(result.sizes) == len(result.body)
    assert tally == {"openai_key": 1}
    same, _ = redacted(pack(b'{"a": 1}'), "application/json", coding)
    assert same.body == pack(b'{"a": 1}')


def test_reads_of_a_coded_stream_keep_their_events() -> None:
    packer = zlib.compressobj(wbits=31)
    events = stream_of(["a ", KEY[:9], KEY[9:], " b"])
    pieces = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events]
    pieces[-1] += packer.flush()
    result, _ = redacted(b"".join(pieces), "text/event-stream", "gzip", sizes=[len(p) for p in pieces])
    reader = zlib.decompressobj(wbits=31)
    cut = [0, *itertools.accumulate(result.sizes)]
    reads = [reader.decompress((result.body or b"")[a:b]) for a, b in itertools.pairwise(cut)]
    assert all(read.startswith(b"data: ") and read.endswith(b"\n\n") for read in reads)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"\x1f\x8b\x08 damaged", "gzip"),
        (b"anything", "unheard-of"),
        (b"not brotli", "br"),
        (b"not zstd", "zstd"),
        (gzip.compress(bytes(80 << 20)), "gzip"),
        (zstd(bytes(80 << 20)), "zstd"),
        (brotli.compress(bytes(80 << 20), quality=1), "br"),
    ],
    ids=["damaged gzip", "unknown", "damaged br", "damaged zstd", "gzip bomb", "zstd bomb", "br bomb"],
)
def test_a_body_that_cannot_be_looked_into_is_left_out_and_counted(body: bytes, coding: str) -> None:
    result, tally = redacted(body, coding=coding, sizes=[len(body)])
    assert result.body is None
    assert list(result.sizes) == [len(body)]
    assert tally == {"body_not_decodable": 1}


def test_a_coded_body_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    whole = gzip.compress(json.dumps({"a": [str(i) for i in range(3000)]}).encode())
    result, _ = redacted(whole[: len(whole) // 2], coding="gzip")
    assert result.body == whole[: len(whole) // 2]


def test_forms_texts_and_bytes_without_structure() -> None:
    form = f"model=m&api_key=abc&prompt=hi+{KEY}&x=%20y".encode()
    result, _ = redacted(form, "application/x-www-form-urlencoded")
    assert result.body == b"model=m&api_key=REDACTED&prompt=REDACTED&x=%20y"
    result, _ = redacted(f"<p>é {KEY}</p>".encode(), "text/html")
    assert result.body == f"<p>é {MARK}</p>".encode()
    grpc = b"\x00\x00\x00\x00\x40\x0a" + KEY.encode() + b"\xff\x00 \x12"
    result, tally = redacted(grpc, "application/grpc")
    assert result.body == grpc.replace(KEY.encode(), b"X" * len(KEY))
    assert tally == {"openai_key": 1}
    parts = f'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n{KEY}\r\n--b--'.encode()
    result, _ = redacted(parts, "multipart/form-data; boundary=b")
    assert result.body == parts.replace(KEY.encode(), b"X" * len(KEY))


@pytest.mark.parametrize(
    ("form", "left"),
    [
        (f"{KEY}", "REDACTED"),
        (f"a&hi+{KEY}&b=1", "a&REDACTED&b=1"),
        (f"={KEY}", "=REDACTED"),
        (f"x=={KEY}&", "x=REDACTED&"),
        (f"=x={KEY}", "=REDACTED"),
        ("&&a&=&b=", "&&a&=&b="),
    ],
)
def test_a_forms_values_are_looked_at_without_a_name_too(form: str, left: str) -> None:
    """As curl -d sends whatever one gives it."""
    result, _ = redacted(form.encode(), "application/x-www-form-urlencoded")
    assert result.body == left.encode()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("sign", ["x", "=", "&", "a=", "%"])
def test_a_form_of_one_sign_keeps_nobody_for_long(sign: str) -> None:
    """Each place in it was taken for a name's beginning: 20 KB took 3 s, and 1 MB hours."""
    body = sign.encode() * (1_000_000 // len(sign))
    assert redacted(body, "application/x-www-form-urlencoded")[0].body == body


def test_bytes_that_are_no_utf8_survive_around_a_secret() -> None:
    body = b'{"a": "\xff\xfe", "b": "' + KEY.encode() + b' \\ud800"}'
    result, _ = redacted(body)
    assert b'"\xff\xfe"' in (result.body or b"")
    assert KEY.encode() not in (result.body or b"")


PATHS = RedactionPolicy(
    paths=(
        PathRule("$.user", "hash"),
        PathRule("$.messages[*].content", "mask"),
        PathRule("$..ssn", "drop"),
        PathRule("$.list[1]", "drop"),
        PathRule('$["odd name"].*', "mask"),
        PathRule("$.only_asked", "drop", "request"),
    )
)


def test_paths_drop_mask_and_hash_what_they_choose_and_nothing_else() -> None:
    asked = {
        "ssn": 1,
        "user": "u-1",
        "messages": [
            {"role": "user", "content": "words"},
            {"role": "user", "content": [{"text": "w", "n": 2}]},
        ],
        "deep": {"a": [{"ssn": "1", "b": 1}], "ssn": 2},
        "list": [0, 1, 2],
        "odd name": {"a": True, "b": 5, "c": None},
        "nested": json.dumps({"ssn": 3, "ok": 4}),
        "only_asked": 9,
    }
    result, tally = redacted(json.dumps(asked).encode(), policy=PATHS, direction="request")
    found = json.loads(result.body or b"")
    assert found.pop("user").startswith("hmac:")
    assert found == {
        "messages": [
            {"role": "user", "content": "[REDACTED:path]"},
            {"role": "user", "content": [{"text": "[REDACTED:path]", "n": 0}]},
        ],
        "deep": {"a": [{"b": 1}]},
        "list": [0, 2],
        "odd name": {"a": False, "b": 0, "c": None},
        "nested": '{"ok": 4}',
    }
    assert tally["path $..ssn"] == 4
    answer, _ = redacted(b'{"only_asked": 9}', policy=PATHS)
    assert answer.body == b'{"only_asked": 9}'


def test_equal_values_hash_alike_under_one_key_and_differently_under_another() -> None:
    body = b'{"user": "u-1"}'
    assert redacted(body, policy=PATHS)[0].body == redacted(body, policy=PATHS)[0].body
    other = RedactionPolicy(paths=PATHS.paths)
    assert redacted(body, policy=other)[0].body != redacted(body, policy=PATHS)[0].body


@given(
    st.lists(st.sampled_from("abcd"), max_size=6),
    st.sets(st.sampled_from("abcd")),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
)
def test_dropping_members_leaves_valid_json_without_them(
    names: list[str], gone: set[str], separators: tuple[str, str]
) -> None:
    policy = RedactionPolicy(paths=tuple(PathRule(f"$.{name}", "drop") for name in sorted(gone)))
    members = separators[0].join(f'"{name}"{separators[1]}{i}' for i, name in enumerate(names))
    body = f"{{ {members} }}".encode()
    result, _ = redacted(body, policy=policy)
    assert json.loads(result.body or b"") == {k: v for k, v in json.loads(body).items() if k not in gone}


def test_json_that_paths_cannot_be_followed_in_is_emptied() -> None:
    result, tally = redacted(b'{"user": "u-1", "cut off', policy=PATHS)
    assert result.body == b"[REDACTED:unreadable]"
    assert tally == {"unreadable": 1}
    deep = b'{"user": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert redacted(deep, policy=PATHS)[0].body == b"[REDACTED:unreadable]"
    events = b'data: {"user": "u-1", "n": 1}\n\ndata: {"user": "u-2\n\n'
    result, _ = redacted(events, "text/event-stream", policy=PATHS)
    assert b"u-1" not in (result.body or b"")
    assert b"u-2" not in (result.body or b"")


@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "text/event-stream", "application/x-ndjson", ""]),
)
def test_no_bytes_make_it_fail(body: bytes, content_type: str) -> None:
    strict = RedactionPolicy(
        kinds=(*POLICY.kinds, *OPTIONAL_KINDS), paths=PATHS.paths, prompts="pseudonymise"
    )
    for policy in (POLICY, PATHS, strict):
        for direction in ("request", "response"):
            redacted(body, content_type, policy=policy, direction=direction, sizes=[len(body)])


@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_redaction_is_idempotent(kind: str, seed: int) -> None:
    planted = canary(kind, random.Random(seed))
    once, _ = redacted(json.dumps({"a": f"x {planted.text} y", "b": [planted.text]}).encode())
    again, tally = redacted(once.body)
    assert again.body == once.body
    assert not tally


def test_the_answer_of_a_redacted_stream_still_reads() -> None:
    body = b"".join(stream_of(["My key ", KEY, " ok"]))
    result, _ = redacted(body, "text/event-stream")
    assert answer_text(result.body or b"", "text/event-stream", "") == f"My key {MARK} ok"
