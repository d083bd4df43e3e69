"""The ways between client and server that are compared, each as processes that can be looked at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 10_000
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, OTHER_CORE = CORES[0], CORES[-1]


@dataclasses.dataclass
class Way:
    """A way to the server: the port to ask, and the processes it is made of, the one that proxies first."""

    name: str
    port: int
    pid: int | None

    def processes(self) -> list[int]:
        """The proxy and all its descendants."""
        found = [self.pid] if self.pid is not None else []
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def free_children(self, cores: Sequence[int] = CORES) -> None:
        """Let all but the proxy run on these cores; what they start later too."""
        for pid in self.processes()[1:]:
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)

    def cpu_s(self) -> tuple[float, float]:
        """CPU time up to now: of the process that proxies, and of all the others."""
        each = [_cpu_s(pid) for pid in self.processes()]
        return (each[0], sum(each[1:])) if each else (0.0, 0.0)

    def cpu_s_of(self, pids: list[int]) -> float:
        """CPU time up to now of some of its processes."""
        return sum(_cpu_s(pid) for pid in pids)

    def rss_mb(self) -> list[float]:
        """Resident memory of each process in MB."""
        found = []
        for pid in self.processes():
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        return found


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process, and the children it starts meanwhile, run on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_s(pid: int) -> float:
    try:
        if (_PROC / "self" / "schedstat").exists():  # ns, where the kernel counts them; else ticks of 10 ms
            found = [(task / "schedstat").read_text() for task in (_PROC / str(pid) / "task").iterdir()]
            return sum(int(text.split()[0]) for text in found) / 1e9
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def is_proxy(pid: int) -> bool:
    """Whether a process of a capture passes requests on, by its command line."""
    try:
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"capture.shards" in command or b"replay.cli" in command


@contextlib.contextmanager
def bounded(pids: list[int], share: float) -> Iterator[None]:
    """Each of these processes gets `share` of a core meanwhile (control groups of version 1, as root).

    Raises OSError where they can't be had.
    """
    made: list[Path] = []
    try:
        for pid in pids:
            group = _GROUPS / f"peaktape-bench-{pid}"
            group.mkdir()
            made.append(group)
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(int(share * _PERIOD_US)))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group in made:
            with contextlib.suppress(OSError):
                for pid_line in (group / "cgroup.procs").read_text().split():
                    (_GROUPS / "cgroup.procs").write_text(pid_line)
            with contextlib.suppress(OSError):
                group.rmdir()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """The bare server on a core of its own; its port."""
    child = subprocess.Popen([sys.executable, HERE / "answer_server.py"], stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(child.pid, {OTHER_CORE})
    assert child.stdout is not None
    try:
        yield int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()


@dataclasses.dataclass
class StampServer:
    """A bare server that stamps what comes, see `stamp_server.py`; it runs where a proxy would."""

    port: int
    process: subprocess.Popen[str]

    def stamps_ns(self) -> Int64:
        """When requests came in, monotonic ns, in their order; the server ends."""
        told, _ = self.process.communicate()
        return np.array(json.loads(told), np.int64)


@contextlib.contextmanager
def stamp_server(busy_us: int = 0) -> Iterator[StampServer]:
    """That server, until its stamps are asked for or this is left."""
    command = [sys.executable, HERE / "stamp_server.py", str(busy_us)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield StampServer(int(child.stdout.readline()), child)
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def mitmdump(upstream: int, folder: Path, *options: str, name: str = "mitmdump") -> Iterator[Way]:
    """mitmdump as it comes, quiet, as a reverse proxy."""
    port = _free_port()
    program = str(Path(sys.executable).with_name("mitmdump"))
    command = [program, "-q", "--mode", f"reverse:http://127.0.0.1:{upstream}", "-p", str(port)]
    command += ["--listen-host", "127.0.0.1", "--set", f"confdir={folder / 'ca'}", *options]
    with _running(name, command, port) as way:
        yield way


_PASSING_ON = """
class PassingOn(proxy.HttpVersions):
    def responseheaders(self, flow):
        flow.response.stream = True
proxy.HttpVersions = PassingOn
"""


@contextlib.contextmanager
def slim(upstream: int, folder: Path, *, passing_on: bool = False, name: str = "slim") -> Iterator[Way]:
    """peaktape's own proxy without a recorder; `passing_on` answers' bodies as they come, or holding them."""
    port = _free_port()
    code = (
        f"from pathlib import Path; from capture import proxy\n{_PASSING_ON if passing_on else ''}\n"
        f"proxy.run_proxy(proxy.ProxyOptions('127.0.0.1', {port}, 'http://127.0.0.1:{upstream}',"
        f" certificates=Path({str(folder / 'ca')!r})), None, print)"
    )
    with _running(name, [sys.executable, "-c", code], port) as way:
        yield way


@contextlib.contextmanager
def capture(
    upstream: int, output: Path, *options: str, name: str = "capture", told: Path | None = None
) -> Iterator[Way]:
    """`peaktape capture` as a user runs it; with `told` its hooks are timed (see `hook_share`)."""
    port = _free_port()
    program = ["-m", "replay.cli"] if told is None else [str(HERE / "hook_share.py"), str(told)]
    command = [sys.executable, *program, "capture", "--upstream", f"http://127.0.0.1:{upstream}"]
    command += ["--listen", f"127.0.0.1:{port}", "-o", str(output), *options]
    command += ["--certificates", str(output.parent / "ca")]
    with _running(name, command, port) as way:
        yield way


@contextlib.contextmanager
def _running(name: str, command: list[str], port: int) -> Iterator[Way]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path(os.devnull).open("w") as nowhere:
        child = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=environment, cwd=ROOT)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{name} did not start")
        time.sleep(0.5)
        yield Way(name, port, child.pid)
    finally:
        child.terminate()
        child.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
