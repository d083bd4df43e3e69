"""Paths that choose values in JSON: a small, closed part of JSONPath (RFC 9535).

    $.user              the member "user" of the body itself
    $.messages[*].name  of every element
    $.messages[0]       of the first
    $.*                 every member
    $..ssn              "ssn" at any depth, also in JSON that stands in a string
    $["odd name"]       any name, quoted as in JSON

No filters, slices, negative indices or unions: what is not above is refused.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Final, Literal

type Action = Literal["drop", "mask", "hash"]
ACTIONS: Final[tuple[Action, ...]] = ("drop", "mask", "hash")
_STEP: Final = re.compile(
    r"(?P<deep>\.\.)?(?:(?(deep)|\.)(?P<name>[A-Za-z_\u0080-\U0010ffff][\w-]*)|(?(deep)|\.)(?P<star>\*)"
    r'|\[(?:(?P<quoted>"(?:[^"\\]|\\.)*"|\'[^\'\\]*\')|(?P<any>\*)|(?P<index>\d{1,9}))\])'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step down: to a member's name, an element's index, or (None) to any; `deep` from any depth."""

    name: str | int | None
    deep: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class PathRule:
    """What becomes of the values that `path` chooses in bodies of requests, responses, or both."""

    path: str
    action: Action
    where: Literal["request", "response", "both"] = "both"
    steps: tuple[Step, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", parse_path(self.path))


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path; raises ValueError that says from where on it can't be read."""
    if not text.startswith("$"):
        raise ValueError("a path begins with $")
    steps: list[Step] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"not understood from {text[at:]!r} on")
        at = match.end()
        steps.append(Step(_name_of(match), match["deep"] is not None))
    if not steps:
        raise ValueError("a path names at least one step below $")
    return tuple(steps)


def _name_of(match: re.Match[str]) -> str | int | None:
    if match["name"] is not None:
        return match["name"]
    if match["index"] is not None:
        return int(match["index"])
    if match["quoted"] is None:
        return None
    quoted = match["quoted"]
    return str(json.loads(quoted)) if quoted.startswith('"') else quoted[1:-1]


type States = tuple[tuple[PathRule, int], ...]
"""Rules that are under way, each with how many of its steps have been taken."""


def begin(rules: tuple[PathRule, ...], *, nested: bool = False) -> States:
    """The states at a document's root; of a document within a string, only rules that search any depth."""
    return tuple((rule, 0) for rule in rules if not nested or rule.steps[0].deep)


def advance(states: States, name: str | int) -> tuple[States, PathRule | None]:
    """The states one level further down, at member or element `name`, and the first rule that ends there."""
    further: list[tuple[PathRule, int]] = []
    hit: PathRule | None = None
    for rule, taken in states:
        step = rule.steps[taken]
        if step.deep:
            further.append((rule, taken))
        if step.name is not None and step.name != name:
            continue
        if taken + 1 < len(rule.steps):
            further.append((rule, taken + 1))
        elif hit is None:
            hit = rule
    return tuple(further), hit
