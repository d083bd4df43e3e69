"""Printing a report on stdout, folded for a person's terminal, unfolded for a pipe or a file; and notes.

What is printed is made in `replay.report`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_UNFOLDED: Final = 1000


def show(content: RenderableType) -> None:
    """Print `content` in the terminal's width, or in $COLUMNS; in a pipe without it, no sentence is folded.

    Outside a terminal lines carry no trailing blanks.
    """
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(content)
        return
    unfolded = Console(highlight=False, width=None if os.environ.get("COLUMNS") else _UNFOLDED)
    with unfolded.capture() as captured:
        unfolded.print(content)
    for line in captured.get().splitlines():
        console.file.write(f"{line.rstrip()}\n")


def tell(console: Console, word: str, sentences: Iterable[str]) -> None:
    """Print each sentence on a line of its own, after a word that says what it is; never folded."""
    for sentence in sentences:
        console.print(f"{word}: {sentence}", markup=False, highlight=False, soft_wrap=True)


def tell_left_out(console: Console, counts: Mapping[str, int]) -> None:
    """Print how many were left out for each cause."""
    tell(console, "left out", (f"{count:,} {cause}" for cause, count in counts.items()))
