"""Options that belong together are a dataclass: declared once, and taken by every verb that has them.

Only how a verb's signature comes of such groups belongs here; what options there are, the flags' modules say.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_type_hints

import typer


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` with the fields of each dataclass among its parameters as options in that parameter's place.

    typer reads signatures. A field is annotated as a parameter of a verb would be; one that isn't, being of a
    dataclass that knows nothing of a command line, has the option's `help` and panel (`about`) as metadata.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}

    @functools.wraps(verb)
    def flat(*given: Any, **named: Any) -> None:
        for name, kind in groups.items():
            own = {field.name for field in dataclasses.fields(kind)} & named.keys()
            named[name] = kind(**{field: named.pop(field) for field in own})
        verb(*given, **named)

    parameters = [
        option
        for name, parameter in inspect.signature(verb).parameters.items()
        for option in (
            _options(groups[name]) if name in groups else [parameter.replace(annotation=hints[name])]
        )
    ]
    described: Any = flat
    described.__signature__ = inspect.Signature(
        [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    )
    described.__annotations__ = {one.name: one.annotation for one in parameters}
    return flat


def _options(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in dataclasses.fields(group):
        kind, about = hints[field.name], field.metadata
        if about:
            kind = Annotated[kind, typer.Option(help=about["help"], rich_help_panel=about["about"])]
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
