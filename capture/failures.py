"""The failures a user can cause or meet, each one line long and each with its documented exit code.

A failure's text names the place, what was found, what was wanted, and the way out. Programming errors do
not belong here: they keep their traceback.
"""

from __future__ import annotations

import os

EXIT_REGRESSION = 1
EXIT_BAD_INPUT = 2
EXIT_INVALID = 3
EXIT_REFUSED = 4


class PeaktapeError(Exception):
    """A failure that is shown to the user as one line and ends the command with `exit_code`."""

    exit_code = EXIT_BAD_INPUT


class BadInput(PeaktapeError):  # noqa: N818 - the text is the name: "bad input: …"
    """A file, an option or a value that can't be used as it is."""


class KeyRefused(BadInput):
    """A key that is missing, malformed or wrong, or that a key service does not give: no damage of a file."""


class TargetRefused(PeaktapeError):  # noqa: N818
    """A target that a replay must not fire at without the user's explicit word."""

    exit_code = EXIT_REFUSED


class RunInvalid(PeaktapeError):  # noqa: N818
    """A run that can't carry a verdict: it did not send what was scheduled, when it was due."""

    exit_code = EXIT_INVALID


class NothingCompared(RunInvalid):
    """Two runs that may be sound and still carry no verdict: no request was answered well in both."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def where_it_failed(error: BaseException) -> str:
    """The kind of an error and the line that raised it, "KeyError in sessions.py:93": nothing of what was
    being worked on, which may hold what no log may hold."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    place = "" if at is None else f" in {os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}"
    return f"{type(error).__name__}{place}"
