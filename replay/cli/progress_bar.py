"""A progress bar for work with a known end: share, rows, time left; only where a person sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capture.counts import UploadCounts


def progress_bar(console: Any) -> Any:
    """A rich Progress for tasks with the field `rows`; shows nothing where `console` is no terminal."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Share(ProgressColumn):
        """How much is done, where it is known how much there is to do."""

        def render(self, task: Task) -> Text:
            share = "" if task.total is None else f"{task.percentage:>3.0f} % "
            return Text(f"{share}{task.fields['rows']}")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        Share(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def rows_done(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A line on stderr while `what` goes on; what is given is told how many of `total` rows are done."""
    from rich.console import Console

    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, rows="")
        yield lambda rows: progress.update(task, completed=rows, rows=f"· {rows:,} rows")


def show_upload(progress: Any) -> Callable[[UploadCounts], None]:
    """What shows the counts of an upload, whenever it is given them, in a bar of `progress_bar`."""
    task = progress.add_task("sending", total=None, rows="")
    begun_bytes: list[int] = []

    def show(counts: UploadCounts) -> None:
        begun_bytes[:] = begun_bytes or [counts.sent_bytes]
        done_bytes = counts.sent_bytes - begun_bytes[0]
        told = f"· {counts.line()}"
        progress.update(task, completed=done_bytes, total=done_bytes + counts.waiting_bytes, rows=told)

    return show
