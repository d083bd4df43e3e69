"""Multi-turn chats with as much sense as a Markov chain has: each turn sends the whole history again.

The words and what follows what are those of Python's own manual (`pydoc_data.topics`), so that a compressor
finds about as much in them as in people's prose, and no text twice that was not sent twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

import numpy as np

SYSTEM_WORDS = 120
TURN_WORDS = 90
ANSWER_WORDS = 160


class Prose:
    """Sentences that nobody wrote, from a seed."""

    def __init__(self, seed: int) -> None:
        words = re.findall(r"[A-Za-z',.-]+", " ".join(topics.values()))
        self._follows: dict[tuple[str, str], list[str]] = {}
        for one, two, three in zip(words, words[1:], words[2:], strict=False):
            self._follows.setdefault((one, two), []).append(three)
        self._starts = list(self._follows)
        self._chance = np.random.default_rng(seed)

    def words(self, mean: int) -> str:
        """Some `mean` words; lengths spread as people's do."""
        count = max(3, int(self._chance.lognormal(np.log(mean), 0.6)))
        at = self._starts[int(self._chance.integers(len(self._starts)))]
        said = list(at)
        while len(said) < count:
            choices = self._follows.get(at) or [self._starts[0][0]]
            said.append(choices[int(self._chance.integers(len(choices)))])
            at = (said[-2], said[-1])
        return " ".join(said)


def chat_requests(count: int, seed: int = 0) -> Iterator[bytes]:
    """Bodies of chat requests: conversations of up to 8 turns, a dozen under way at once."""
    prose, chance = Prose(seed), np.random.default_rng(seed + 1)
    systems = [prose.words(SYSTEM_WORDS * 3) for _ in range(4)]
    open_: list[list[dict[str, str]]] = []
    for _ in range(count):
        if len(open_) < 12:
            system = systems[int(chance.integers(len(systems)))]
            open_.append([{"role": "system", "content": system}])
        at = int(chance.integers(len(open_)))
        open_[at].append({"role": "user", "content": prose.words(TURN_WORDS)})
        yield json.dumps({"model": "m", "stream": True, "messages": open_[at]}).encode()
        open_[at].append({"role": "assistant", "content": prose.words(ANSWER_WORDS)})
        if len(open_[at]) > 16 or chance.random() < 0.1:
            open_.pop(at)
