"""The words that all values of analysis share: which requests are meant, and what a comparison says."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Verdict(StrEnum):
    """What a comparison says, of one effect and of the whole."""

    REGRESSION = "regression"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclasses.dataclass(frozen=True)
class Group:
    """A set of requests: `kind` is all | endpoint | model | phase, `name` its value ("" for all)."""

    kind: str
    name: str
