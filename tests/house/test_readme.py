"""The README is executed: its commands by hand as one script, its two install lines against what they say."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import peaktape_here

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(mark: str) -> list[str]:
    """The shell blocks that follow the comment `<!-- mark -->`."""
    return re.findall(rf"<!-- {mark} -->\n```sh\n(.*?)```", README, flags=re.DOTALL)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.mark.minutes
@pytest.mark.slow
def test_the_commands_by_hand_run_as_they_stand(tmp_path: Path) -> None:
    script = "\n".join(blocks("by-hand"))
    for port, free in zip(("8000", "9000", "9001", "8080"), free_ports(4), strict=True):
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(
            f"--port {port}", f"--port {free}"
        )
    # The environment is the one the tests run in; everything else is taken from the README as it stands.
    script = script.replace(". .venv/bin/activate", f'PATH="{Path(sys.executable).parent}:$PATH"')
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    # On a busy test machine a run may be late; the README's own figures are no test's concern, and no test
    # need wait for three replays of 12 s.
    script = script.replace("--speed 5 --target", "--speed 15 --target")
    script = re.sub(
        r"(peaktape replay .*)", r"\1 --max-lateness-p99 1s --max-lateness 10s --attempts 3", script
    )
    # The script ends the servers that it starts; a step that fails must not leave them.
    script = "trap 'kill $(jobs -p) 2>/dev/null || true' ERR\n" + script
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "100"},
    ) as shell:
        try:
            assert shell.stdout is not None
            said, _ = shell.communicate(timeout=280)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    # Whoever still held the script's stdout would have kept `communicate` waiting: nothing is left over.
    assert shell.returncode == 0, said
    assert "data: [DONE]" in said
    assert "2 requests over" in said
    assert b"not-on-disk" not in (tmp_path / "prod.parquet").read_bytes()
    for name in ("peak.html", "diff.html"):
        assert (tmp_path / name).read_text().startswith("<!doctype html>")
    assert "demo.har: 660 requests as HAR" in said
    assert (tmp_path / "runs" / "peak.parquet.scrape").exists()
    assert "<testsuites" in (tmp_path / "slo.xml").read_text()
    assert '"verdict"' in (tmp_path / "diff.json").read_text()


def test_the_two_commands_install_alike_and_are_one_line_each() -> None:
    (demo,), (tests,) = blocks("demo-command"), blocks("test-command")
    assert demo.count("\n") == tests.count("\n") == 1
    assert demo.strip().endswith("&& .venv/bin/peaktape demo")
    assert tests.strip().endswith("&& .venv/bin/pytest")
    assert demo.rpartition("&&")[0] == tests.rpartition("&&")[0]
    assert "requirements.lock" in demo


def test_the_lock_names_hashes_and_no_hosts() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^[a-z0-9][\w.-]*==", lock, flags=re.MULTILINE)
    hashed = re.findall(r"^[a-z0-9][\w.-]*==[^\n]*\\\n    --hash=sha256:", lock, flags=re.MULTILINE)
    assert len(pinned) == len(hashed) > 40


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: nothing can be committed from it")
def test_what_the_commands_write_into_the_clone_is_not_committed_with_it() -> None:
    commands = "\n".join([*blocks("by-hand"), *re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)])
    written = set(re.findall(r"(?:-o|--html|--junit|--markdown|>) ([\w./-]+\.\w+)", commands))
    assert {"prod.parquet", "peak.schedule.parquet", "runs/a.parquet", "diff.html", "diff.json"} <= written
    written |= {"prod.parquet.segments/segment-000001.parquet", "runs/a.parquet.partial", "a.parquet.scrape"}
    written |= {"peaktape-demo/prod.parquet", "peaktape-demo-2/diff.html", "session.har", "flows.mitm"}
    asked = ["git", "check-ignore", "--no-index", *sorted(written)]
    ignored = subprocess.run(asked, capture_output=True, text=True, cwd=ROOT)
    assert written - set(ignored.stdout.split()) == set()
    kept = ["git", "check-ignore", "--no-index", "samples/demo-traffic.parquet"]
    assert subprocess.run(kept, capture_output=True, cwd=ROOT).returncode == 1


@pytest.mark.parametrize(
    "verb",
    [
        "demo",
        "capture",
        "audit",
        "rekey",
        "recover",
        "inspect",
        "transform",
        "fit",
        "generate",
        "replay",
        "report",
        "diff",
        "ab",
        "history",
        "demo-server",
        "import har",
        "export har",
    ],
)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    found = peaktape_here(*verb.split(), "--help", cwd=ROOT, COLUMNS="120")
    assert found.returncode == 0
    assert f"peaktape {verb}" in found.stdout
    assert "Examples:" in found.stdout
