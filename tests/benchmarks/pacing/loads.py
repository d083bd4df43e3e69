"""What is sent: schedules as int64 ns offsets from a zero, the same for every tool of a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Instants = npt.NDArray[np.int64]

BURSTY_CV = 2.0
SEED = 20


@dataclasses.dataclass(frozen=True)
class Load:
    """A schedule and how it is named in the table."""

    shape: str
    rate_per_s: float
    seconds: float
    offsets_ns: Instants

    @property
    def name(self) -> str:
        """E.g. "constant 500/s"."""
        return f"{self.shape} {self.rate_per_s:g}/s"


def constant(rate_per_s: float, seconds: float) -> Load:
    """Equal gaps."""
    offsets = np.round(np.arange(int(rate_per_s * seconds)) * 1e9 / rate_per_s).astype(np.int64)
    return Load("constant", rate_per_s, seconds, offsets)


def bursty(rate_per_s: float, seconds: float, seed: int = SEED) -> Load:
    """Gamma gaps with a coefficient of variation of 2: crowds and silences, the same for the same seed.

    Starts at 0 and is stretched to the asked mean rate, so that "achieved rate" means the same in every row.
    """
    shape = 1 / BURSTY_CV**2
    gaps = np.random.default_rng(seed).gamma(shape, 1.0, int(rate_per_s * seconds) - 1)
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    offsets *= (len(offsets) - 1) / rate_per_s / offsets[-1] * 1e9
    return Load("bursty", rate_per_s, seconds, np.round(offsets).astype(np.int64))
