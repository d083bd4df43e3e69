"""The command itself: which verbs it has, and that a verb is found alone as it is among all."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from replay.cli import app, application


def verbs_of(command: typer.Typer) -> list[str]:
    group = typer.main.get_group(command)
    return list(group.commands)


@pytest.mark.parametrize("named", [[], ["--help"], ["transfrom"], ["-h", "transform"]])
def test_what_names_no_verb_is_told_of_all(named: list[str]) -> None:
    assert verbs_of(application(named)) == verbs_of(app)
    assert len(verbs_of(app)) >= 19


@pytest.mark.parametrize("verb", verbs_of(app))
def test_a_verb_that_is_called_is_the_only_one_there_and_the_same(verb: str) -> None:
    alone, among_all = (typer.main.get_group(one).commands[verb] for one in (application([verb, "-h"]), app))
    assert verbs_of(application([verb, "-h"])) == [verb]
    assert [option.opts for option in alone.params] == [option.opts for option in among_all.params]
    assert alone.context_settings == among_all.context_settings


def test_ctrl_c_while_the_command_is_loaded_is_one_line() -> None:
    interrupted = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from replay.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "peaktape: interrupted\n")
