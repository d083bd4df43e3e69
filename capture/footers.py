"""What our Parquet files say of themselves: a dataclass as JSON in the footer, with its format's version.

Which facts those are, each format's own module says.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from capture.failures import BadInput
from capture.stated_types import check_stated


def footer_of(facts: Any) -> bytes:
    """The UTF-8 JSON of a dataclass with a `format_version`, for `read_footer`."""
    return json.dumps(dataclasses.asdict(facts), sort_keys=True).encode()


def read_footer[T](
    kind: type[T],
    raw: bytes,
    place: str,
    what: str,
    again: str,
    version: int,
    parsers: Mapping[str, Callable[[Any], Any]],
    any_size: Collection[str] = (),
) -> T:
    """What `footer_of` wrote, JSON's values taken through `parsers`; what a later version added is left out.
    Each is of the kind that the dataclass states; ints named in `any_size` may be of any size.

    Raises `BadInput` naming `place` for what can't be read, with the way to make it `again`, and for a format
    above `version`; `what` it is stands in both.
    """
    try:
        found = json.loads(raw)
        theirs = int(found["format_version"])
        known: Any = kind
        given = {f.name: found[f.name] for f in dataclasses.fields(known) if f.name in found}
        given |= {name: parse(given[name]) for name, parse in parsers.items() if name in given}
        check_stated(known, given, any_size)
        made = kind(**given)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{place}: {what} metadata can't be read ({error}); {again}") from error
    if theirs > version:
        raise BadInput(f"{place}: {what} format {theirs} found, up to {version} wanted; upgrade peaktape")
    return made
