"""Whole numbers that come piece by piece, in bounded memory: how many, their sum, and some, evenly chosen.

What their distribution says is in `arrival_facts`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.transform.arrival_facts import Distribution, distribution_from, distribution_of
from replay.transform.gaps import MOST_VALUES


class EvenSample:
    """All of up to `most` numbers; of more, every second, fourth, … of them in the order in which they came.

    Count and sum are exact. A quantile of a sample of k independent values has a standard error of
    √(p(1 − p)/k) in its level p: 0.0003 at the median, for at least 2.5 million are held of more.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._step = 1
        self._pieces: list[npt.NDArray[np.integer]] = []
        self._held = 0
        self.count = 0
        self.sum = 0

    def add(self, values: npt.NDArray[np.integer]) -> None:
        """Take in the next numbers, any integers[n]; those below 0 stand for what isn't known."""
        known = values[values >= 0]
        chosen = known[-self.count % self._step :: self._step].copy()
        self.count += len(known)
        self.sum += int(known.sum(dtype=np.int64))
        self._pieces.append(chosen)
        self._held += len(chosen)
        while self._held > self._most:
            halved = np.concatenate(self._pieces)[::2].copy()
            self._pieces, self._held, self._step = [halved], len(halved), 2 * self._step

    def distribution(self, unit: float = 1.0) -> Distribution | None:
        """Of what was taken in, in so large units; None where nothing was known."""
        if not self.count:
            return None
        some = np.concatenate(self._pieces) / unit
        if self._step == 1:
            return distribution_of(some)
        return distribution_from(some, self.sum / self.count / unit, self.count)
