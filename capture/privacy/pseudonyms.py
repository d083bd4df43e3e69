"""Pseudo-text: as many tokens, the same shared prefixes, and no word of the original.

A text is cut into tokens, those into blocks of `block_tokens`, and the blocks are chained:

    h_i = HMAC-SHA-256(key, h_{i−1} ‖ block_i)        words_i = SHAKE-256(key ‖ h_i)

Each block becomes as many words of the vocabulary as it has tokens, chosen by its h_i. So two texts share
as many leading blocks after it as before it, and only whoever has the key can tell a text from its
pseudonym. A last, partial block of one or two words may coincide with another by chance (1 in 256 per word).

What a token is: a model's own tokenizer isn't here, so `pieces_of` cuts by a rule: up to 10 letters with the
space before them, up to 3 digits, 3 signs, 1 CJK character, 5 other letters. The pseudo-text has exactly one
token per piece, by this rule and by every tokenizer named in `importers.synthetic_prompt`. How near the rule
comes to a tokenizer's count of the original depends on the text. Against OpenAI's o200k: English +6 %
and −2 % (this README, a licence), Python code and JSON +12 %, German −5 %, Russian 0, Chinese −4 %; cl100k
agrees on English, code and JSON and needs about a quarter more for the other three. A policy that names a
`tokenizer.json` counts with that one instead, and then the counts agree exactly.

What remains visible: how long texts are, which are equal, and which begin alike.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Final

from capture.importers.synthetic_prompt import WORDS

BLOCK_TOKENS: Final = 16
_CACHED_TEXTS: Final = 2048
_CACHED_CHARACTERS: Final = 16 << 10
_PIECE: Final = re.compile(
    r" ?[A-Za-z]{1,10}| ?[0-9]{1,3}|[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
    r"| ?(?:(?![\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])[^\W\d_A-Za-z]){1,5}"
    r"|\s+| ?[^\sA-Za-z0-9]{1,3}"
)
_SPACED: Final = tuple(f" {word}" for word in WORDS)
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

type Cut = Callable[[str], list[str]]
"""Cuts a text into its tokens, so that joined they are the text."""


def pieces_of(text: str) -> list[str]:
    """The tokens of `text` by this module's rule; joined they are the text."""
    return _PIECE.findall(text)


