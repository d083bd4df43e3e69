"""Requests of whole sessions, in bounded memory: of all sessions, or of a half, a quarter, … of them.

What they say of sessions is in `content_facts`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

MOST_REQUESTS: Final = 8_000_000


class SessionSample:
    """Takes in requests piece by piece; holds those of sessions whose numbers, hashes, divide by `one_in`.

    Up to `most` requests are held, 24 bytes each, so that it is all of them (`one_in` 1) up to there. Of n
    sessions held, a share p of them is known by a standard error of √(p(1 − p)/n).
    """

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self._most = most
        self._pieces: list[tuple[Int64, Int64, Int64]] = []
        self._held = 0
        self.one_in = 1

    def add(self, session: Int64, arrival_ns: Int64, end_ns: Int64) -> None:
        """The next requests, int64[n] each; `session` numbers as `number_sessions` makes them."""
        self._keep([(session, arrival_ns, end_ns)])
        while self._held > self._most:
            held, self._pieces, self._held = self._pieces, [], 0
            self.one_in *= 2
            self._keep(held)

    def _keep(self, pieces: list[tuple[Int64, Int64, Int64]]) -> None:
        for session, arrival_ns, end_ns in pieces:
            chosen = np.flatnonzero(session & (self.one_in - 1) == 0)
            self._pieces.append((session[chosen], arrival_ns[chosen], end_ns[chosen]))
            self._held += len(chosen)

    def requests(self) -> tuple[Int64, Int64, Int64]:
        """`session`, `arrival_ns`, `end_ns` of all requests held, in the order in which they came."""
        session, arrival_ns, end_ns = (
            np.concatenate([np.empty(0, np.int64), *(piece[at] for piece in self._pieces)]) for at in range(3)
        )
        return session, arrival_ns, end_ns
