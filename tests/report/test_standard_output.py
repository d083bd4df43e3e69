"""A verb's exit code is its verdict, whoever stops reading, and a full disk is one line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from replay.cli.standard_output import guarded


def test_what_nobody_reads_any_more_is_dropped_without_a_word() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        out = guarded(pipe)
        print("one", file=out, flush=True)
        assert os.read(reading, 100) == b"one\n"
        os.close(reading)
        for _ in range(3):
            print("x" * 100_000, file=out, flush=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_named_once() -> None:
    with Path("/dev/full").open("w") as full:
        out = guarded(full)
        out.write("x")
        with pytest.raises(OSError, match="'stdout'"):
            out.flush()
        out.flush()  # as the interpreter does at its end


def test_what_is_no_descriptor_stays_as_it_is() -> None:
    text = io.StringIO()
    assert guarded(text) is text
