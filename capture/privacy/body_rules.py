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

type Tally = Counter[str]
"""How many values were left out, by kind."""


@dataclasses.dataclass(frozen=True)
class BodyRules:
    """For bodies of one direction. `answers` is true of responses: their texts are completions."""

    finder: SecretFinder
    paths: tuple[PathRule, ...]
    contents: ContentPolicy
    pseudonyms: Pseudonyms
    answers: bool

    @property
    def only_secrets(self) -> bool:
        """Whether a body without a secret stays as it is."""
        return self.contents == "keep" and not self.paths


def marker(kind: str) -> str:
    """What stands in a body where something of that kind was taken out."""
    return f"[REDACTED:{kind}]"
