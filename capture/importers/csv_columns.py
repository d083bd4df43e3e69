"""CSV files with a header: the columns that an importer wants, line by line, and counts of tokens in them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from capture.failures import BadInput
from capture.importers.source_file import SourceFile, reading
from capture.importers.synthetic_prompt import MOST_TOKENS


def read_columns(
    source: SourceFile, wanted: Sequence[str], of: str, *, optional: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """(line, cells of `wanted` and `optional`) of every line; blank lines are passed over.

    A missing cell is "nothing"; an optional column that isn't there gives "". `of` says whose CSV it should
    be. Raises `BadInput`.
    """
    with source, reading(source.path):
        lines = csv.reader(source.text())
        header = [name.strip() for name in next(lines, [])]
        for name in wanted:
            if name not in header:
                raise BadInput(
                    f"{source.path}:1: column {name} missing, header {','.join(wanted)} wanted; is this {of}?"
                )
        places = [header.index(name) if name in header else None for name in (*wanted, *optional)]
        for cells in lines:
            if cells:
                found = [
                    "" if place is None else cells[place] if place < len(cells) else "nothing"
                    for place in places
                ]
                yield lines.line_num, found


def token_count(text: str, place: str) -> int:
    """The count that `text` states; raises `BadInput` naming `place`."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MOST_TOKENS):
        raise BadInput(f"{place}: {text[:40]!r} found, 0 to {MOST_TOKENS} tokens wanted")
    return int(text)
