"""Starting the demo server as a child process and stopping it, so that none is ever left over.

The server itself is in `server`; this side knows only its command line and its first line of output.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from capture.failures import BadInput
from replay.demo.build import Build, option_name

LISTENING: Final = "listening on "
"""What the server's one line of output begins with; its address follows."""
_STOP_S: Final = 5.0


def server_command(build: Build, *, port: int = 0, arrivals: Path | None = None) -> list[str]:
    """The command line that starts `build` as a child of this process."""
    command = [sys.executable, "-m", "replay.demo.server", f"--port={port}", f"--parent-pid={os.getpid()}"]
    if arrivals is not None:
        command.append(f"--arrivals={arrivals}")
    for field in dataclasses.fields(build):
        value = getattr(build, field.name)
        if value != field.default:
            command.append(f"{option_name(field.name)}={value}")
    return command


class RunningServer:
    """A demo server in a child process, from `with` to the end of the block; `base_url` says where.

    Raises `BadInput` with the server's own words when it does not start.
    """

    def __init__(self, build: Build | None = None, *, port: int = 0, arrivals: Path | None = None) -> None:
        self._command = server_command(build or Build(), port=port, arrivals=arrivals)
        self._process: subprocess.Popen[str] | None = None
        # A file never fills up as a pipe does.
        self._complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `stop`
        self.base_url = ""

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        # A session of its own: Ctrl-C at the terminal reaches this process, which then stops the server.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            start_new_session=True,
        )
        try:
            self.base_url = self._read_address(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def _read_address(self, process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline() if process.stdout else ""
        if line.startswith(LISTENING):
            return line.removeprefix(LISTENING).strip()
        process.wait(_STOP_S)
        self._complaints.seek(0)
        said = self._complaints.read().strip().splitlines()
        raise BadInput(f"the demo server did not start: {said[-1] if said else 'it said nothing'}")

    def stop(self) -> int | None:
        """Stop the server if it runs; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        self._complaints.close()
        return process.returncode

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()
