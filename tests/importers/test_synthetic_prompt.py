"""Synthetic prompts: exact lengths, sharing exactly where the source shares, nothing left to chance."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.importers.synthetic_prompt import (
    BLOCK_TOKENS,
    WORDS,
    SyntheticPrompts,
    blocks_of,
    count_tokens,
)
from capture.importers.synthetic_request import ChatRequests

SEEDS = st.integers(0, 2**32 - 1)
IDS = st.integers(0, 2**64 - 1)


def test_the_vocabulary_is_256_distinct_words_of_four_letters() -> None:
    assert len(set(WORDS)) == len(WORDS) == 256
    assert all(len(word) == 4 and word.isascii() and word.islower() and word.isalpha() for word in WORDS)


@pytest.mark.parametrize("tokens", [0, 1, 7, 8, 9, 511, 512, 513, 1024, 126_195])
def test_a_prompt_has_exactly_the_tokens_asked_for(tokens: int) -> None:
    prompts = SyntheticPrompts()
    for prompt in (prompts.of_row(3, tokens), prompts.of_blocks(range(blocks_of(tokens)), tokens)):
        assert count_tokens(prompt) == tokens
        assert prompt == " ".join(prompt.split())
        assert set(prompt.split()) <= set(WORDS)


@given(seed=SEEDS, row=IDS, tokens=st.integers(0, 3000))
def test_the_count_is_exact_for_every_length_and_row(seed: int, row: int, tokens: int) -> None:
    assert count_tokens(SyntheticPrompts(seed).of_row(row, tokens)) == tokens


@given(seed=SEEDS, row=IDS, tokens=st.integers(0, 600))
def test_the_same_seed_and_row_give_the_same_prompt(seed: int, row: int, tokens: int) -> None:
    assert SyntheticPrompts(seed).of_row(row, tokens) == SyntheticPrompts(seed).of_row(row, tokens)


@given(seed=SEEDS, one=IDS, other=IDS, tokens=st.integers(32, 600))
def test_different_rows_and_seeds_give_different_prompts(
    seed: int, one: int, other: int, tokens: int
) -> None:
    prompts = SyntheticPrompts(seed)
    assert (prompts.of_row(one, tokens) == prompts.of_row(other, tokens)) == (one == other)
    assert prompts.of_row(one, tokens) != SyntheticPrompts(seed ^ 1).of_row(one, tokens)
    assert prompts.of_row(one, tokens) != prompts.of_blocks([one] * blocks_of(tokens), tokens)


def _blocks(ids: list[int], last: int) -> tuple[list[int], int]:
    return ids, (len(ids) - 1) * BLOCK_TOKENS + last


PREFIXED = st.builds(_blocks, st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(32, 512))


@given(one=PREFIXED, other=PREFIXED)
def test_prompts_share_a_prefix_exactly_as_far_as_their_ids_agree(
    one: tuple[list[int], int], other: tuple[list[int], int]
) -> None:
    prompts = SyntheticPrompts(1)
    words = [prompts.of_blocks(*prompt).split() for prompt in (one, other)]
    same_ids = _agreeing(one[0], other[0])
    same_words = _agreeing(*words)
    longest = min(map(len, words))
    assert same_words >= min(same_ids * BLOCK_TOKENS, longest)
    assert same_words < same_ids * BLOCK_TOKENS + 32 or same_words == longest


def _agreeing(one: list, other: list) -> int:
    return next(
        (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@given(hash_id=IDS, tokens=st.integers(1, BLOCK_TOKENS))
def test_a_partial_block_is_the_beginning_of_the_full_one(hash_id: int, tokens: int) -> None:
    prompts = SyntheticPrompts()
    full = prompts.of_blocks([hash_id], BLOCK_TOKENS).split()
    assert prompts.of_blocks([hash_id], tokens).split() == full[:tokens]


@pytest.mark.parametrize(("ids", "tokens"), [([], 1), ([1], 513), ([1, 2], 512), ([1], 0)])
def test_ids_that_do_not_cover_the_tokens_are_refused(ids: list[int], tokens: int) -> None:
    with pytest.raises(ValueError, match="blocks"):
        SyntheticPrompts().of_blocks(ids, tokens)


def test_words_stay_the_same_from_release_to_release() -> None:
    assert SyntheticPrompts(0).of_row(1, 6) == GOLDEN_ROW
    assert SyntheticPrompts(0).of_blocks([46], 6) == GOLDEN_BLOCK


GOLDEN_ROW = "make past four draw zone deck"
GOLDEN_BLOCK = "goal west wing wire grid wise"


def test_the_default_body_is_plain_openai_chat() -> None:
    body = json.loads(ChatRequests(model="m").body("hello", 7))
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_options_of_the_body() -> None:
    body = json.loads(ChatRequests(stream=False, ignore_eos=True).body("hello", 7))
    assert "stream" not in body
    assert "stream_options" not in body
    assert (body["ignore_eos"], body["min_tokens"], body["max_tokens"]) == (True, 7, 7)


def test_an_answer_without_tokens_is_asked_for_as_one() -> None:
    assert json.loads(ChatRequests().body("hello", 0))["max_tokens"] == 1


def test_a_length_only_row_claims_nothing_about_the_answer() -> None:
    row = ChatRequests(model="m").row("r", 5, "hello", input_tokens=1, output_tokens=0)
    assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("complete", 1, 0)
    assert not {"status", "response_headers", "response_body", "first_byte_ns", "end_ns"} & set(row)
    assert row["host"].partition(":")[0].endswith(".invalid")
