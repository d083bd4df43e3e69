"""What `diff` does with the bodies that runs kept: which requests to compare, reading them, comparing."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from replay.analysis.bodies import Compared
    from replay.analysis.change_values import BodyChange
    from replay.analysis.run_table import RunTable

MOST_COMPARED = 5000
"""Requests whose bodies are compared, of a larger run: a field that changes in 1 of 100 differs in 50."""

type Run = tuple[Path, RunTable]


def changed_bodies(
    baseline: Run, candidate: Run, same_build: tuple[Run, Run] | None, keys: Keys | None = None
) -> tuple[BodyChange, ...]:
    """Fields of bodies that differ between the builds, beside the same build's; () unless both kept them."""
    from replay.analysis.bodies import body_changes

    kept = _kept(baseline, candidate)
    if kept is None:
        return ()
    chosen = _chosen(baseline[1])
    builds = _compared(baseline, candidate, chosen, kept, keys)
    noise = None
    if same_build is not None and _kept(*same_build) == kept:
        noise = _compared(*same_build, chosen, kept, keys)
    return body_changes(builds, noise) if builds.keys else ()


def _kept(one: Run, other: Run) -> str | None:
    """What both runs hold: bodies, else hashes of them, else None."""
    from replay.engine.run_format import DROP, HASH

    held = {run.metadata.bodies for _, run in (one, other)}
    if DROP in held:
        return None
    return HASH if HASH in held else held.pop()


def _chosen(run: RunTable) -> list[str]:
    """At most 5,000 of a run's requests, chosen by a hash of their keys: of any run the same."""
    keys: list[str] = run.request_key.to_pylist()
    if len(keys) > MOST_COMPARED:
        keys = sorted(keys, key=lambda key: zlib.crc32(key.encode()))[:MOST_COMPARED]
    return keys


def _compared(one: Run, other: Run, chosen: list[str], kept: str, keys: Keys | None) -> Compared:
    from replay.analysis.bodies import compare_bodies
    from replay.engine.run_bodies import read_bodies
    from replay.engine.run_format import HASH

    first, second = (read_bodies(path, chosen, kept, keys) for path, _ in (one, other))
    return compare_bodies(first, second, hashed=kept == HASH)
