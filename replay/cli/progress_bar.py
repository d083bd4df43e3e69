"""A progress bar for work with a known end: share, rows, time left; only where a person sees it."""

from __future__ import annotations

from typing import Any


def progress_bar(console: Any) -> Any:
    """A rich Progress for tasks with the field `rows`; shows nothing where `console` is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % {task.fields[rows]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
