"""Opening a result: JSON values of a file, plain or gzipped, each with its line; one of several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from capture.failures import BadInput
from capture.importers.json_stream import JsonText, NotJson
from capture.importers.source_file import SourceFile, reading

type Watch = Callable[[float], None]
"""Hears the share of the file that is read, 0 … 1."""


def unwatched(_: float) -> None:
    """Nobody listens."""


def json_values(path: Path, wanted: str, watch: Watch = unwatched) -> Iterator[tuple[int, Any]]:
    """The JSON values of the file one after another, each with its line; `wanted` names the kind of file.

    Raises `BadInput` for a file that can't be read, is no JSON, or ends too early.
    """
    with reading(path), SourceFile(path) as source, source.text() as file:
        text = JsonText(file)
        try:
            for line, value in text.values():
                watch(source.fraction_read())
                yield line, value
        except NotJson as error:
            raise BadInput(f"{path}:{error.line}: not JSON, or cut off ({error}); {wanted} wanted") from error
        except ValueError as error:  # json, of a number of thousands of digits
            raise BadInput(f"{path}: not JSON that can be read ({error}); {wanted} wanted") from error


def chosen[T](found: Sequence[T], which: int | None, path: Path, names: Sequence[str]) -> T:
    """The only one of `found`, or number `which` of them, from 1; `names` tell them apart.

    Raises `BadInput` where a number is needed or there is no such one.
    """
    listed = ", ".join(f"{at}: {name}" for at, name in enumerate(names, 1))
    if which is None and len(found) > 1:
        raise BadInput(f"{path}: {len(found)} runs found, one wanted; choose with --which ({listed})")
    at = (which or 1) - 1
    if at >= len(found):
        held = f"{len(found)} found ({listed})" if found else "no run found"
        raise BadInput(f"{path}: run {at + 1} wanted, {held}")
    return found[at]


def started_before(path: Path, span_ns: int) -> int:
    """Unix ns of a run's start where its clock tells no date: the file's own time less the run's span."""
    return path.stat().st_mtime_ns - span_ns