class Pseudonyms:
    """Makes pseudo-text with one key. Equal arguments give equal results, as long as the key lives."""

    def __init__(self, key: bytes, block_tokens: int = BLOCK_TOKENS, cut: Cut = pieces_of) -> None:
        """`block_tokens` is what the target's prefix cache shares at once (vLLM: 16)."""
        self._key = key
        self._block_tokens = block_tokens
        self._cut = cut
        # Conversations repeat their beginning in each turn: what was made once is remembered, within bounds.
        self._remembered = functools.lru_cache(_CACHED_TEXTS)(self._made)
        self._name = functools.lru_cache(_CACHED_TEXTS)(self._named)

    def step(self, state: bytes, label: str) -> bytes:
        """The chain's state after `label`: begins a chain (from b"") or a message in it."""
        return self._link(state, b"\0" + label.encode("utf-8", "surrogatepass"))

    def text(self, state: bytes, text: str) -> tuple[bytes, str]:
        """The chain's state after `text`, and its pseudo-text; "" stays ""."""
        after, words = self.words(state, text)
        return after, "".join(words)[1:]

    def words(self, state: bytes, text: str) -> tuple[bytes, tuple[str, ...]]:
        """As `text`, with one word (and the space before it) per token."""
        if len(text) > _CACHED_CHARACTERS:
            return self._made(state, text)
        return self._remembered(state, text)

    def spread(self, state: bytes, texts: Sequence[str]) -> list[str]:
        """The pseudo-text of the joined texts, cut so that each gets the words of the tokens that it holds.

        A token that lies in several texts is shared out among them by letters.
        """
        _, words = self.words(state, "".join(texts))
        words = (words[0][1:], *words[1:]) if words else ()  # no space stands before the first
        parts = [""] * len(texts)
        at, left = 0, len(texts[0]) if texts else 0
        for piece, word in zip(self._cut("".join(texts)), words, strict=True):
            # A tokenizer's tokens may share a letter: all but one of them are empty pieces then.
            shares: list[tuple[int, int]] = [] if piece else [(at, 0)]
            need = len(piece)
            while need:
                while not left:
                    at += 1
                    left = len(texts[at])
                taken = min(need, left)
                shares.append((at, taken))
                need, left = need - taken, left - taken
            for place, letters in zip(
                (place for place, _ in shares), _cut_evenly(word, len(shares)), strict=True
            ):
                parts[place] += letters
        return parts

    def name(self, text: str) -> str:
        """A pseudonym for a name (of a tool, a field): an identifier, the same wherever the name stands."""
        return self._name(text)

    def number(self, digits: str) -> str:
        """`digits` with each digit replaced; no zero comes first, every other character stays."""
        drawn = iter(self._draw(self._link(b"number", digits.encode()), len(digits)))
        return re.sub(
            r"\d", lambda m: str(1 + next(drawn) % 9 if m.start() == 0 or m[0] != "0" else 0), digits
        )

    def token_ids(self, state: bytes, ids: Sequence[int]) -> tuple[bytes, list[int]]:
        """As `text` for a prompt of token ids: others between 1,000 and 17,383, block by block."""
        made: list[int] = []
        for start in range(0, len(ids), self._block_tokens):
            block = ids[start : start + self._block_tokens]
            state = self._link(state, ",".join(map(str, block)).encode())
            drawn = self._draw(state, 2 * len(block))
            made += (1000 + (a << 6 | b & 63) for a, b in zip(drawn[::2], drawn[1::2], strict=True))
        return state, made

    def noise(self, payload: bytes) -> bytes:
        """As many bytes without meaning."""
        return self._draw(self._link(b"noise", payload), len(payload))

    def base64_noise(self, text: str) -> str:
        """As many base64 characters without meaning."""
        drawn = self._draw(self._link(b"noise", text.encode("utf-8", "surrogatepass")), len(text))
        return drawn.translate(_BASE64 * 4).decode("ascii")

    def digest(self, text: str | bytes) -> str:
        """What stands for a hashed text: "hmac:" and 16 hexadecimal digits."""
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        return f"hmac:{self._link(b'hash', raw)[:8].hex()}"

    def _made(self, state: bytes, text: str) -> tuple[bytes, tuple[str, ...]]:
        pieces = self._cut(text)
        words: list[str] = []
        for start in range(0, len(pieces), self._block_tokens):
            block = pieces[start : start + self._block_tokens]
            state = self._link(state, "".join(block).encode("utf-8", "surrogatepass"))
            words += map(_SPACED.__getitem__, self._draw(state, len(block)))
        return state, tuple(words)

    def _named(self, text: str) -> str:
        pieces = max(1, len(self._cut(text)))
        drawn = self._draw(self._link(b"name", text.encode("utf-8", "surrogatepass")), max(2, pieces))
        return "_".join(WORDS[number] for number in drawn[: max(2, min(pieces, 8))])

    def _link(self, state: bytes, block: bytes) -> bytes:
        return hmac.digest(self._key, state + block, "sha256")

    def _draw(self, state: bytes, count: int) -> bytes:
        return hashlib.shake_256(self._key + state).digest(count)


def _cut_evenly(word: str, parts: int) -> list[str]:
    """`word` in so many parts, the first ones not shorter than the last."""
    size, longer = divmod(len(word), parts)
    borders = [i * size + min(i, longer) for i in range(parts + 1)]
    return [word[a:b] for a, b in itertools.pairwise(borders)]


def spread_evenly(text: str, sizes: Sequence[int]) -> list[str]:
    """`text` shared out among the parts whose size is not 0; the others get ""."""
    filled = [i for i, size in enumerate(sizes) if size]
    parts = [""] * len(sizes)
    for i, part in zip(filled, _cut_evenly(text, max(1, len(filled))), strict=False):
        parts[i] = part
    return parts
