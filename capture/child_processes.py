"""Children of this program: what they inherit, which signals they leave to their parent, how they are ended.

What a child does and how it is told stands with the child; heavy imports have no place here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def child_environment() -> dict[str, str]:
    """Our environment for a child that imports this package, installed or not."""
    paths = [str(Path(__file__).resolve().parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """A child that is started within never gets a SIGINT; one that came meanwhile is the caller's afterwards.

    For the half second in which a child starts and imports, before it ignores what is its parent's: it would
    end in a traceback. A blocked signal stays so through fork and exec (signal(7)).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_the_parent(*numbers: signal.Signals) -> None:
    """Ignore signals that reach a child too, with the whole group, and are its parent's to answer."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def wait_or_kill(process: subprocess.Popen[Any], patience_s: float) -> int:
    """Wait for a process to end, and kill it when it takes longer; its exit code."""
    try:
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def last_told(process: subprocess.Popen[bytes] | None) -> dict[str, Any] | None:
    """The last of the JSON lines that a child has said since it was asked; None where it has said none.

    For a child whose stdout doesn't block.
    """
    if process is not None and process.stdout:
        with contextlib.suppress(OSError, ValueError):
            lines = (process.stdout.read() or b"").splitlines()
            if lines:
                found: dict[str, Any] = json.loads(lines[-1])
                return found
    return None


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close our ends of a child's stdin and stdout."""
    for pipe in filter(None, (process.stdin, process.stdout)):
        with contextlib.suppress(OSError):
            pipe.close()
