"""Whether what a file's metadata says is of the kind that its dataclass states: JSON holds anything.

The check alone; where the metadata stands, and what then is to be done, its reader knows.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Collection, Mapping
from types import UnionType
from typing import Any

from capture.quantities import LARGEST, quoted


def check_stated(kind: type[Any], values: Mapping[str, Any], any_size: Collection[str] = ()) -> None:
    """Raise `TypeError`, naming the field, for the first of `values` that is not as `kind` annotates it.

    Understood are int (within `LARGEST`), float (finite), str, bool, None, tuples, mappings, unions, and Any.
    Ints named in `any_size` may be of any.
    """
    for name, hint in typing.get_type_hints(kind).items():
        whole = name in any_size and type(values.get(name)) is int
        if name in values and not whole and not _is(values[name], hint):
            raise TypeError(f"{name}: {quoted(str(values[name]))} found, {_named(hint)} wanted")


def _is(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return any(_is(value, one) for one in inner)
    if origin is Any:
        return True
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    if origin is float:
        return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
    if origin is tuple:
        return _is_tuple(value, inner)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is(one, inner[1]) for one in value.values())
    return isinstance(value, origin)


def _is_tuple(value: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if inner[1:] == (Ellipsis,):
        return all(_is(one, inner[0]) for one in value)
    return len(value) == len(inner) and all(map(_is, value, inner))


def _named(hint: Any) -> str:
    plain = isinstance(hint, type) and not typing.get_args(hint)
    return hint.__name__ if plain else str(hint).replace("collections.abc.", "").replace("typing.", "")
