"""Which fields of the answers differ between two builds, beyond what differs between two runs of one build.

As in Diffy (Twitter, 2015): a field that differs as often between two runs of the same build is noise (ids,
clocks, sampled text), and is cancelled; what differs more often is the build's doing. Here the noise is not a
threshold but the other half of a paired test: per field, the requests in which only baseline and candidate
differ against those in which only the two runs of the one build do (McNemar), Holm over all fields. Without
two runs of one build nothing is claimed, and shares of differing answers are all that is said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from replay.analysis.body_fields import WHOLE, differing, fields_of
from replay.analysis.change_values import BodyChange
from replay.analysis.distributions import more_often
from replay.analysis.holm import ALPHA, holm

MOST_PATHS = 60

type Bodies = Mapping[str, bytes | None]
"""Bodies (or their SHA-256) of whole answers by request key; None where an answer was empty."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two runs' bodies, request by request: which were compared, and where they differ, by path."""

    keys: tuple[str, ...]
    differing: Mapping[str, frozenset[str]]
    """Per path the keys of the requests in which it differs; `WHOLE` holds all that differ anywhere."""


def compare_bodies(baseline: Bodies, candidate: Bodies, *, hashed: bool) -> Compared:
    """Where the bodies of the requests in both differ; hashes are compared as a whole only."""
    keys = tuple(sorted(baseline.keys() & candidate.keys()))
    found: dict[str, set[str]] = {WHOLE: set()}
    for key in keys:
        one, other = baseline[key] or b"", candidate[key] or b""
        if one == other:
            continue
        paths = set() if hashed else differing(fields_of(one), fields_of(other))
        if hashed or paths:
            found[WHOLE].add(key)
        for path in paths - {WHOLE}:
            found.setdefault(path, set()).add(key)
    return Compared(keys, {path: frozenset(where) for path, where in found.items()})


def body_changes(builds: Compared, same_build: Compared | None) -> tuple[BodyChange, ...]:
    """The whole body first, then the paths that differ, the surest first, at most 60."""
    both = frozenset(builds.keys) & frozenset(same_build.keys) if same_build else frozenset()
    paths = sorted(builds.differing, key=lambda path: (-len(builds.differing[path]), path))[:MOST_PATHS]
    raw = np.array([_p_value(builds, same_build, both, path) for path in paths], dtype=np.float64)
    adjusted = holm(raw).adjusted
    changes = [
        BodyChange(
            path=path,
            compared=len(builds.keys),
            differing_ratio=_share(builds, path),
            noise_ratio=_share(same_build, path) if same_build else float("nan"),
            p_value=float(p),
            changed=bool(p < ALPHA),
        )
        for path, p in zip(paths, adjusted, strict=True)
    ]
    return tuple(
        sorted(
            changes, key=lambda change: (change.path != WHOLE, not change.changed, -change.differing_ratio)
        )
    )


def _share(compared: Compared, path: str) -> float:
    if not compared.keys:
        return float("nan")
    return len(compared.differing.get(path, ())) / len(compared.keys)


def _p_value(builds: Compared, same_build: Compared | None, both: frozenset[str], path: str) -> float:
    """One-sided: that the builds differ no more often than the runs of one build; NaN without such runs."""
    if same_build is None or not both:
        return float("nan")
    across = builds.differing.get(path, frozenset()) & both
    within = same_build.differing.get(path, frozenset()) & both
    only_across, only_within = len(across - within), len(within - across)
    return more_often(only_across, only_within)
