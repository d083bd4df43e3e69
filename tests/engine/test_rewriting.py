"""What requests say after content rules: which prompts begin alike, how long they are, whom they ask."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.failures import BadInput
from capture.importers.synthetic_prompt import count_tokens
from replay.engine.prompt_texts import prompts_in, scaled, words_in
from replay.engine.requests import Rewrite, prepare
from replay.engine.rewriting import NONCE_WORDS, common_text, nonce, path_for, rewritten
from replay.transform.content_rules import CLONES, HITS, UNIQUE, ContentRules

SYSTEM = "You sell bicycles and answer in short sentences."
FIRST = "what does a new chain for my old bike cost please"


def row(number: int, body: Mapping[str, Any] | bytes, path: str = "/v1/chat/completions") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {
        "request_id": f"r{number}",
        "path": path,
        "method": "POST",
        "model": "old",
        "stream": False,
        "request_headers": (("content-type", "application/json"),),
        "request_body": raw,
        "outcome": "complete",
        "input_tokens": None,
    }


def chat(*said: str, system: str = SYSTEM, **further: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    return {"model": "old", "messages": [{"role": "system", "content": system}, *messages], **further}


def sent(request: Mapping[str, Any], rules: ContentRules, *, copy: int = 0, session: int = 7) -> Any:
    return json.loads(rewritten(request, {"copy": copy, "session": session}, rules)["request_body"])


def text_of(request: dict[str, Any]) -> str:
    return " ".join(text.value for text in prompts_in(request)[0])


def shared_words(one: str, other: str) -> int:
    count = 0
    for mine, theirs in zip(one.split(), other.split(), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def served_share(prompts: Iterable[str]) -> float:
    """The share of words that an unlimited prefix cache would serve, of all prompts but the first."""
    known: dict[str, Any] = {}
    served = total = 0
    for number, prompt in enumerate(prompts):
        place, hit = known, True
        for word in prompt.split():
            hit = hit and word in place
            served += hit and number > 0
            total += number > 0
            place = place.setdefault(word, {})
    return served / total


def test_unique_prompts_share_no_word_with_any_other_nor_with_themselves_in_another_turn() -> None:
    rules = ContentRules(prompts=UNIQUE)
    first = row(0, chat(FIRST))
    second = row(1, chat(FIRST, "twenty euro", "and a saddle"))
    prompts = [text_of(sent(request, rules, copy=copy)) for request in (first, second) for copy in range(3)]
    for at, prompt in enumerate(prompts):
        assert all(shared_words(prompt, other) < NONCE_WORDS for other in prompts[at + 1 :])
        assert prompt.endswith(text_of(json.loads((first if at < 3 else second)["request_body"])))
    assert sent(first, rules) == sent(first, rules)
    assert sent(first, rules) != sent(first, ContentRules(prompts=UNIQUE, seed=1))


def test_clones_share_what_the_system_says_and_their_own_turns_but_not_the_originals_words() -> None:
    rules = ContentRules(prompts=CLONES)
    first, second = row(0, chat(FIRST)), row(1, chat(FIRST, "twenty euro", "and a saddle"))
    assert rewritten(first, {"copy": 0, "session": 7}, rules) is first
    clone = text_of(sent(first, rules, copy=1, session=8))
    assert shared_words(clone, text_of(sent(first, rules))) == len(SYSTEM.split())
    assert shared_words(clone, text_of(sent(first, rules, copy=2, session=9))) == len(SYSTEM.split())
    later = text_of(sent(second, rules, copy=1, session=8))
    assert later.startswith(clone)


@pytest.mark.parametrize("hits", [0.0, 0.25, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("tokens_a_word", [1.0, 1.5])
def test_a_target_share_of_prefix_hits_is_met(hits: float, tokens_a_word: float) -> None:
    """Within a share that the six new words of each prompt, and the one word that a message keeps, take."""
    rules = ContentRules(prompts=HITS, hits=hits)
    rows = [row(n, chat(" ".join(f"word{n}x{k}" for k in range(200 + 10 * n)))) for n in range(60)]
    prompts = []
    for copy, request in [(1, rows[-1]), *((0, row) for row in rows)]:  # the longest first: it is all known
        words = words_in(text_of(json.loads(request["request_body"])))
        request["input_tokens"] = round(words * tokens_a_word)
        prompts.append(text_of(sent(request, rules, copy=copy)))
    expected = hits * tokens_a_word / (hits * tokens_a_word + 1 - hits)  # words of the common text are tokens
    assert served_share(prompts) == pytest.approx(expected, abs=0.03)


def test_the_common_text_is_one_text_of_so_many_tokens() -> None:
    for tokens in (0, 1, 7, 1023, 1024, 5000):
        assert count_tokens(common_text(tokens)) == tokens
        assert common_text(6000).startswith(common_text(tokens))


def test_a_nonce_depends_on_nothing_but_its_identity() -> None:
    assert nonce(1, "r", 0) == nonce(1, "r", 0)
    assert len({nonce(seed, request, 0) for seed in range(20) for request in "abcdefgh"}) == 160
    assert count_tokens(nonce(1)) == NONCE_WORDS


texts = st.lists(
    st.sampled_from(["a", "bike", "chain,", "wörter", "你好", "x" * 30]), min_size=1, max_size=40
).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(texts, st.floats(0.05, 6))
def test_a_scaled_text_has_so_many_times_the_words_and_begins_as_before(text: str, factor: float) -> None:
    words = words_in(text)
    longer = scaled(text, factor)
    assert words_in(longer) == max(1, round(factor * words))
    assert longer.startswith(text) if factor >= 1 else text.startswith(longer)
    assert scaled(text, 1) == text


def test_lengths_grow_in_every_message_and_stated_bounds_of_the_answer_with_theirs() -> None:
    rules = ContentRules(prompt_length=2, answer_length=0.5)
    before = chat(FIRST, max_tokens=30, options={"num_predict": 9})
    after = sent(row(0, before), rules)
    for old, new in zip(before["messages"], after["messages"], strict=True):
        assert new == {"role": old["role"], "content": f"{old['content']} {old['content']}"}
    assert (after["max_tokens"], after["options"]["num_predict"]) == (15, 4)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (chat("hi", system="be kind"), [["be kind", "hi"]]),
        (
            {
                "system": "be kind",
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            },
            0,
        ),
        (
            {
                "system": [{"type": "text", "text": "be kind"}],
                "messages": [{"role": "user", "content": "hi"}],
            },
            0,
        ),
        ({"instructions": "be kind", "input": [{"role": "user", "content": "hi"}]}, 0),
        ({"instructions": "be kind", "input": "hi"}, 0),
        (
            {
                "systemInstruction": {"parts": [{"text": "be kind"}]},
                "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            },
            0,
        ),
        ({"system": "be kind", "prompt": "hi"}, 0),
        ({"prompt": ["one", "two"]}, [["one"], ["two"]]),
        ({"input": "one"}, [["one"]]),
        ({"inputs": "one", "parameters": {"max_new_tokens": 3}}, [["one"]]),
        ({"inputs": [{"name": "x", "datatype": "FP32", "data": [0.5]}]}, []),
        ({"prompt": [1, 2, 3]}, []),
        ({"input": ""}, []),
        ({"messages": "odd"}, []),
    ],
)
def test_texts_are_found_where_apis_put_them(body: dict[str, Any], found: Any) -> None:
    prompts = [[text.value for text in prompt] for prompt in prompts_in(body)]
    assert prompts == (found or [["be kind", "hi"]] if found != [] else [])


def test_models_and_endpoints_are_renamed_in_body_path_and_run() -> None:
    rules = ContentRules(
        models=(("old", "new/7b"), ("*", "small")),
        endpoints=(("/v1/chat/completions", "/api/chat"), ("/v2/*", "/triton/v2/*")),
    )
    prepared = prepare(
        row(0, chat("hi"), "/v1/chat/completions?x=1"),
        {"index": 0, "due_ns": 0, "copy": 0, "session": 0, "phase": 0},
        Rewrite(content=rules),
    )
    assert (prepared.path, prepared.endpoint, prepared.model) == ("/api/chat?x=1", "POST /api/chat", "new/7b")
    assert json.loads(prepared.body or b"")["model"] == "new/7b"
    assert path_for("/v2/models/old/infer", rules) == "/triton/v2/models/new%2F7b/infer"
    assert path_for("/v2/models/other/infer", rules) == "/triton/v2/models/small/infer"
    assert rules.model_for(None) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[1, 2]", b'{"messages": [', json.dumps({"inputs": [{"data": [0.1]}]}).encode()],
)
def test_what_holds_no_text_keeps_its_bytes(body: bytes) -> None:
    request = row(0, body)
    for rules in (
        ContentRules(prompts=UNIQUE),
        ContentRules(prompts=HITS, hits=0.5),
        ContentRules(prompt_length=2),
    ):
        assert rewritten(request, {"copy": 1, "session": 1}, rules)["request_body"] == body


def test_a_compressed_body_goes_out_plain() -> None:
    request = row(0, gzip.compress(json.dumps(chat(FIRST)).encode()))
    request["request_headers"] = (("content-type", "application/json"), ("Content-Encoding", "gzip"))
    changed = rewritten(request, {"copy": 0, "session": 0}, ContentRules(prompts=UNIQUE))
    assert changed["request_headers"] == (("content-type", "application/json"),)
    assert text_of(json.loads(changed["request_body"])).endswith(FIRST)


def test_rules_survive_a_schedules_metadata_and_odd_ones_are_refused() -> None:
    rules = ContentRules(HITS, 0.4, 2.0, 0.5, (("a", "b"),), (("/a", "/b"),), 3)
    assert ContentRules.from_json(json.loads(json.dumps(rules.to_json()))) == rules
    assert not ContentRules().active
    with pytest.raises(BadInput, match="content rules can't be read"):
        ContentRules.from_json({"prompts": "keep"})
    with pytest.raises(BadInput, match="one of keep, clones, unique, hits wanted"):
        ContentRules(prompts="odd")
    with pytest.raises(BadInput, match="two branches such as"):
        ContentRules(endpoints=(("/a/*", "/b"),))
