"""What a replay changes of requests: prompts, lengths, models, endpoints. Values and their checks.

A schedule carries these rules in its lineage and no changed body: `replay.engine.rewriting` follows them when
requests are serialised. How rules are written in a recipe is in `recipe_file`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Self

from capture.failures import BadInput
from capture.quantities import check_factor

KEEP: Final = "keep"
CLONES: Final = "clones"
UNIQUE: Final = "unique"
HITS: Final = "hits"
PROMPTS: Final = (KEEP, CLONES, UNIQUE, HITS)
"""What becomes of prompts: as recorded; clones get a few words of their own where the user begins to speak,
the same in all their turns; every request gets words of its own at the very beginning; or all begin with so
large a share of common text that a prefix cache would serve that share."""

OTHERS: Final = "*"
"""Stands for every model that is not named."""

type Renames = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class ContentRules:
    """The rules, and the seed from which words that are new come.

    `hits` is the share of prompt tokens that an unlimited prefix cache is to serve, for `prompts` "hits".
    Lengths are factors: of every text in a prompt, and of the stated bound of the answer's tokens. `models`
    maps names, "*" standing for all others; `endpoints` maps paths without query, "/old/*" whole branches.
    Raises `BadInput` for what makes no sense.
    """

    prompts: str = KEEP
    hits: float = 0.0
    prompt_length: float = 1.0
    answer_length: float = 1.0
    models: Renames = ()
    endpoints: Renames = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts not in PROMPTS:
            raise BadInput(f"prompts: {self.prompts!r} found, one of {', '.join(PROMPTS)} wanted")
        if not 0 <= self.hits <= 1:
            raise BadInput(f"prefix hits: {self.hits:g} found, a share from 0 to 1 wanted")
        check_factor(self.prompt_length, "prompt_length")
        check_factor(self.answer_length, "answer_length")
        for old, new in self.endpoints:
            if not (old.startswith("/") and new.startswith("/")) or old.endswith("/*") != new.endswith("/*"):
                raise BadInput(
                    f"endpoints: {old} to {new} found, two paths such as /v1/a and /v1/b, "
                    "or two branches such as /v1/* and /v2/* wanted"
                )

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return self.prompts != KEEP or self.changes_all or bool(self.endpoints)

    @property
    def changes_all(self) -> bool:
        """Whether the bodies of all requests may change, and not for their prompts' uniqueness alone."""
        return self.prompt_length != 1 or self.answer_length != 1 or bool(self.models)

    @property
    def changes_bodies(self) -> bool:
        """Whether more is changed than paths."""
        return self.prompts != KEEP or self.changes_all

    @property
    def clones_only(self) -> bool:
        """Whether requests that are no clones stay as they are."""
        return self.prompts == CLONES and not self.changes_all and not self.endpoints

    @property
    def needs_texts(self) -> bool:
        """Whether all prompts are to change, so that a request without one is worth a word."""
        return self.own_each_time or self.prompt_length != 1

    @property
    def own_each_time(self) -> bool:
        """Whether two turns of one conversation begin differently, so that they can't be woven."""
        return self.prompts in (UNIQUE, HITS)

    @property
    def steps(self) -> tuple[str, ...]:
        """The rules as a person reads them, for the lineage."""
        told = []
        if self.prompts == HITS:
            told.append(f"prompts rewritten for {self.hits:.0%} prefix hits")
        elif self.prompts != KEEP:
            told.append({CLONES: "clones' prompts unique", UNIQUE: "prompts unique"}[self.prompts])
        if self.prompt_length != 1:
            told.append(f"prompt length x{self.prompt_length:g}")
        if self.answer_length != 1:
            told.append(f"answer length x{self.answer_length:g}")
        told += [f"model {old} to {new}" for old, new in self.models]
        return (*told, *(f"endpoint {old} to {new}" for old, new in self.endpoints))

    def model_for(self, name: str | None) -> str | None:
        """The model that is asked for instead of `name`."""
        if name is None or not self.models:
            return name
        renamed = dict(self.models)
        return renamed.get(name, renamed.get(OTHERS, name))

    def path_for(self, path: str) -> str:
        """The path (with query) that is asked for instead of `path`; the first rule that fits counts."""
        plain, mark, query = path.partition("?")
        for old, new in self.endpoints:
            if plain == old:
                return new + mark + query
            if old.endswith("/*") and plain.startswith(old[:-1]):
                return new[:-1] + plain[len(old) - 1 :] + mark + query
        return path

    def to_json(self) -> dict[str, Any]:
        """The rules as JSON values, for a schedule's metadata."""
        pairs = {name: [list(pair) for pair in getattr(self, name)] for name in ("models", "endpoints")}
        return {**dataclasses.asdict(self), **pairs}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """What `to_json` gave; raises `BadInput` where it can't be that."""
        try:
            pairs = {
                name: tuple((str(old), str(new)) for old, new in found[name])
                for name in ("models", "endpoints")
            }
            return cls(**{**found, **pairs})
        except (TypeError, ValueError, KeyError) as error:
            raise BadInput(f"schedule: content rules can't be read ({error}); make it again") from error
