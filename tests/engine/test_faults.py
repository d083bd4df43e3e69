"""Never silently wrong: each fault is injected for real, and is named by the run or leaves it unharmed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from replay_rig import MS, Replayed, replay_rows, request
from test_two_senders import answering

from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace
from replay.analysis.quantiles import harrell_davis
from replay.analysis.run_table import RunTable
from replay.analysis.validity import judge
from replay.analysis.values import Validity
from replay.engine import supervisor as supervisor_room
from replay.engine.run_format import RunMetadata
from replay.engine.run_writer import RunWriter
from replay.engine.sender import SENDERS, WIRE
from replay.engine.supervisor import Progress, Supervisor
from replay.engine.watch import BUSY

pytestmark = [pytest.mark.slow, pytest.mark.alone]
ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
WIDE = {"lateness_p99_ns": 1e9, "lateness_max_ns": 10e9}
"""On a busy test machine the generator may be late for its own reasons: not what is looked at here."""


def judged(done: Replayed) -> Validity:
    return judge(RunTable.of(done.table, done.metadata))


def failed(validity: Validity) -> dict[str, str]:
    return {check.name: check.found for check in validity.checks if not check.passed}


def once(at_sent: int, act: Callable[[Supervisor], None]) -> Callable[[Supervisor, Progress], None]:
    """A progress callback that acts once, when so many requests have been sent."""
    acted: list[bool] = []

    def look(supervisor: Supervisor, progress: Progress) -> None:
        if progress.sent >= at_sent and not acted:
            acted.append(True)
            act(supervisor)

    return look


def stop_for(seconds: float) -> Callable[[Supervisor], None]:
    """Stops a worker as a debugger, a laptop's lid or a container's freezer does."""

    def act(supervisor: Supervisor) -> None:
        worker = supervisor._workers[0].process
        worker.send_signal(signal.SIGSTOP)
        threading.Timer(seconds, worker.send_signal, [signal.SIGCONT]).start()

    return act


@pytest.mark.parametrize("sender", SENDERS)
def test_a_generator_that_was_stopped_for_a_second_is_invalid_and_says_why(
    tmp_path: Path, sender: str
) -> None:
    rows = [request(i, i * 10 * MS) for i in range(300)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=sender, on_progress=once(30, stop_for(1.0)))
    found = failed(judged(done))
    assert "the process was stopped" in found["generator stalls"]
    assert "lateness max" in found
    assert all(row["error"] is None for row in done.rows.values())


def test_a_stop_of_50_ms_is_named_too(tmp_path: Path) -> None:
    rows = [request(i, i * 10 * MS) for i in range(200)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE, on_progress=once(30, stop_for(0.05)))
    validity = judged(done)
    said = " ".join([*failed(validity).values(), *validity.warnings])
    assert "the process was stopped" in said


def burn(core: int, seconds: float, *, first: bool) -> subprocess.Popen[bytes]:
    """A process that takes what it can of a core; `first` puts it before the generator, if it may."""
    code = (
        "import os, sys, time; os.sched_setaffinity(0, {%d}); end = time.monotonic() + %f\n"
        "try: %s and os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(9))\n"
        "except OSError: pass\n"
        "while time.monotonic() < end: pass"
    )
    return subprocess.Popen([sys.executable, "-c", code % (core, seconds, first)])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't pin processes")
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel counts no run-queue time")
@pytest.mark.parametrize("first", [False, True], ids=["ordinary load", "load that goes first"])
def test_a_contended_core_is_named_or_harmless(tmp_path: Path, first: bool) -> None:
    core = min(os.sched_getaffinity(0))
    burners: list[subprocess.Popen[bytes]] = []

    def contend(supervisor: Supervisor) -> None:
        os.sched_setaffinity(supervisor._workers[0].process.pid, {core})
        burners.extend(burn(core, 3.0, first=first) for _ in range(3))

    rows = [request(i, i * 10 * MS) for i in range(500)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE, on_progress=once(20, contend))
    for burner in burners:
        burner.wait()
    validity = judged(done)
    named = "a CPU" in " ".join([*failed(validity).values(), *validity.warnings])
    real_time = done.metadata.workers[0]["scheduling"] == "real-time"
    if first or not real_time:
        assert named
    else:  # the generator goes first: it is not held up, or says so
        assert named or not {"lateness max", "generator stalls"} & failed(validity).keys()


def write_rows(folder: Path, count: int, every_ms: int) -> Path:
    rows = [request(i, i * every_ms * MS) for i in range(count)]
    write_trace(folder / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return folder / "t.parquet"


def slow_server(connection: socket.socket) -> None:
    try:
        while connection.recv(65536):
            time.sleep(0.6)
            connection.sendall(OK)
    except OSError:
        return


@pytest.mark.parametrize("sender", SENDERS)
def test_too_few_file_descriptors_are_the_generator_s_fault(tmp_path: Path, sender: str) -> None:
    from test_replay_end_to_end import scripted_server

    trace = write_rows(tmp_path, 120, 5)
    with scripted_server(slow_server) as url:
        command = (
            f"ulimit -n 60 && exec {sys.executable} -m replay.cli replay {trace} --target {url} "
            f"-o {tmp_path / 'r.parquet'} --sender {sender} --workers 1"
        )
        ended = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
        )
    assert ended.returncode == 3, ended.stderr
    assert "generator resources" in ended.stderr
    assert "had no file descriptor left" in ended.stdout
    assert "Traceback" not in ended.stderr


IN_A_NETWORK_OF_ITS_OWN = """
set -e
ip link set lo up
echo "40000 40039" > /proc/sys/net/ipv4/ip_local_port_range
{python} {server} > {folder}/port &
server=$!
while [ ! -s {folder}/port ]; do sleep 0.1; done
{python} -m replay.cli replay {trace} --target http://127.0.0.1:$(cat {folder}/port) \\
    -o {folder}/r.parquet --sender {sender} --workers 1 || code=$?
