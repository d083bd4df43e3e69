"""Whose words make up each generated prompt: a shared beginning, an earlier prompt's, and its own.

Requests are asked for in order of arrival. Of each class the last `RECENT` prompts are remembered, as parts
and not as text.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from capture.importers.synthetic_prompt import Part, own_part, shared_part

RECENT: Final = 2000
_TRIES: Final = 8


class PromptParts:
    """Puts prompts together from parts; the same calls in the same order give the same parts."""

    def __init__(self, prefix_tokens: Sequence[int], rng: np.random.Generator) -> None:
        """`prefix_tokens` has the length of each shared beginning."""
        self._prefix_tokens = prefix_tokens
        self._rng = rng
        self._recent: defaultdict[int, deque[list[Part]]] = defaultdict(lambda: deque(maxlen=RECENT))
        self._led: dict[int, list[Part]] = {}

    def first(
        self, of_class: int, session: int, prefix: int, tokens: int, repeated: float, *, goes_on: bool
    ) -> list[Part]:
        """The prompt of a session's first turn; its first `repeated` share is how an earlier one begins."""
        recent = self._recent[of_class]
        lead = self._shared(prefix)
        if repeated > 0 and recent:
            lead = _cut(self._one_of(recent, round(repeated * tokens)), round(repeated * tokens))
            if goes_on:
                self._led[session] = lead
        found = _filled(lead, session, tokens)
        recent.append(found)
        return found

    def later(self, session: int, prefix: int, text: int, tokens: int) -> list[Part]:
        """The prompt of a later turn: that of the turn before and more of it, unless `text` is another."""
        lead = self._led.get(session) if text == session else None
        return _filled(self._shared(prefix) if lead is None else lead, text, tokens)

    def _shared(self, prefix: int) -> list[Part]:
        return [] if prefix < 0 else [shared_part(prefix, self._prefix_tokens[prefix])]

    def _one_of(self, recent: deque[list[Part]], tokens: int) -> list[Part]:
        """A recent prompt of at least `tokens`, or the longest of a few."""
        tried = [recent[int(at)] for at in self._rng.integers(0, len(recent), _TRIES)]
        return next((parts for parts in tried if _tokens(parts) >= tokens), max(tried, key=_tokens))


def _tokens(parts: list[Part]) -> int:
    return sum(part.tokens for part in parts)


def _cut(parts: list[Part], tokens: int) -> list[Part]:
    """The first `tokens` tokens of parts."""
    cut = []
    for part in parts:
        if tokens > 0:
            cut.append(part._replace(tokens=min(part.tokens, tokens)))
        tokens -= part.tokens
    return cut


def _filled(lead: list[Part], text: int, tokens: int) -> list[Part]:
    """`lead`, cut to `tokens` or filled up to them with words of `text`."""
    rest = tokens - _tokens(lead)
    return _cut(lead, tokens) if rest <= 0 else [*lead, own_part(text, rest)]
