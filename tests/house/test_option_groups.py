"""Options that are declared as a group: where they stand among a verb's own, and what the verb is given."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from replay.cli.option_groups import grouped


@dataclasses.dataclass(frozen=True)
class Place:
    source: Annotated[str, typer.Argument()]
    output: Annotated[str, typer.Option("-o", "--output")] = "out"


@dataclasses.dataclass(frozen=True)
class Knobs:
    """Of a room that knows nothing of command lines."""

    size: int = dataclasses.field(default=3, metadata={"help": "How large.", "about": "Knobs"})


given: list[tuple[Place, bool, Knobs]] = []


@grouped
def verb(place: Place, *, dry: Annotated[bool, typer.Option("--dry")] = False, knobs: Knobs) -> None:
    given.append((place, dry, knobs))


def app() -> typer.Typer:
    made = typer.Typer(add_completion=False)
    made.command()(verb)
    return made


def test_a_group_s_options_stand_where_it_stands_and_come_back_as_one_value() -> None:
    assert [option.name for option in typer.main.get_command(app()).params] == [
        *("source", "output", "dry", "size")
    ]
    assert CliRunner().invoke(app(), ["a.parquet", "--dry", "--size", "5"]).exit_code == 0
    assert given.pop() == (Place("a.parquet"), True, Knobs(5))
    assert "How large." in CliRunner().invoke(app(), ["--help"]).output


def test_called_from_python_what_is_not_given_is_as_by_default() -> None:
    verb(source="a.parquet")
    assert given.pop() == (Place("a.parquet"), False, Knobs())


def test_two_groups_with_one_name_are_a_mistake() -> None:
    def twice(one: Knobs, other: Knobs) -> None:
        """Never called."""

    with pytest.raises(ValueError, match="duplicate parameter name"):
        grouped(twice)
