"""Prompts and completions dropped, hashed, pseudonymised: as many tokens, the same prefixes, no word left."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capture.importers.synthetic_prompt import WORDS, count_tokens
from capture.privacy.messages import redacted_messages
from capture.privacy.policy_file import read_policy
from capture.privacy.pseudonyms import Pseudonyms, pieces_of
from capture.redaction import RedactionPolicy, redact
from capture.semantics import answer_text, fill_semantics
from capture.sessions import SessionFinder
from capture.trace_format import TRACE_SCHEMA

KEY = b"k" * 32
BLOCK = 16
PSEUDO = RedactionPolicy(prompts="pseudonymise", completions="pseudonymise", key=KEY)
texts = st.text(max_size=200) | st.text(alphabet="abcdeXYZ 0123456789.,!?\n\té你好привет😀_-", max_size=300)
words = st.lists(
    st.sampled_from(["lemon", "tree", "quick", "brown", "foxes", "number"]), min_size=0, max_size=80
)


def row(
    request: Any = None, answer: bytes | None = None, kind: str = "application/json", **more: Any
) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(TRACE_SCHEMA.names)
    return columns | {
        "request_id": "r1",
        "turn": 0,
        "arrival_ns": 0,
        "end_ns": 5,
        "outcome": "complete",
        "status": 200,
        "path": "/v1/chat/completions",
        "request_headers": [("content-type", "application/json")],
        "request_body": None if request is None else json.dumps(request).encode(),
        "response_headers": [("content-type", kind)],
        "response_body": answer,
        "chunk_ns": [],
        "chunk_bytes": [len(answer or b"")],
        **more,
    }


def kept(request: Any, policy: RedactionPolicy = PSEUDO) -> Any:
    one = row(request)
    redact(one, policy)
    return json.loads(one["request_body"])


def chat(*contents: str, **more: Any) -> dict[str, Any]:
    roles = itertools.cycle(("user", "assistant"))
    return {"model": "m", "messages": [{"role": next(roles), "content": c} for c in contents], **more}


def answered(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def streamed(deltas: Sequence[str]) -> list[bytes]:
    events = [{"choices": [{"index": 0, "delta": {"content": delta}}]} for delta in deltas]
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


def shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def blocks(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + BLOCK]) for i in range(0, len(tokens) - len(tokens) % BLOCK, BLOCK)]


@given(texts)
def test_pieces_are_the_whole_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


@given(texts)
def test_pseudo_text_has_as_many_tokens_and_only_words_of_the_vocabulary(text: str) -> None:
    _, pseudo = Pseudonyms(KEY).text(b"", text)
    assert count_tokens(pseudo) == len(pieces_of(text)) == len(pieces_of(pseudo))
    assert set(pseudo.split()) <= set(WORDS)


@given(words, words, words)
def test_prefixes_are_shared_in_as_many_blocks_as_before(
    common: list[str], one: list[str], other: list[str]
) -> None:
    first, second = " ".join(common + one), " ".join(common + other)
    pseudonyms = Pseudonyms(KEY, BLOCK)
    made = [pseudonyms.text(b"", text)[1].split() for text in (first, second)]
    before = shared(blocks(pieces_of(first)), blocks(pieces_of(second)))
    assert shared(blocks(made[0]), blocks(made[1])) == before


@given(texts, texts)
def test_another_key_gives_other_words_and_the_same_key_the_same(text: str, other: str) -> None:
    one = Pseudonyms(KEY).text(b"", text)
    assert Pseudonyms(KEY).text(b"", text) == one
    if len(pieces_of(text)) > 8:
        assert Pseudonyms(b"o" * 32).text(b"", text)[1] != one[1]


@given(st.lists(st.text(alphabet="abc dé你\n1", max_size=12), min_size=1, max_size=30))
@example(["a"] * 5)
def test_deltas_joined_are_the_pseudo_text(deltas: list[str]) -> None:
    pseudonyms = Pseudonyms(KEY)
    parts = pseudonyms.spread(b"", deltas)
    assert "".join(parts) == pseudonyms.text(b"", "".join(deltas))[1]
    assert all(not part for part, delta in zip(parts, deltas, strict=True) if not delta)
    pieces = pieces_of("".join(deltas))
    assert all(pseudonyms.spread(b"", pieces))  # a delta that is a token stays one


@given(
    st.lists(texts.filter(bool), min_size=1, max_size=6), st.lists(texts.filter(bool), min_size=1, max_size=6)
)
@settings(max_examples=50)
def test_conversations_share_as_many_messages_as_before(one: list[str], other: list[str]) -> None:
    before = shared(one, other)
    made = [[m["content"] for m in kept(chat(*contents))["messages"]] for contents in (one, other)]
    assert shared(*made) >= before
    for place in range(before, min(len(one), len(other))):
        if len(pieces_of(one[place])) >= 8 and len(pieces_of(other[place])) >= 8:
            assert made[0][place] != made[1][place]


def word_list(*values: Any) -> set[str]:
    found = set()
    for value in values:
        found |= set(re.findall(r"[^\W\d_]{4,}", value if isinstance(value, str) else json.dumps(value)))
    return {word.lower() for word in found} - set(WORDS)


RICH = {
    "model": "some-model",
    "user": "jane.doubtfire@example.com",
    "messages": [
        {"role": "system", "content": "Behave yourself like a gentleman pirate."},
        {
            "role": "user",
            "name": "Doubtfire",
            "content": [
                {"type": "text", "text": "Describe my grandmother's garden, please"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,aGlkZGVuIHBpY3R1cmU=", "detail": "low"},
                },
                {"type": "image_url", "image_url": {"url": "https://family.example/grandmother.png"}},
                {"type": "input_audio", "input_audio": {"data": "c2VjcmV0dm9pY2U" * 30, "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {
                        "name": "find_garden",
                        "arguments": '{"village": "Wimbledon", "postcode": 19540, "big": true}',
                    },
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"flowers": ["petunia", "hollyhock"]}'},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "find_garden",
                "description": "Finds gardens by village",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "village": {"type": "string", "description": "Parish", "enum": ["Wimbledon"]},
                        "postcode": {"type": "integer"},
                        "big": {"$ref": "#/$defs/Sized"},
                    },
                    "required": ["village"],
                    "$defs": {"Sized": {"type": "boolean"}},
                },
            },
        }
    ],
    "stop": ["THEEND"],
    "temperature": 0.7,
    "stream": True,
    "max_tokens": 12,
    "metadata": {"campaign": "springtime"},
}
API = {
    "model",
    "user",
    "messages",
    "role",
    "system",
    "content",
    "type",
    "text",
    "image",
    "detail",
    "input",
    "audio",
    "data",
    "format",
    "base",
    "assistant",
    "tool",
    "calls",
    "call",
    "function",
    "name",
    "arguments",
    "tools",
    "description",
    "parameters",
    "object",
    "properties",
    "string",
    "enum",
    "integer",
    "required",
    "boolean",
    "defs",
    "stop",
    "temperature",
    "stream",
    "max",
    "tokens",
    "metadata",
    "campaign",
    "https",
    "pseudonym",
    "invalid",
    "some",
    "null",
    "true",
    "false",
    "hmac",
    "sized",
    "jpeg",
}


@pytest.mark.parametrize("policy", ["drop", "hash", "pseudonymise"])
def test_no_word_of_a_prompt_is_left_and_what_a_server_needs_still_stands(policy: Any) -> None:
    found = kept(RICH, RedactionPolicy(prompts=policy, key=KEY))
    text = json.dumps(found)
    left = {word for word in word_list(RICH) - API if word in text.lower()}
    assert left == set()
    assert "19540" not in text
    assert "aGlkZGVuIHBpY3R1cmU" not in text
    for name in ("model", "temperature", "stream", "max_tokens"):
        assert found[name] == RICH[name]
    assert [message["role"] for message in found["messages"]] == ["system", "user", "assistant", "tool"]
    assert found["messages"][1]["content"][1]["image_url"]["detail"] == "low"
    assert found["messages"][3]["tool_call_id"] == "call_1"


def test_names_of_tools_and_parameters_stay_consistent_and_arguments_stay_json() -> None:
    found = kept(RICH)
    function = found["tools"][0]["function"]
    assert found["messages"][2]["tool_calls"][0]["function"]["name"] == function["name"] != "find_garden"
    schema = function["parameters"]
    assert set(schema["required"]) <= set(schema["properties"])
    arguments = json.loads(found["messages"][2]["tool_calls"][0]["function"]["arguments"])
    assert set(arguments) == set(schema["properties"])
    assert (
        schema["properties"][list(schema["properties"])[2]]["$ref"]
        == f"#/$defs/{next(iter(schema['$defs']))}"
    )
    urls = [part["image_url"]["url"] for part in found["messages"][1]["content"][1:3]]
    assert len(urls[0]) == len(RICH["messages"][1]["content"][1]["image_url"]["url"])  # type: ignore[index, call-overload]
    assert urls[0].startswith("data:image/png;base64,")
    assert urls[1].startswith("https://pseudonym.invalid/")


def test_an_answer_is_the_same_text_when_the_next_turn_says_it_back() -> None:
    answer = "The answer is a long one, of more than sixteen tokens, so that it fills several blocks anyway."
    deltas = [answer[i : i + 7] for i in range(0, len(answer), 7)]
    for body, kind in (
        (answered(answer), "application/json"),
        (b"".join(streamed(deltas)), "text/event-stream"),
    ):
        first = row(chat("What is the question?"), body, kind)
        redact(first, PSEUDO)
        told = answer_text(first["response_body"], kind, "")
        second = kept(chat("What is the question?", answer, "And now?"))
        assert second["messages"][1]["content"] == told
        assert count_tokens(told or "") == len(pieces_of(answer))
        assert sum(first["chunk_bytes"]) == len(first["response_body"])


def test_sessions_are_found_before_it_and_could_be_found_after_it() -> None:
    turns = [("hello there", "general remarks"), ("and then", "something else"), ("finally", "goodbye now")]
    said: list[str] = []
    rows = []
    for number, (asked, told) in enumerate(turns):
        said.append(asked)
        rows.append(
            row(
                chat(*said),
                answered(told),
                request_id=f"r{number}",
                arrival_ns=10 * number,
                end_ns=10 * number + 5,
            )
        )
        said.append(told)
    before, after = SessionFinder(), SessionFinder()
    for one in rows:
        fill_semantics(one, before)
        redact(one, PSEUDO)
    found = [(one["session_id"], one["turn"]) for one in rows]
    assert found == [(rows[0]["session_id"], turn) for turn in range(3)]
    for one in rows:
        one["session_id"] = None
        fill_semantics(one, after)
    assert [(one["session_id"], one["turn"]) for one in rows] == found


def test_prompts_of_other_apis() -> None:
    policy = PSEUDO
    found = kept({"model": "m", "prompt": "Once upon a time", "suffix": "the end of it", "max_tokens": 5})
    assert count_tokens(found["prompt"]) == 4
    assert not word_list("Once upon time suffix") & set(found["prompt"].split())
    listed = kept({"input": ["same words", "same words", "other words"], "encoding_format": "float"})
    assert listed["input"][0] == listed["input"][1] != listed["input"][2]
    assert listed["encoding_format"] == "float"
    ids = kept({"prompt": list(range(40)), "max_tokens": 5})
    more = kept({"prompt": [*range(32), 9, 9], "max_tokens": 5})
    assert len(ids["prompt"]) == 40
    assert shared(ids["prompt"], more["prompt"]) == 32
    assert kept({"prompt": [1, 2]}, RedactionPolicy(prompts="drop"))["prompt"] == []
    tabular = kept({"inputs": [{"name": "age", "datatype": "BYTES", "shape": [1], "data": ["Doubtfire"]}]})
    assert tabular["inputs"][0] | {"data": 0} == {"name": "age", "datatype": "BYTES", "shape": [1], "data": 0}
    assert "Doubtfire" not in repr(tabular)
    answer = row(
        None,
        b'{"choices":[{"text":" my words","logprobs":{"tokens":[" my"]}}],"usage":{"total_tokens":3}}',
    )
    redact(answer, policy)
    told = json.loads(answer["response_body"])
    assert told["choices"][0]["logprobs"] is None
    assert told["usage"] == {"total_tokens": 3}
    vectors = row(None, b'{"data":[{"object":"embedding","index":0,"embedding":[0.1,0.2]}],"model":"m"}')
    redact(vectors, policy)
    assert json.loads(vectors["response_body"])["data"] == [
        {"object": "embedding", "index": 0, "embedding": []}
    ]


def test_a_prompt_in_the_query_goes_with_the_prompts() -> None:
    one = row(None, path="/generate?prompt=my+words&n=1")
    redact(one, PSEUDO)
    assert one["path"] == "/generate?prompt=REDACTED&n=1"


@pytest.mark.parametrize(
    ("policy", "form"),
    [("drop", None), ("hash", rb"hmac:[0-9a-f]{16}"), ("pseudonymise", rb"(?s).{40}")],
)
def test_bodies_without_structure_are_dropped_hashed_or_noise_of_their_length(
    policy: Any, form: bytes | None
) -> None:
    body = b"\x00\x00\x00\x00\x23" + bytes(range(35))
    one = row(None, body, "application/grpc")
    redact(one, RedactionPolicy(completions=policy, key=KEY))
    if form is None:
        assert one["response_body"] is None
    else:
        assert re.fullmatch(form, one["response_body"])
    assert one["response_body"] != body


def test_messages_keep_their_number_and_grpc_its_frames() -> None:
    secret = b"sk-proj-7abcdefgh1234567890"
    calls = [b"\x00\x00\x00\x00" + bytes([len(b)]) + b for b in (b"\x0a\x03abc", b"\x0a\x1b" + secret)]
    sizes = [len(calls[0]), 7, len(calls[1])]
    one = row(
        None,
        b"".join(calls),
        "application/grpc",
        message_bytes=sizes,
        message_from_client=[False, True, False],
    )
    one["request_headers"] = [("content-type", "application/grpc+proto")]
    redact(one, RedactionPolicy(completions="hash", key=KEY))
    assert one["message_bytes"] == [26, 7, 26]
    assert one["response_body"][:5] == b"\x00\x00\x00\x00\x15"
    plain = row(
        None,
        b"".join(calls),
        "application/grpc",
        message_bytes=sizes,
        message_from_client=[False, True, False],
    )
    redact(plain, RedactionPolicy())
    assert plain["response_body"] == b"".join(calls).replace(secret, b"X" * len(secret))
    assert plain["message_bytes"] == sizes


def test_socket_messages_that_are_json_are_judged_as_one_stream() -> None:
    from collections import Counter

    secret = "sk-proj-7abcdefgh1234567890"
    parts = [
        {"type": "response.text.delta", "delta": piece} for piece in ("key ", secret[:9], secret[9:], " ok")
    ]
    messages = [json.dumps(part).encode() for part in parts]
    policy = RedactionPolicy()
    made = redacted_messages(messages, policy.rules("response"), Counter())
    assert made is not None
    assert "".join(json.loads(message)["delta"] for message in made) == "key [REDACTED:openai_key] ok"
    hidden = redacted_messages(messages, PSEUDO.rules("response"), Counter())
    assert hidden is not None
    assert {json.loads(message)["type"] for message in hidden} == {"response.text.delta"}


@given(st.integers(0, 2**32))
@example(136622)  # a role that is a list
@settings(max_examples=30)
def test_no_word_of_any_random_document_is_left(seed: int) -> None:
    chance = random.Random(seed)
    vocabulary = ["zebra", "quince", "violin", "harbour", "mustard", "pelican", "wizard", "orchid"]

    def value(depth: int) -> Any:
        kind = chance.randrange(6 if depth < 4 else 2)
        sentence = " ".join(chance.choice(vocabulary) for _ in range(chance.randrange(1, 9)))
        if kind < 2:
            return sentence
        if kind == 2:
            return json.dumps({"x": value(depth + 1)})
        if kind == 3:
            return [value(depth + 1) for _ in range(chance.randrange(4))]
        names = chance.sample(["content", "text", "arguments", "input", "prompt", "name", "other", "role"], 3)
        return {name: value(depth + 1) for name in names}

    request = {"messages": [value(0)], "prompt": value(0), "zzz": value(1)}
    for policy in ("drop", "hash", "pseudonymise"):
        text = json.dumps(kept(request, RedactionPolicy(prompts=policy, key=KEY)))
        # One word alone under an API's own name is taken for that API's word, such as a role.
        for word in vocabulary:
            assert not re.search(rf"{word} |{word}\W+{word}| {word}", text)


def test_a_models_own_tokenizer_makes_the_counts_exact(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is no dependency")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2000, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    words = " ".join(f"{word} {word}" for word in WORDS)
    made.train_from_iterator([words, *(f"{word}" for word in WORDS)] * 9, trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "p.yml").write_text("contents: {prompts: pseudonymise, tokenizer: tokenizer.json}\n")
    policy = read_policy(tmp_path / "p.yml")
    for text in ("Hello, wide world! 😀 naïve", "日本語のテキスト", "x = [1, 2]\n\n\treturn x", "😀😀 ok"):
        pseudo = kept(chat(text), policy)["messages"][0]["content"]
        assert len(policy.cut(text)) == len(made.encode(text).ids) == count_tokens(pseudo)
        assert "".join(policy.cut(text)) == text
        assert len(made.encode(pseudo).ids) == count_tokens(pseudo)
    assert policy.describe()["sha256"] != RedactionPolicy(prompts="pseudonymise").describe()["sha256"]
    again = RedactionPolicy.from_values(policy.to_values(), policy.key)
    assert again.cut("Hello, world") == policy.cut("Hello, world")
