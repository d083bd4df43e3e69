"""The demo server as a process: it says where it is, stops when told, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from capture.failures import BadInput
from replay.demo.build import Build
from replay.demo.launch import RunningServer

PARENT = """
import sys, time
from replay.demo.launch import RunningServer
server = RunningServer()
with server:
    print(server.pid, server.base_url, flush=True)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended but was not yet waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_dead(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_even_in_the_midst_of_a_stream(number):
    command = [sys.executable, "-m", "replay.demo.server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)[1]
        form = {"model": "demo-chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5000}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json={**form, "stream": True}) as response:
            pieces = response.iter_raw()
            next(pieces)
            process.send_signal(number)
            assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_it_stops_with_its_block_and_gives_the_port_back():
    with RunningServer() as server:
        pid, url = server.pid, server.base_url
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert not is_alive(pid)
    with RunningServer(port=int(url.rsplit(":", 1)[1])) as again:
        assert again.base_url == url


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent(number):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline().split()[0])
        assert is_alive(pid)
        os.kill(parent.pid, number)
        parent.wait()
    assert wait_until_dead(pid)


@pytest.mark.slow
def test_it_does_not_start_for_a_parent_that_is_gone():
    command = [sys.executable, "-m", "replay.demo.server", "--parent-pid", "999999999"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0


def test_a_taken_port_and_a_bad_knob_are_told_in_one_line():
    with RunningServer() as server:
        port = int(server.base_url.rsplit(":", 1)[1])
        with pytest.raises(BadInput, match=f"127.0.0.1:{port}: can't listen"), RunningServer(port=port):
            raise AssertionError("started on a taken port")
    done = subprocess.run(
        [sys.executable, "-m", "replay.demo.server", "--chat-slots", "0"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "peaktape: demo server, --chat-slots: 0 found, 1 or more wanted\n"


def test_knobs_reach_the_child():
    with RunningServer(Build(chat_slots=3, seed=5)) as server:
        metrics = httpx.get(f"{server.base_url}/metrics").text
    assert 'num_slots{station="chat"} 3' in metrics
