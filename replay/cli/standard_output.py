"""What the command writes to stdout, when nobody reads it any more and when its disk is full.

A verb's exit code is its verdict: `| head` must not make a 1 of it, which says regression.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Buffer


class _Descriptor(io.FileIO):
    """Leads into nothing once its reader has gone, or once what it leads to can't take more."""

    def write(self, data: Buffer, /) -> int:
        """Write, or drop what nobody reads; raises `OSError` that names stdout."""
        try:
            return super().write(data)
        except BrokenPipeError:
            self._let_go()
            return len(memoryview(data))
        except OSError as error:
            # What is buffered would fail once more at the interpreter's end, which then exits with 120.
            self._let_go()
            raise OSError(error.errno, error.strerror, "stdout") from error

    def _let_go(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)


def guarded(stdout: TextIO) -> TextIO:
    """A stdout that writes where `stdout` does; itself where that is no descriptor."""
    try:
        stdout.flush()
        number = stdout.fileno()
    except (OSError, ValueError):
        return stdout
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(number, "w", closefd=False)),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.isatty(),
    )
