"""Chance that depends on what is drawn for, not on when: draws by a hash of (key, session, copy).

A stream of random numbers would tie each decision to its place in the file and to the batch borders. A hash
gives every session's copy its own number, so a trace may be read in pieces of any size. Which decisions are
drawn is not here (see `steps`, `shapes`).

The hash is SplitMix64: G. L. Steele, D. Lea, C. H. Flood: Fast splittable pseudorandom number generators.
OOPSLA 2014, figure 16 (state + n · golden gamma, then variant 13 of Stafford's mixers).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float64 = npt.NDArray[np.float64]

GOLDEN_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_SESSION_KEY: Final = np.uint64(0xD1B54A32D192ED03)
_ROW_KEY: Final = np.uint64(0x8CB92BA72F3D8DD7)
_BLOCK: Final = 1 << 14
"""Numbers hashed at once: a dozen passes over so many stay in a core's own cache."""


def key_of(rng: np.random.Generator) -> np.uint64:
    """A key for one source of chance, uint64, drawn from `rng`."""
    return np.uint64(rng.integers(0, 2**64, dtype=np.uint64))


def mix(state: UInt64) -> UInt64:
    """SplitMix64's output function, in place; returns `state`."""
    scratch = np.empty(min(len(state), _BLOCK), np.uint64)
    for first in range(0, len(state), _BLOCK):
        piece = state[first : first + _BLOCK]
        shifted = scratch[: len(piece)]
        piece ^= np.right_shift(piece, np.uint64(30), out=shifted)
        piece *= np.uint64(0xBF58476D1CE4E5B9)
        piece ^= np.right_shift(piece, np.uint64(27), out=shifted)
        piece *= np.uint64(0x94D049BB133111EB)
        piece ^= np.right_shift(piece, np.uint64(31), out=shifted)
    return state


def uniform(key: np.uint64, session: Int64, copy: int | npt.NDArray[np.integer]) -> Float64:
    """float64[n] uniform in [0, 1), one number per (key, session, copy), the same wherever it is asked.

    `session` int64[n]; `copy` an integer or integers[n], 0 or more.
    """
    drawn = np.empty(len(session))
    for piece, state in _states(session, key, copy):
        mix(state)
        state >>= np.uint64(11)
        np.multiply(state.view(np.int64), 2.0**-53, out=drawn[piece])
    return drawn


def _states(
    session: Int64, key: np.uint64, nth: int | npt.NDArray[np.integer]
) -> Iterator[tuple[slice, UInt64]]:
    """The generator's state after `nth` steps from session ^ key, modulo 2⁶⁴, a block at a time."""
    for first in range(0, len(session), _BLOCK):
        piece = slice(first, first + _BLOCK)
        if isinstance(nth, np.ndarray):
            state: UInt64 = nth[piece].astype(np.uint64)
            state *= GOLDEN_GAMMA
            state += session[piece].view(np.uint64) ^ key
        else:
            state = session[piece].view(np.uint64) ^ key
            state += np.uint64(int(nth) * int(GOLDEN_GAMMA) % 2**64)
        yield piece, state


def clone_session(session: Int64, nth: int | npt.NDArray[np.integer]) -> Int64:
    """The number of a session's `nth` clone (1 or more): int64[n], 0 or more, a hash of both."""
    return _numbers(session, _SESSION_KEY, nth)


def lone_session(row: Int64) -> Int64:
    """The session number of a row that belongs to no session: int64[n], 0 or more, a hash of the row."""
    return _numbers(row, _ROW_KEY, 1)


def _numbers(session: Int64, key: np.uint64, nth: int | npt.NDArray[np.integer]) -> Int64:
    numbers = np.empty(len(session), np.int64)
    for piece, state in _states(session, key, nth):
        np.right_shift(mix(state), np.uint64(1), out=numbers[piece].view(np.uint64))
    return numbers
