"""A finished trace once more through the door of a capture: what a policy leaves out is left out of it.

The rules are `redaction`'s, as in a capture, and so are hashes and pseudonyms of the same key. It is never
weaker than what was done to the trace before: texts that its own policy left without words stay so, and those
that stand as the policy wants them stay as they are. Which file is read and written is the caller's business.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from capture.encryption_keys import Keys
from capture.privacy.audit import stands
from capture.privacy.body_rules import ContentPolicy, Tally
from capture.redaction import Direction, RedactionPolicy, redact
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace
from capture.trace_stream import untold
from capture.trace_writer import gathered, rows_of, write_trace

_STRENGTH: Final[tuple[ContentPolicy, ...]] = ("keep", "pseudonymise", "hash", "drop")
_ROWS_AT_ONCE: Final = 64


@dataclasses.dataclass(frozen=True)
class Redacted:
    """What came of it: rows, what was left out of them by kind, and the redaction as the trace states it."""

    rows: int
    left_out: Counter[str]
    stated: dict[str, Any]


class Redaction:
    """A policy for the rows of a trace that has been through others before.

    `earlier` are what its files' metadata say of those. Contents become the stronger of what they are and
    what `policy` wants.
    """

    def __init__(self, policy: RedactionPolicy, earlier: Sequence[dict[str, Any]]) -> None:
        done = [_weakest(earlier, column) for column in ("prompts", "completions")]
        prompts, completions = (
            max(own, asked, key=_STRENGTH.index)
            for own, asked in zip(done, (policy.prompts, policy.completions), strict=True)
        )
        self.policy = dataclasses.replace(policy, prompts=prompts, completions=completions)
        sides: tuple[tuple[Direction, ContentPolicy], ...] = (("request", prompts), ("response", completions))
        self._done: tuple[Direction, ...] = tuple(
            side for (side, contents), own in zip(sides, done, strict=True) if own == contents != "keep"
        )
        self._asked = policy
        self._earlier = earlier
        self.left_out: Tally = Counter()

    def apply(self, row: dict[str, Any]) -> None:
        """Take out of a row, in place, what may not stay in it; its headers are (name, value) pairs."""
        standing = tuple(side for side in self._done if stands(row, side, self.policy))
        redact(row, self.policy, self.left_out, standing)

    def describe(self) -> dict[str, Any]:
        """What the metadata says of it, and, under "earlier", what was done before."""
        contents = {"prompts": self.policy.prompts, "completions": self.policy.completions}
        known: list[dict[str, Any]] = []
        for one in self._earlier:
            last = {name: value for name, value in one.items() if name != "earlier"}
            known += (each for each in (*one.get("earlier", ()), last) if each and each not in known)
        return {
            **self._asked.describe(),
            **contents,
            "left_out": dict(self.left_out),
            **({"earlier": known} if known else {}),
        }


def _weakest(earlier: Sequence[dict[str, Any]], column: str) -> ContentPolicy:
    """What was done to all prompts, or completions, at the least."""
    return min((one.get(column, "keep") for one in earlier), key=_STRENGTH.index, default="keep")


def write_redacted(
    trace: Trace,
    policy: RedactionPolicy,
    path: Path,
    *,
    overwrite: bool = False,
    keys: Keys | None = None,
    on_rows: Callable[[int], None] = untold,
) -> Redacted:
    """Write the trace without what `policy` leaves out, as one file, in memory for a few batches.

    With `keys` it is encrypted. `on_rows` hears how many rows are done so far. Raises `BadInput` when the
    trace is damaged or the disk refuses; `path` stays as it was then.
    """
    redaction = Redaction(policy, [dict(segment.metadata.redaction) for segment in trace.segments])
    stated: dict[str, Any] = {}

    def rows() -> Iterator[dict[str, Any]]:
        done = 0
        for batch in trace.iter_batches():
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                for row in rows_of(batch.slice(start, _ROWS_AT_ONCE)):
                    redaction.apply(row)
                    yield row
                    done += 1
                on_rows(done)
        stated.update(redaction.describe())  # what was left out is known now

    metadata: TraceMetadata = dataclasses.replace(trace.metadata, redaction=stated)
    written = write_trace(path, gathered(rows()), metadata, overwrite=overwrite, keys=keys)
    return Redacted(written, redaction.left_out, stated)
