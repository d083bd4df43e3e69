"""The rules that hold for one body, ready for use: what is looked for, and what becomes of texts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Final, Literal

from capture.privacy.json_paths import PathRule
from capture.privacy.pseudonyms import Pseudonyms
from capture.privacy.secret_patterns import SecretFinder

type ContentPolicy = Literal["keep", "drop", "hash", "pseudonymise"]
CONTENT_POLICIES: Final[tuple[ContentPolicy, ...]] = ("keep", "drop", "hash", "pseudonymise")

MOST_PLACES: Final = 2000
"""Objects whose member names are data have endless places: what is found beyond is counted by column."""

type Tally = Counter[str]
"""How many values were left out, by kind."""


class PlacedTally(Counter[str]):
    """A tally that also counts by (kind, place); a place is a column, a header's name, or a JSON path."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[tuple[str, str]] = Counter()
        self.column = ""


def count(tally: Tally, kind: str, below: str = "") -> None:
    """Count one more of that kind, at `below` of the column that the tally is at."""
    tally[kind] += 1
    if isinstance(tally, PlacedTally):
        place = (kind, f"{tally.column}{below}")
        known = place in tally.places or len(tally.places) < MOST_PLACES
        tally.places[place if known else (kind, f"{tally.column} elsewhere")] += 1


@dataclasses.dataclass(frozen=True)
class BodyRules:
    """For bodies of one direction. `answers` is true of responses: their texts are completions."""

    finder: SecretFinder
    paths: tuple[PathRule, ...]
    contents: ContentPolicy
    pseudonyms: Pseudonyms
    answers: bool
    audit: bool = False
    """Only to be told what should not be there: a text that stands as the policy wants it counts as none."""

    @property
    def content_kind(self) -> str:
        """Under which kind a text that is not kept is counted."""
        what = "completion" if self.answers else "prompt"
        return f"{what} not under {self.contents}" if self.audit else f"{what} {self.contents}"

    @property
    def only_secrets(self) -> bool:
        """Whether a body without a secret stays as it is."""
        return self.contents == "keep" and not self.paths


def marker(kind: str) -> str:
    """What stands in a body where something of that kind was taken out."""
    return f"[REDACTED:{kind}]"
