"""Printing a report on stdout: folded for a person's terminal, unfolded for a pipe or a file.

What is printed is made in `replay.report`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import RenderableType

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
