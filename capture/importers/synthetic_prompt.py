"""Lengths → prompts that hold exactly so many tokens by a rule that needs no tokenizer.

The rule: a token is one word of `WORDS`, and words stand one space apart. So a prompt's token count is
`len(prompt.split())`, whatever model it is sent to, and words cost the same everywhere.

How near that comes to a model's own count: each word, with and without a space before it, is one entry of
these vocabularies, and each made exactly 20,000 tokens of a text of 20,000 words: OpenAI's r50k, p50k, cl100k
and o200k; Llama 2 and 3; Mistral v1, v2, v3, v7 and Tekken; Qwen 1 and 3.6. Another tokenizer may count
differently, and a chat template adds tokens of its own in any case.

What a request says around its prompt is in `synthetic_request`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK_TOKENS: Final = 512
MOST_TOKENS: Final = 10_000_000
RULE: Final = (
    "prompts are synthetic: one token = one word out of 256 four-letter English words; "
    "a model's own tokenizer may count differently, and its chat template adds tokens"
)
_WORD_LIST: Final = (
    "area arms atom away back ball bank base beam beat bell best bill bird blue boat body bold book "
    "boot born call camp card care cart case cast cell chat city clip coin come cool copy core corn "
    "cost crew crow dark date days deal deck deep disc done door down draw drop each edge face fact "
    "fair fall fast feed felt fill film find fine fire fish five flag flat flow font food foot form "
    "four free from full fund gain game gate give goal gold good grid hair half hall hand hang hard "
    "head heat held help hide high hill hold hole home hook horn hour iron join keep keys kind know "
    "lake land last late lead leaf left life like line long look loop love made mail main make many "
    "maps mark mask mass math mean mile mill mind mine mint more most move name near need news next "
    "nice open pace pack page paid pair park part pass past path peak pick pipe plan play plot pole "
    "pool pull pure push rail rain real rest rice rich ride ring rise road rock role roll room root "
    "rose rows rule safe sale same save seat seed seek seen send ship shop show side sign sing site "
    "size skin slow soft song sort spot star stem step stop tail take talk task team text tile time "
    "tiny tool town tree turn vest view vote wait walk wall wave ways wear week well west wide will "
    "wind wing wire wise wood word work year zone"
)
WORDS: Final = tuple(_WORD_LIST.split())
_WORD_BYTES: Final = 5
_TABLE: Final = np.frombuffer("".join(f" {word}" for word in WORDS).encode(), np.uint8).reshape(
    -1, _WORD_BYTES
)
_OF_ROW: Final = 1
_OF_BLOCK: Final = 2
_OF_SHARED: Final = 3


class Part(NamedTuple):
    """Some tokens of the words that belong to `which`; make one with `own_part` or `shared_part`."""

    purpose: int
    which: int
    tokens: int


def own_part(row: int, tokens: int) -> Part:
    """Tokens that belong to `row` alone, the same as in `SyntheticPrompts.of_row`."""
    return Part(_OF_ROW, row, tokens)


def shared_part(shared: int, tokens: int) -> Part:
    """Tokens of a beginning that prompts have in common."""
    return Part(_OF_SHARED, shared, tokens)


def count_tokens(prompt: str) -> int:
    """Tokens of a synthetic prompt by the rule of this module."""
    return len(prompt.split())


class SyntheticPrompts:
    """Makes prompts that depend on the seed and on what a source says, on nothing else.

    Words come from numpy's Philox generator with (seed, purpose) as its key and the row or the block id in
    its counter. A block cipher's outputs differ where its counters do, so that two ids (or rows) never give
    the same first 32 words, and never by chance the same block.
    """

    def __init__(self, seed: int = 0) -> None:
        """`seed` is 0 … 2^64 − 1; another seed gives other words with the same lengths and sharing."""
        self.seed = seed

    def of_row(self, row: int, tokens: int) -> str:
        """The prompt of `tokens` tokens that belongs to source row `row` alone."""
        return _joined([self._words(_OF_ROW, row, tokens)])

    def of_blocks(self, hash_ids: Sequence[int], tokens: int) -> str:
        """The prompt whose k-th `BLOCK_TOKENS` tokens belong to `hash_ids[k]`; the last block may be partial.

        Equal ids give equal words; a partial block is the beginning of the full one. So prompts that share
        their first k ids share a byte-identical prefix. Raises ValueError unless the ids cover the tokens.
        """
        if len(hash_ids) != blocks_of(tokens):
            raise ValueError(f"{len(hash_ids)} blocks can't hold {tokens} tokens exactly")
        sizes = (min(BLOCK_TOKENS, tokens - start) for start in range(0, tokens, BLOCK_TOKENS))
        return _joined([self._words(_OF_BLOCK, i, size) for i, size in zip(hash_ids, sizes, strict=True)])

    def of_parts(self, parts: Sequence[Part]) -> str:
        """The prompt whose parts are these; a longer part begins with a shorter one of the same words."""
        return _joined([self._words(*part) for part in parts])

    def _words(self, purpose: int, which: int, tokens: int) -> bytes:
        """`tokens` words, each with a space before it."""
        generator = np.random.Philox(
            key=np.array([self.seed, purpose], np.uint64), counter=np.array([0, 0, which, 0], np.uint64)
        )
        numbers: npt.NDArray[np.uint64] = generator.random_raw(-(-tokens // 8))
        return _TABLE[numbers.astype("<u8").view(np.uint8)[:tokens]].tobytes()


def blocks_of(tokens: int) -> int:
    """How many blocks of `BLOCK_TOKENS` hold `tokens` tokens."""
    return -(-tokens // BLOCK_TOKENS)


def _joined(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces)[1:].decode("ascii")
