"""`peaktape demo-server`: every knob of a build is an option, and Ctrl-C ends it well."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys

import httpx
import typer
import typer.main

from replay.cli.serve import serve_demo
from replay.demo.build import Build, option_name


def test_every_knob_is_an_option_with_the_build_s_default_and_a_help_text():
    app = typer.Typer(add_completion=False)
    app.command()(serve_demo)
    options = {option.opts[0]: option for option in typer.main.get_command(app).params}
    for field in dataclasses.fields(Build):
        option = options.pop(option_name(field.name))
        assert option.default == field.default
        assert option.help
    assert set(options) == {"--host", "--port", "--arrivals"}


def test_it_serves_by_hand_until_ctrl_c(tmp_path):
    arrivals = tmp_path / "seen.parquet"
    command = [sys.executable, "-m", "replay.cli", "demo-server", "--port", "0", "--chat-slots", "2"]
    command += ["--arrivals", str(arrivals)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().removeprefix("listening on ").strip()
        metrics = httpx.get(f"{url}/metrics").text
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert 'num_slots{station="chat"} 2' in metrics
    assert arrivals.exists()
    again = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert again.returncode == 2
    assert again.stderr.startswith(f"peaktape: {arrivals}: exists already")
