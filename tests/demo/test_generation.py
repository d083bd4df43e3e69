"""Chats and scores as bytes: what is read is what was sent, and what is said follows from it alone."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from capture.sse import read_stream
from replay.demo.generation import answer_body, answer_events, parse_generation
from replay.demo.protocol import Refusal, is_faulty
from replay.demo.scoring import (
    embedding_body,
    parse_embedding,
    parse_prediction,
    prediction_body,
)


def chat(content="how are you", **more):
    form = {"model": "demo-chat", "messages": [{"role": "user", "content": content}], **more}
    return parse_generation(json.dumps(form).encode(), "chat", context_tokens=8192)


def test_a_token_is_a_whitespace_separated_word():
    assert chat("one  two\nthree").prompt_tokens == 3
    assert chat([{"type": "text", "text": "one two"}, {"type": "image_url"}]).prompt_tokens == 2
    asked = chat(max_tokens=12)
    assert len(asked.text().split()) == len(asked.words) == 12


def test_the_same_prompt_gets_the_same_answer_streamed_or_not():
    assert chat().words == chat(stream=True, temperature=1).words
    assert chat().words != chat("how are they").words


def test_lengths_without_a_limit_spread_from_15_to_60():
    lengths = [len(chat(f"prompt {number}").words) for number in range(500)]
    assert (min(lengths), max(lengths)) == (15, 60)
    assert 28 < np.mean(lengths) < 37


def test_the_streamed_words_are_the_whole_answer():
    asked = chat(stream=True, stream_options={"include_usage": True})
    events = answer_events(asked, "chatcmpl-1", 1700000000)
    whole = json.loads(answer_body(asked, "chatcmpl-1", 1700000000))
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in (events.opening, *events.tokens)]
    said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert said == whole["choices"][0]["message"]["content"]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reading = read_stream((events.opening, *events.tokens, events.closing))
    assert reading.answer.done
    assert reading.answer.finish_reason == whole["choices"][0]["finish_reason"] == "stop"
    assert reading.answer.output_tokens == whole["usage"]["completion_tokens"] == len(asked.words)
    assert reading.content_events == (0, *(1 for _ in asked.words), 0)


def test_usage_is_streamed_only_when_wanted_and_a_limit_is_named_as_the_end():
    reading = read_stream([answer_events(chat(max_tokens=3), "x", 1).closing])
    assert reading.answer.output_tokens is None
    assert reading.answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"messages": []}', 400),
        (b'{"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}', 404),
        (b'{"model": "demo-chat"}', 400),
        (b'{"model": "demo-chat", "messages": ["x"]}', 400),
        (b'{"model": "demo-chat", "messages": [{"role": "user", "content": 7}]}', 400),
        (b'{"model": "demo-chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', 400),
        (b'{"model": "demo-chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9000}', 400),
        (b"\xff\xfe", 400),
    ],
)
def test_bad_chats_are_refused(body, status):
    with pytest.raises(Refusal) as refusal:
        parse_generation(body, "chat", context_tokens=8192)
    assert refusal.value.status == status
    assert json.loads(refusal.value.body())["error"]["type"] == "invalid_request_error"


def test_embeddings_come_as_numbers_and_as_base64_alike():
    numbers = json.loads(
        embedding_body(parse_embedding(b'{"model": "demo-embed", "input": ["a b", "c"], "dimensions": 8}'))
    )
    packed = json.loads(
        embedding_body(
            parse_embedding(
                b'{"model": "demo-embed", "input": ["a b", "c"], "dimensions": 8,'
                b' "encoding_format": "base64"}'
            )
        )
    )
    assert numbers["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for plain, coded in zip(numbers["data"], packed["data"], strict=True):
        vector = np.frombuffer(base64.b64decode(coded["embedding"]), dtype="<f4")
        np.testing.assert_allclose(vector, plain["embedding"], rtol=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "given", [b"{}", b'{"model": "demo-embed"}', b'{"model": "demo-embed", "input": [1]}']
)
def test_bad_embeddings_are_refused(given):
    with pytest.raises(Refusal):
        parse_embedding(given)


def tensor(shape, data):
    return json.dumps({"id": "7", "inputs": [{"name": "x", "shape": shape, "data": data}]}).encode()


def test_a_prediction_has_a_score_per_row():
    said = json.loads(prediction_body(parse_prediction(tensor([2, 3], [0, 0, 0, 2, 2, 2]))))
    assert said["id"] == "7"
    assert said["outputs"][0]["shape"] == [2, 1]
    assert said["outputs"][0]["data"] == pytest.approx([0.5, 1 / (1 + np.exp(-2))])


@pytest.mark.parametrize(
    "given",
    [
        b"{}",
        tensor([2, 2], [1, 2, 3]),
        tensor([2], [1, 2]),
        tensor([0, 2], []),
        tensor([1, 1], ["x"]),
        tensor([1, 1], [float("nan")]),
    ],
)
def test_tensors_that_do_not_fit_are_refused(given):
    with pytest.raises(Refusal) as refusal:
        parse_prediction(given)
    assert refusal.value.status == 400


def test_faults_hit_the_same_requests_always_and_about_their_share():
    digests = [chat(f"prompt {number}").digest for number in range(2000)]
    hit = [is_faulty(digest, 0.1) for digest in digests]
    assert hit == [is_faulty(digest, 0.1) for digest in digests]
    assert 150 < sum(hit) < 250
    assert not any(is_faulty(digest, 0.0) for digest in digests)
    assert all(is_faulty(digest, 1.0) for digest in digests)
