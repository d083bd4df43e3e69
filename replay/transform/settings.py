"""Settings of a step as "key=value" pairs: read from a flag or a recipe, and shown as they are read.

A step's dataclass says of each field under which key it is given and what kind of value it is (`setting`);
everything else follows from that. Where texts come from, and which line they stand on, the caller knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from capture.failures import BadInput
from capture.quantities import parse_count, parse_factor, parse_settings, quoted
from replay.transform.moments import parse_drawn, parse_instant, parse_moment, show_drawn, show_moment
from replay.transform.wall_clock import WallTime


class Kind(NamedTuple):
    """A kind of value: from a text and its place to the value (raises `BadInput`), and back to the text."""

    parse: Callable[[str, str], Any]
    show: Callable[[Any], str]


def _positive_moment(text: str, place: str) -> Any:
    moment = parse_moment(text, place)
    if moment == 0 or (not isinstance(moment, int) and moment.of_span == 0):
        raise BadInput(f"{place}: {text} found, more than 0 wanted")
    return moment


def _not_negative(text: str, place: str) -> float:
    return 0.0 if text.strip() in ("0", "0.0") else parse_factor(text, place)


def _word(text: str, place: str) -> str:
    if not text.strip() or not text.isprintable() or "," in text:
        raise BadInput(f"{place}: {quoted(text)} found, a text without commas wanted")
    return text.strip()


def _yes_or_no(text: str, place: str) -> bool:
    if text not in ("yes", "no", "true", "false", "True", "False"):
        raise BadInput(f"{place}: {quoted(text)} found, yes or no wanted")
    return text in ("yes", "true", "True")


def one_of(names: Sequence[str]) -> Kind:
    """One of the names."""

    def parse(text: str, place: str) -> str:
        if text not in names:
            raise BadInput(f"{place}: {quoted(text)} found, one of {', '.join(names)} wanted")
        return text

    return Kind(parse, str)


def _number(value: float) -> str:
    return f"{value:.12g}"


INSTANT: Final = Kind(parse_instant, show_moment)
LENGTH: Final = Kind(_positive_moment, show_moment)
FACTOR: Final = Kind(parse_factor, _number)
FACTOR_OR_0: Final = Kind(_not_negative, _number)
COUNT: Final = Kind(parse_count, str)
WORD: Final = Kind(_word, str)
YES_OR_NO: Final = Kind(_yes_or_no, lambda value: "yes" if value else "no")
DRAWN_FACTOR: Final = Kind(
    lambda text, place: parse_drawn(text, place, seconds=False),
    lambda value: show_drawn(value, seconds=False),
)
DRAWN_LENGTH: Final = Kind(
    lambda text, place: parse_drawn(text, place, seconds=True),
    lambda value: show_drawn(value, seconds=True),
)


def setting(key: str, kind: Kind, default: Any = dataclasses.MISSING, *, last: bool = False) -> Any:
    """A dataclass field that is given as `key`; None as its default means nothing. `last` ones stand last."""
    return dataclasses.field(default=default, metadata={"key": key, "kind": kind, "last": last})


@dataclasses.dataclass(frozen=True)
class Settings:
    """A step that is given by settings; `word` names it in recipes, flags and the lineage."""

    word: ClassVar[str] = ""

    def __str__(self) -> str:
        told = ",".join(f"{key}={value}" for key, value in shown(self).items())
        return f"{self.word} {told}".strip()


def _fields(step: type[Settings]) -> list[dataclasses.Field[Any]]:
    """The fields in the order in which people write them: those that must be given, others, and the last."""
    return sorted(
        dataclasses.fields(step),
        key=lambda field: (field.metadata["last"], field.default is not dataclasses.MISSING),
    )


def keys_of(step: type[Settings]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys that must be given, and those that may be."""
    fields = _fields(step)
    must = tuple(field.metadata["key"] for field in fields if field.default is dataclasses.MISSING)
    return must, tuple(field.metadata["key"] for field in fields if field.metadata["key"] not in must)


def read[S: Settings](step: type[S], found: Mapping[str, str], place: Callable[[str], str]) -> S:
    """The step of the keys and texts `found`; `place` names where a key stands.

    Raises `BadInput` for what is unknown, missing (at `place("")`), or can't be read.
    """
    must, may = keys_of(step)
    for key in found:
        if key not in must + may:
            raise BadInput(f"{place(key)}: found, one of {', '.join(must + may)} wanted")
    missing = [key for key in must if key not in found]
    if missing:
        raise BadInput(f"{place('')}: lacks {', '.join(missing)}; {', '.join(must)} wanted")
    kinds = {field.metadata["key"]: field for field in dataclasses.fields(step)}
    return step(
        **{
            kinds[key].name: kinds[key].metadata["kind"].parse(text, place(key))
            for key, text in found.items()
        }
    )


def read_flag[S: Settings](step: type[S], text: str, flag: str) -> S:
    """The step of "key=value,…"; raises `BadInput` naming the flag."""
    must, may = keys_of(step)
    found = parse_settings(text, flag, wanted=must, optional=may)
    return read(step, found, lambda key: f"{flag} {key}".strip())


def shown(step: Settings) -> dict[str, str]:
    """The keys and texts that `read` makes the same step of; what is as by default is left out."""
    return {
        field.metadata["key"]: field.metadata["kind"].show(getattr(step, field.name))
        for field in _fields(type(step))
        if getattr(step, field.name) != field.default
    }


def times_of_day(step: Settings) -> dict[str, WallTime]:
    """The settings that are times of day, by key."""
    found = {field.metadata["key"]: getattr(step, field.name) for field in _fields(type(step))}
    return {key: value for key, value in found.items() if isinstance(value, WallTime)}
