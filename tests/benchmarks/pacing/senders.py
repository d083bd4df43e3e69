"""What a sender is to the harness: how to find it, what to run, how to read its lateness."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from loads import Instants, Load
from processes import Ended
from server import BenchmarkError, Stamps

Lateness = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of one sender: an empty folder of its own, the server's port, what to send."""

    folder: Path
    port: int
    load: Load

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"http://127.0.0.1:{self.port}"


@dataclasses.dataclass(frozen=True)
class Places:
    """Where programs are: `peers` holds one environment per peer, `programs` what was compiled here."""

    peers: Path | None
    programs: Path

    def find(self, name: str, folder: str) -> str | None:
        """The path of program `name`: in the peer's environment, else on PATH."""
        if self.peers is not None:
            for inside in ("bin", "node_modules/.bin"):
                path = self.peers / folder / inside / name
                if os.access(path, os.X_OK):
                    return str(path.absolute())
        return shutil.which(name)


def anchored_us(job: Job, stamps: Stamps) -> Lateness:
    """|i-th arrival − i-th due| of a tool whose zero is unknown, with the kinder of two anchors.

    One is its own first arrival. Where that one was slow (a connection to open, code to load), the median
    of arrival − due is kinder: no tool is charged for its start.
    """
    count = min(len(stamps.at_ns), len(job.load.offsets_ns))
    apart = (stamps.at_ns[:count] - job.load.offsets_ns[:count]).astype(np.float64)
    readings = [np.abs(apart - anchor) / 1e3 for anchor in (apart[0], np.median(apart))]
    return min(readings, key=lambda late: float(np.quantile(late, 0.99)))


def by_number_us(due_ns: Instants, stamps: Stamps) -> Lateness:
    """|arrival − due| of every tagged arrival; `due_ns` is on the server's clock, by request number."""
    tagged = stamps.number >= 0
    return np.abs(stamps.at_ns[tagged] - due_ns[stamps.number[tagged]]) / 1e3


def arrivals_of(lateness_us: Lateness, stamps: Stamps) -> Instants:
    """The arrival that each lateness of `Sender.read` is of."""
    tagged = stamps.at_ns[stamps.number >= 0]
    return tagged if len(tagged) == len(lateness_us) else stamps.at_ns[: len(lateness_us)]


def anchored(job: Job, ended: Ended, stamps: Stamps) -> Lateness:
    """`anchored_us` in the shape of `Sender.read`."""
    return anchored_us(job, stamps)


@dataclasses.dataclass(frozen=True)
class Sender:
    """A tool in the table. `command(program, job)` writes its input into the job's folder."""

    name: str
    program: str
    command: Callable[[str, Job], Sequence[str]]
    folder: str = ""
    takes_schedule: bool = False
    read: Callable[[Job, Ended, Stamps], Lateness] = anchored
    version: Sequence[str] = ("--version",)
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    find: Callable[[Places], str | None] | None = None
    one_core: bool = True
    slow: bool = False
    """Not run above a rate that its own CPU time per request does not allow: it would take minutes."""

    def path(self, places: Places) -> str | None:
        """Where the program is, or None."""
        return self.find(places) if self.find else places.find(self.program, self.folder or self.program)

    def run_env(self) -> dict[str, str]:
        """The environment it runs in: no proxies, no look-ups at hubs, no telemetry."""
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_COLOR": "1", "TERM": "dumb"}
        quiet = {"DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1", "K6_NO_USAGE_REPORT": "true"}
        return kept | offline | quiet | dict(self.env)


def version_of(sender: Sender, path: str) -> str:
    """The first line with a digit of what it says of its version; "unknown" if it won't."""
    if not sender.version:
        package = sender.program.replace("-", "_")
        found = Path(path).parents[1].glob(f"lib/python*/site-packages/{package}-*.dist-info")
        return next((one.name.removesuffix(".dist-info") for one in found), "compiled here")
    try:
        told = subprocess.run(
            [path, *sender.version],
            capture_output=True,
            text=True,
            timeout=120,
            env=sender.run_env(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = [line.strip() for line in (told.stdout + told.stderr).splitlines()]
    return next(
        (line for line in lines if any(sign.isdigit() for sign in line) and "arning" not in line), "?"
    )


def spoken(ended: Ended) -> str:
    """The last line a sender said, for an error of one line."""
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no output"


def _timer_command(spin_us: int, program: str, job: Job) -> Sequence[str]:
    job.load.offsets_ns.tofile(job.folder / "offsets.bin")
    return [program, str(job.port), "offsets.bin", str(spin_us)]


def _timer_read(job: Job, ended: Ended, stamps: Stamps) -> Lateness:
    last = spoken(ended)
    if not last.isdigit():
        raise BenchmarkError(f"the timer sender said: {last}")
    return by_number_us(int(last) + job.load.offsets_ns, stamps)


def limits(spin_us: int, compile_it: Callable[[str, Path], Path | None]) -> list[Sender]:
    """The physical limit of the machine: a timer alone, and with a short spin."""

    def find(places: Places) -> str | None:
        program = compile_it("timer_sender", places.programs)
        return str(program) if program and sys.platform == "linux" else None

    return [
        Sender(
            name,
            "cc",
            functools.partial(_timer_command, spin),
            takes_schedule=True,
            read=_timer_read,
            version=(),
            find=find,
        )
        for name, spin in (("timerfd", 0), (f"timerfd + {spin_us} µs spin", spin_us))
    ]
