"""The compactor's process: one job a line on stdin, one answer a line on stdout, until stdin ends.

The first line is the keys of an encrypted capture as `Keys.handed_over` has them, else empty.

    {"journal": path, "metadata": text, "empty_too": bool}
        → {"rows": int, "segment_bytes": int, "dropped": {cause: rows}} or {"error": text, "cause": text}

Arrow and Parquet are loaded here and nowhere else while a capture runs: neither a client nor the journal
waits for them. `CompactorProcess` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from capture.child_processes import close_pipes, leave_to_the_parent
from capture.encryption_keys import Keys
from capture.failures import KeyRefused
from capture.trace_format import TraceMetadata

_RESTART_S: Final = 1.0


class CompactorProcess:
    """A compactor, started when it is needed and again when it died. One job at a time; not thread-safe."""

    def __init__(self, keys: Keys | None = None) -> None:
        self._keys = keys
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = False
        self._heard = b""
        self._not_before_s = 0.0
        self.deaths = 0

    @property
    def is_free(self) -> bool:
        """Whether a job can be given now."""
        return not self._busy and time.monotonic() >= self._not_before_s

    @property
    def pid(self) -> int | None:
        """The process, if there is one."""
        return self._process.pid if self._process else None

    @property
    def answers(self) -> int | None:
        """The descriptor on which an answer can be waited for."""
        return self._process.stdout.fileno() if self._process and self._process.stdout else None

    def give(self, journal: Path, metadata: TraceMetadata, *, empty_too: bool = False) -> None:
        """Have a journal compacted; `answer` tells what came of it."""
        job = {"journal": str(journal), "metadata": metadata.to_json().decode(), "empty_too": empty_too}
        self._busy = True
        with contextlib.suppress(OSError):  # it died, or can't be started: `answer` finds out
            process = self._process or self._start()
            if process.stdin:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()

    def answer(self) -> dict[str, Any] | None:
        """What came of the job, an "error" when the process died of it; None while it is worked on."""
        if not self._busy:
            return None
        if self._process is not None and self._process.stdout is not None:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(self._process.stdout.fileno(), 65536):
                    self._heard += piece
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard, self._busy = rest, False
                found: dict[str, Any] = json.loads(line)
                return found
            if self._process.poll() is None:
                return None
        self._busy = False
        self.deaths += 1
        self._not_before_s = time.monotonic() + _RESTART_S
        self.end()
        return {"error": "the compactor died", "cause": "compactor_died"}

    def end(self) -> None:
        """Let the process finish its job and go."""
        process, self._process, self._heard = self._process, None, b""
        if process is not None:
            close_pipes(process)
            process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "capture.compactor"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if process.stdout:
            os.set_blocking(process.stdout.fileno(), False)
        self._process = process
        if process.stdin:
            process.stdin.write((self._keys.handed_over() if self._keys else "").encode() + b"\n")
        return process


def main() -> None:
    """Work until stdin ends."""
    from capture.compaction import compact
    from capture.segments import drop_cause
    from capture.structured_log import stderr_handler

    # The capture ends us, in order, and it alone is switched on and off.
    leave_to_the_parent(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    with contextlib.suppress(OSError):  # beyond the recorder's, of which we are a child
        os.nice(4)
    logging.basicConfig(handlers=[stderr_handler()], level=logging.WARNING)
    keys = Keys.taken_over(sys.stdin.buffer.readline().decode())
    for line in sys.stdin.buffer:
        job = json.loads(line)
        metadata = TraceMetadata.from_json(job["metadata"].encode(), "compactor")
        answer: dict[str, Any]
        try:
            done = compact(Path(job["journal"]), metadata, keys, empty_too=job["empty_too"])
            answer = {"rows": done.rows, "segment_bytes": done.segment_bytes, "dropped": done.dropped}
        except OSError as error:
            answer = {"error": error.strerror or str(error), "cause": drop_cause(error)}
        except KeyRefused as error:
            answer = {"error": str(error), "cause": "key_refused"}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "cause": "compactor_error"}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