kill $server
exit ${{code:-0}}
"""
SLOW_SERVER = """
import socket, threading, time
listener = socket.create_server(("127.0.0.1", 30000), backlog=500)
print(30000, flush=True)
def serve(connection):
    while connection.recv(65536):
        time.sleep(0.6)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"),
    reason="a network namespace of its own needs root, unshare and ip",
)
@pytest.mark.parametrize("sender", SENDERS)
def test_too_few_local_ports_are_the_generator_s_fault(tmp_path: Path, sender: str) -> None:
    trace = write_rows(tmp_path, 120, 5)
    (tmp_path / "server.py").write_text(SLOW_SERVER)
    script = IN_A_NETWORK_OF_ITS_OWN.format(
        python=sys.executable, server=tmp_path / "server.py", folder=tmp_path, trace=trace, sender=sender
    )
    ended = subprocess.run(
        ["unshare", "-n", "bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    if "unshare failed" in ended.stderr:
        pytest.skip("no network namespace may be made here")
    assert ended.returncode == 3, ended.stderr
    assert "generator resources" in ended.stderr
    assert "had no local port left" in ended.stdout


def test_a_wall_clock_that_is_set_is_named_and_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_ns, set_by_ns = time.time_ns, [0]
    monkeypatch.setattr(supervisor_room.time, "time_ns", lambda: real_ns() + set_by_ns[0])

    def set_clock(_: Supervisor) -> None:
        set_by_ns[0] = -3600 * 10**9

    rows = [request(i, i * 20 * MS) for i in range(60)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE, on_progress=once(10, set_clock))
    assert any("wall clock was stepped by -3600" in warning for warning in judged(done).warnings)
    for row in done.rows.values():
        assert row["due_ns"] <= row["sent_ns"] <= row["end_ns"] < 10 * 10**9


def test_a_slow_disk_for_results_is_named_and_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, begin = RunWriter._write, RunWriter.begin
    slow_writes = iter(range(3))

    def slowly(writer: RunWriter, batch: pa.RecordBatch) -> None:
        if next(slow_writes, None) is not None:
            time.sleep(1.5)
        write(writer, batch)

    def begin_slowly(writer: RunWriter, metadata: RunMetadata) -> None:
        time.sleep(1.5)
        begin(writer, metadata)

    monkeypatch.setattr(RunWriter, "_write", slowly)
    monkeypatch.setattr(RunWriter, "begin", begin_slowly)
    rows = [request(i, i * 5 * MS) for i in range(600)]
    with answering(lambda whole: OK, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE)
    validity = judged(done)
    assert any("writing results took 1.5 s" in warning for warning in validity.warnings)
    assert len(done.rows) == 600
    found = failed(validity)
    assert {"achieved load", "open loop"}.isdisjoint(found)
    assert BUSY not in found.get("generator stalls", ""), "the loop waits for no disk"
    first = done.rows["r0", 0]
    assert first["sent_ns"] - first["due_ns"] < 10**9, "nor does the start"


STALL_NS = 2_000 * MS
GAP_NS = 5 * MS


def test_a_server_that_stalls_gives_the_latencies_that_arithmetic_predicts(tmp_path: Path) -> None:
    """200 requests a second for 10 s; from the 500th on the server is silent for 2 s.

    Whoever is due t after the stall began waits 2 s − t: of 2,000 requests 400 wait, evenly from 0 to 2 s,
    so 1 % wait more than 1.9 s. A closed loop would have sent one request meanwhile, and seen nothing.
    The server's threads all wake at once: by how much it was late itself is no error of the replay.
    """
    stalled_until: list[float] = []
    server_late_s: list[float] = [0.0]
    lock = threading.Lock()

    def reply(whole: bytes) -> bytes:
        with lock:
            number = int(whole.partition(b"x-peaktape-request: r")[2].partition(b"/")[0])
            if number == 500 and not stalled_until:
                stalled_until.append(time.monotonic() + STALL_NS / 1e9)
        if stalled_until and number >= 500:
            wait_s = stalled_until[0] - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
                server_late_s.append(time.monotonic() - stalled_until[0])
        return OK

    rows = [request(i, i * GAP_NS) for i in range(2000)]
    with answering(reply, []) as url:
        done = replay_rows(tmp_path, rows, url, sender=WIRE)
    latency_ns = np.array([row["end_ns"] - row["due_ns"] for row in done.rows.values()], float)
    waits_ns = np.maximum(0, STALL_NS - GAP_NS * np.arange(1500))
    predicted_ns = float(harrell_davis(np.concatenate([np.zeros(500), waits_ns]).astype(float), [0.99])[0])
    found_ns = float(harrell_davis(latency_ns, [0.99])[0])
    assert predicted_ns == pytest.approx(1_900 * MS, rel=0.01)
    assert abs(found_ns - predicted_ns) <= 0.02 * predicted_ns + max(server_late_s) * 1e9
    service_ns = np.array([row["end_ns"] - row["sent_ns"] for row in done.rows.values()], float)
    assert abs(float(np.median(service_ns - latency_ns))) < 10 * MS
