"""Prompts as chains of blocks: equal hashes mean equal beginnings, and reuse counts what was seen before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.transform.content_facts import prefix_reuse
from replay.transform.prompt_blocks import BLOCK_BYTES, chain_of

TEXTS = st.integers(0, 300).flatmap(lambda n: st.text("aé", min_size=n, max_size=n))


@given(TEXTS, TEXTS, TEXTS)
@settings(max_examples=50, deadline=None)
def test_chains_share_as_many_blocks_as_the_texts_share_beginnings(shared: str, one: str, other: str) -> None:
    texts = [(shared + rest).encode() for rest in (one, other)]
    common = next((k for k, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    chains = [chain_of(shared + rest) for rest in (one, other)]
    assert [len(chain) for chain in chains] == [len(text) // BLOCK_BYTES for text in texts]
    shortest = min(map(len, chains))
    equal = chains[0][:shortest] == chains[1][:shortest]
    assert equal.sum() == min(common // BLOCK_BYTES, shortest)
    assert equal[: equal.sum()].all()


def test_a_block_that_changed_in_two_places_is_another_block() -> None:
    plain = "a" * BLOCK_BYTES
    changed = [
        plain[:i] + "b" + plain[i + 1 : j] + "b" + plain[j + 1 :] for i in range(64) for j in range(i + 1, 64)
    ]
    assert len({int(chain_of(text)[0]) for text in changed}) == len(changed)


@pytest.mark.parametrize(
    ("prompts", "share"),
    [
        (["x" * 256], 0.0),
        (["x" * 256, "x" * 256], 0.5),
        (["x" * 128 + "y" * 128, "x" * 128 + "z" * 128], 0.25),
        (["y" * 128, "x" * 64 + "y" * 64], 0.0),  # equal blocks at other places are no prefix
    ],
)
def test_reuse_is_the_share_of_blocks_seen_before(prompts: list[str], share: float) -> None:
    found = prefix_reuse(map(chain_of, prompts))
    assert found is not None
    assert found.share == share
    assert found.prompts == len(prompts)


def test_prompts_shorter_than_a_block_tell_nothing() -> None:
    assert prefix_reuse([chain_of("short"), np.empty(0, np.uint64)]) is None
