"""From names of sessions to numbers, without a table of all sessions: a vectorised hash of the names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from replay.transform.draws import GOLDEN_GAMMA, lone_session, mix

Int64 = npt.NDArray[np.int64]

_FEWEST_WAITING: Final = 1 << 21


def number_sessions(names: pa.Array, first_row: int = 0) -> Int64:
    """A number per row, int64[n], 0 or more: equal for equal names, wherever in the trace they stand.

    `names` are strings of trace rows from `first_row` on; a row without one (null) is a session of its own.
    Two of a hundred million sessions share a number with a probability of 0.05 %.
    """
    n = len(names)
    numbers = lone_session(np.arange(first_row, first_row + n, dtype=np.int64))
    if names.null_count == n:
        return numbers
    # Each name is hashed, again and again where it comes often: looking it up in a dictionary takes longer.
    if not names.null_count:
        return hash_names(names)
    named = names.is_valid().to_numpy(zero_copy_only=False)
    numbers[named] = hash_names(names.drop_null())
    return numbers


def distinct(pieces: Iterable[Int64]) -> Int64:
    """The different numbers in all of `pieces`, int64[k] ascending, in memory for a few times so many."""
    known = np.empty(0, np.int64)
    waiting: list[Int64] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) > max(len(known), _FEWEST_WAITING):  # so that merging stays cheap
            known, waiting = _merged([known, *waiting]), []
    return _merged([known, *waiting])


def _merged(pieces: list[Int64]) -> Int64:
    ordered = np.concatenate(pieces)
    ordered.sort()
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def among(known: Int64, numbers: Int64) -> npt.NDArray[np.bool_]:
    """Which of `numbers` (int64[n]) are among `known` (int64[k] ascending), bool[n]."""
    if not len(known):
        return np.zeros(len(numbers), np.bool_)
    order = np.argsort(numbers)  # looked up in order, neighbours are found in the cache
    wanted = numbers[order]
    place = np.searchsorted(known, wanted)
    place[place == len(known)] = 0
    found = np.empty(len(numbers), np.bool_)
    found[order] = known[place] == wanted
    return found


def hash_names(names: pa.Array) -> Int64:
    """int64[n], 0 or more, of strings without nulls: of their length and eight bytes at a time."""
    n = len(names)
    large = names.cast(pa.large_string())
    offsets = np.frombuffer(large.buffers()[1], np.int64)[large.offset : large.offset + n + 1]
    start, lengths = offsets[:-1], np.diff(offsets)
    # Padded, so that the last word of the last name can be read whole.
    text = np.frombuffer(large.buffers()[2] or b"", np.uint8)[: int(offsets[-1])]
    padded = np.concatenate((text, np.zeros(8, np.uint8)))
    words = np.lib.stride_tricks.as_strided(
        padded[:8].view("<u8"), shape=(len(padded) - 7,), strides=(1,), writeable=False
    )
    state = lengths.astype(np.uint64) * GOLDEN_GAMMA
    place, shortest = 0, int(lengths.min()) if n else 0
    while place + 8 <= shortest:  # all names have a whole word there
        state ^= words[start + place]
        state += GOLDEN_GAMMA
        mix(state)
        place += 8
    left = np.arange(n)
    while True:
        left = left[lengths[left] > place]
        if not len(left):
            return (mix(state) >> np.uint64(1)).view(np.int64)
        spare = np.maximum(8 - (lengths[left] - place), 0).astype(np.uint64) * np.uint64(8)
        word = (words[start[left] + place] << spare) >> spare
        state[left] = mix((state[left] ^ word) + GOLDEN_GAMMA)
        place += 8
