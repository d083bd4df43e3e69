"""Where `report` and `diff` put what they say, besides stdout: a page, JUnit XML, Markdown.

All are refused before anything is computed, and each is written whole or not at all.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from replay.cli.key_option import tell_in_the_clear

if TYPE_CHECKING:
    from rich.console import RenderableType

    from capture.encryption_keys import Keys

STDOUT: Final = "-"
_option = functools.partial(typer.Option, rich_help_panel="Outputs")

Json = Annotated[bool, _option("--json", help="JSON on stdout instead of text.")]
Html = Annotated[Path | None, _option(help="Also write one self-contained HTML page.")]
Overwrite = Annotated[bool, _option("--overwrite", help="Replace existing outputs.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files asked for; None for those that were not. `markdown` may be "-", stdout."""

    html: Html = None
    junit: Annotated[Path | None, _option(help="Also write JUnit XML, for CI systems.")] = None
    markdown: Annotated[
        Path | None, _option(help="Also write a summary for a pull request; - for stdout instead of text.")
    ] = None
    as_json: Json = False
    overwrite: Overwrite = False

    @property
    def tell_distributions(self) -> bool:
        """Whether an output has them: a page or JSON."""
        return self.html is not None or self.as_json

    def check(self, inputs: Sequence[Path | None]) -> None:
        """Raise `BadInput` for an output that is an input or another output, or exists; for two on stdout."""
        from capture.failures import BadInput
        from capture.trace_writer import refuse_existing, refuse_input

        if self.as_json and self._markdown_is_shown:
            raise BadInput("--markdown -: stdout has the JSON already; name a file, or leave --json out")
        files = self._files()
        for index, path in enumerate(files):
            refuse_input(path, [*filter(None, inputs)])
            refuse_existing(path, overwrite=self.overwrite)
            if path in files[:index]:
                raise BadInput(f"{path}: named for two outputs; name one for each")

    def show(
        self,
        text: Callable[[], RenderableType] | None,
        as_json: Callable[[], dict[str, Any]],
        markdown: Callable[[], str],
    ) -> None:
        """Print what stdout is for: JSON, Markdown, or text for a person (where there is any)."""
        import json

        from replay.cli.printing import show

        if self.as_json:
            typer.echo(json.dumps(as_json(), indent=2, allow_nan=False))
        elif self._markdown_is_shown:
            typer.echo(markdown(), nl=False)
        elif text is not None:
            show(text())

    def write(
        self,
        html: Callable[[], str] | None,
        junit: Callable[[], str],
        markdown: Callable[[], str],
    ) -> None:
        """Write the files asked for, and say where; a page only where there is one."""
        if self.junit is not None:
            write_text("JUnit", self.junit, junit(), overwrite=self.overwrite)
        if self.markdown is not None and not self._markdown_is_shown:
            write_text("Markdown", self.markdown, markdown(), overwrite=self.overwrite)
        if self.html is not None and html is not None:
            write_text("page", self.html, html(), overwrite=self.overwrite)

    def tell_in_the_clear(self, runs: Sequence[Path], keys: Keys | None) -> None:
        """Say what of encrypted runs the files hold in the clear."""
        holds = "figures, request ids, and names of endpoints, models and JSON fields; no bodies"
        tell_in_the_clear(runs, self._files(), holds, keys)

    @property
    def _markdown_is_shown(self) -> bool:
        return self.markdown is not None and str(self.markdown) == STDOUT

    def _files(self) -> list[Path]:
        markdown = None if self._markdown_is_shown else self.markdown
        return [*filter(None, (self.html, self.junit, markdown))]


def command_line() -> tuple[str, ...]:
    """The command as it was typed, for pages that say how to make them again."""
    return ("peaktape", *sys.argv[1:])


def write_text(what: str, path: Path, text: str, *, overwrite: bool) -> None:
    """Write a file whole or not at all, and say on stderr where it is."""
    from capture.trace_writer import replace_when_whole

    with replace_when_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"{what}: {path}", err=True)
