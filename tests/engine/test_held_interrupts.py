"""A terminal's Ctrl-C reaches no child that its parent answers for, and is not lost to the parent."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from capture.child_processes import interrupts_held


def test_a_child_hears_no_interrupt_even_while_python_starts() -> None:
    with interrupts_held():
        child = subprocess.Popen(
            [sys.executable, "-c", "input(); print('whole')"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    child.send_signal(signal.SIGINT)
    assert child.communicate("\n") == ("whole\n", None)


def test_one_that_came_meanwhile_is_the_callers_afterwards() -> None:
    said = []

    def start_interrupted() -> None:
        with interrupts_held():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            said.append("started")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist's workers ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            start_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert said == ["started"]
