"""Which requests are looked at together: all, each endpoint, each model, each phase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from replay.analysis.run_table import Bools, RunTable
from replay.analysis.values import Group

ALL = Group("all", "")


def groups_of(run: RunTable) -> Iterator[tuple[Group, Bools]]:
    """Each group with the rows it covers (bool per row); phases only where there is more than one.

    Endpoints, models and phases come in the order of their size, largest first, then by name.
    """
    yield ALL, np.ones(len(run), dtype=np.bool_)
    for kind, labels in (("endpoint", run.endpoint), ("model", run.model), ("phase", run.phase)):
        counts = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names))
        if kind == "phase" and np.count_nonzero(counts) < 2:
            continue
        for code in sorted(np.flatnonzero(counts), key=lambda code: (-counts[code], labels.names[code])):
            yield Group(kind, labels.names[code]), labels.codes == code


def distinct(groups: Iterable[tuple[Group, Bools]], defined: Bools) -> Iterator[tuple[Group, Bools]]:
    """Groups with their members that are `defined` (bool each), none empty, none twice.

    Of groups with the same members an endpoint goes before all, that before a model, then a phase.
    """
    seen: set[bytes] = set()
    preferred = ("endpoint", "all", "model", "phase")
    for group, members in sorted(groups, key=lambda item: preferred.index(item[0].kind)):
        mask = members & defined
        key = np.packbits(mask).tobytes()
        if mask.any() and key not in seen:
            seen.add(key)
            yield group, mask
