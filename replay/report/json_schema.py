"""The JSON Schema (2020-12) of `as_json`'s documents, made from the dataclasses that they are made from.

What is published lies in `schemas/`; a test holds it against what is made here, and documents against it.
Keys may be added to a document without a new version, so unknown ones are allowed.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from replay.analysis.values import DiffResult, Objective, ObjectiveResult, RunSummary
from replay.report.as_json import LEFT_OUT, RATIOS, RENAMED, SCHEMA_VERSION, UNITS
from replay.report.wording import INVALID

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
RUN_FILE: Final = "run.schema.json"
DIFF_FILE: Final = "diff.schema.json"

Schema = dict[str, Any]

_NUMBER: Final[Schema] = {"type": ["number", "null"]}
_INFINITE: Final[Schema] = {
    "type": "array",
    "items": {"type": "string"},
    "description": "keys of this object that are null because they are infinite",
}


def run_schema() -> Schema:
    """The schema of `peaktape report --json`."""
    return _document("peaktape.run", "One run: `peaktape report RUN --json`.", RunSummary)


def diff_schema() -> Schema:
    """The schema of `peaktape diff --json`; a refused comparison lacks what was not computed."""
    schema = _document("peaktape.diff", "A comparison: `peaktape diff A B --json`.", DiffResult)
    whole = schema.pop("required")
    refused = [*_HEAD, "verdict", "reasons", "failed_checks", "baseline", "candidate", "effects"]
    schema["properties"]["verdict"] = {"type": "string"}
    checks = {"type": "array", "items": {"$ref": "#/$defs/Check"}}
    schema["properties"]["failed_checks"] = {
        "type": "object",
        "properties": {"baseline": checks, "candidate": checks},
        "description": "of a refused comparison: the checks of validity that failed",
    }
    verdicts = schema["$defs"]["Verdict"]["enum"]
    schema["oneOf"] = [
        {"required": whole, "properties": {"verdict": {"enum": verdicts}}},
        {
            "required": [*refused, "outcome_changes"],
            "properties": {"verdict": {"const": INVALID}},
        },
    ]
    return schema


_HEAD: Final = ("schema", "schema_version", "tool_version")


def _document(name: str, about: str, kind: type) -> Schema:
    defs: dict[str, Schema] = {}
    top = _object(kind, defs)
    properties = {
        "schema": {"const": name},
        "schema_version": {"const": SCHEMA_VERSION},
        "tool_version": {"type": "string"},
        **top["properties"],
    }
    return {
        "$schema": DIALECT,
        "title": name,
        "description": f"{about} Durations are ns, shares fractions; null is what can't be had.",
        "type": "object",
        "properties": properties,
        "required": [*_HEAD, *top["required"]],
        "$defs": dict(sorted(defs.items())),
    }


def _object(kind: type, defs: dict[str, Schema]) -> Schema:
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind) if field.name not in LEFT_OUT]
    if kind in (Objective, ObjectiveResult):
        return _with_unit(kind, fields, hints, defs)
    properties = {RENAMED.get(name, name): _of(hints[name], defs) for name in fields}
    return {"type": "object", "properties": {**properties, "infinite": _INFINITE}, "required": [*properties]}


def _with_unit(kind: type, fields: list[str], hints: dict[str, Any], defs: dict[str, Schema]) -> Schema:
    """A limit's key says its unit, ns or ratio: one of each is there."""
    plain = {RATIOS.get(name, name): _of(hints[name], defs) for name in fields if name not in UNITS}
    units = [UNITS[name] for name in fields if name in UNITS]
    one_of = [[name.format(unit=unit) for name in units] for unit in ("ns", "ratio")]
    either = {name: _NUMBER for names in one_of for name in names}
    return {
        "type": "object",
        "properties": {**plain, **either, "infinite": _INFINITE},
        "required": [*plain],
        "oneOf": [{"required": names} for names in one_of],
    }


def _of(hint: Any, defs: dict[str, Schema]) -> Schema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _defined(hint, defs, lambda: {"description": _first_sentence(hint), **_object(hint, defs)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _defined(hint, defs, lambda: {"enum": [member.value for member in hint]})
    if origin in (types.UnionType, typing.Union):
        (kind,) = [argument for argument in arguments if argument is not types.NoneType]
        return {"anyOf": [_of(kind, defs), {"type": "null"}]}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0], defs)}
    if origin is tuple:
        items = [_of(argument, defs) for argument in arguments]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = _of(arguments[1], defs)
        return {"type": "object", "properties": {"infinite": _INFINITE}, "additionalProperties": values}
    return {float: _NUMBER, int: {"type": "integer"}, bool: {"type": "boolean"}, str: {"type": "string"}}[
        hint
    ]


def _defined(kind: type, defs: dict[str, Schema], make: Callable[[], Schema]) -> Schema:
    if kind.__name__ not in defs:
        defs[kind.__name__] = {}  # a place, should it contain itself
        defs[kind.__name__] = make()
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _first_sentence(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())
