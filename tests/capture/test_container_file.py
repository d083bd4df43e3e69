"""The container file in samples/: what it copies is there, and what it runs is what the verb takes.

No container is built here: that wants a runtime and a network.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capture.counts import Counts
from capture.health import Pulse
from capture.metrics_server import MetricsServer
from replay.cli import app

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "samples" / "Containerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, continued lines joined."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    return [
        (name, rest)
        for line in re.sub(r"\\\n\s*", " ", lines).splitlines()
        if line.strip()
        for name, _, rest in [line.strip().partition(" ")]
    ]


def only(name: str) -> str:
    """The arguments of the only instruction of that name."""
    (found,) = [rest for given, rest in instructions() if given == name]
    return found


def test_it_says_only_what_container_files_say() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENV", "EXPOSE", "STOPSIGNAL"}
    known |= {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} == known
    images = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    versions = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    for image in images:
        version = re.fullmatch(r"docker\.io/library/python:(\d\.\d+)-slim", image)
        assert version is not None
        assert f"Programming Language :: Python :: {version[1]}" in versions
    for name, rest in instructions():
        if name == "RUN":
            subprocess.run(["sh", "-n", "-c", rest], check=True)


def test_all_that_the_package_is_made_of_is_copied() -> None:
    copied = [rest.split() for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    sources = {source for words in copied for source in words[:-1]}
    assert all((ROOT / source).exists() for source in sources)
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {told["project"]["readme"], *told["project"]["license-files"], "pyproject.toml"}
    assert needed | set(told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= sources


def test_what_is_installed_of_the_lock_is_what_the_package_needs() -> None:
    """The part of a RUN that writes the names down, run here."""
    (words,) = [shlex.split(rest) for name, rest in instructions() if name == "RUN" and "needed.txt" in rest]
    code = words[words.index("-c") + 1]
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert said.stdout.splitlines() == told["project"]["dependencies"]


def test_podman_is_told_to_keep_the_health_check() -> None:
    """Its own image format has none, and says so in one line of hundreds."""
    (build,) = re.findall(r"podman build (.*)", TEXT)
    assert build.startswith("--format docker ")


@pytest.mark.parametrize("command", re.findall(r"peaktape (--upstream .*)", TEXT))
def test_its_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the upstream, which is made one that can't be: what comes before it was taken."""
    monkeypatch.setenv(*only("ENV").split("="))
    program, verb, *settled = json.loads(only("ENTRYPOINT"))
    given = shlex.split(command)
    given[given.index("--upstream") + 1] = "no-server"
    result = CliRunner().invoke(app, [verb, *settled, *given])
    assert program.endswith("/bin/peaktape")
    assert result.exit_code == 2
    assert "--upstream no-server" in result.output


def test_without_arguments_it_helps() -> None:
    result = CliRunner().invoke(app, [*json.loads(only("ENTRYPOINT"))[1:], *json.loads(only("CMD"))])
    assert result.exit_code == 0
    assert "PEAKTAPE_OUTBOX" in result.output


def test_ports_user_and_folder_agree() -> None:
    entrypoint = json.loads(only("ENTRYPOINT"))
    ports = {argument.rpartition(":")[2] for argument in entrypoint if argument.startswith("0.0.0.0:")}
    assert set(only("EXPOSE").split()) == ports
    assert only("USER") != "0"
    assert f"--uid {only('USER')} " in TEXT
    assert only("ENV").split("=")[1].startswith(f"{only('VOLUME')}/")
    assert TEXT.index("USER ") < TEXT.index("ENTRYPOINT")


def test_its_health_check_asks_the_proxy() -> None:
    _, _, command = only("HEALTHCHECK").partition(" CMD ")
    _, *arguments = json.loads(command)
    pulse = Pulse()

    def status(port: int) -> int:
        asked = [argument.replace("9464", str(port)) for argument in arguments]
        return subprocess.run([sys.executable, *asked], stderr=subprocess.DEVNULL).returncode

    server = MetricsServer("127.0.0.1", 0, pulse)
    with server.serving(Counts):
        port = server.server_address[1]
        assert status(port) == 0
        pulse._at_s -= 3600  # the event loop stands still
        assert status(port) == 1
    assert status(port) == 1
