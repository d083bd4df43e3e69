"""What an operator sees of a running capture: metrics, health, log lines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from capture_rig import children_of, running_capture, running_upstream
from prometheus_client.parser import text_string_to_metric_families

from tests.command_line import peaktape_here

pytestmark = pytest.mark.slow

NAME = "peaktape_capture_"


def metrics_in(text: str) -> dict[str, float]:
    """Samples of one scrape, "name{label=value}" → value, ours only and without the prefix."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(NAME):
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                found[sample.name.removeprefix(NAME) + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


async def test_metrics_add_up_health_turns_and_all_that_is_said_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "segments"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(20)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    options = ("--metrics", "127.0.0.1:0", "--log-format", "json", "--segment-s", "0.3")
    async with (
        running_upstream() as upstream,
        running_capture(folder, "--upstream", upstream.url, "--filter", "!~u health", *options) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
        httpx.AsyncClient() as operator,
    ):
        told = [json.loads(line) for line in proxy.said]
        at = next(line["url"] for line in told if line["event"] == "watched")

        async def scrape() -> dict[str, float]:
            answer = await operator.get(f"{at}/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=")
            return metrics_in(answer.text)

        assert (await asyncio.to_thread(listening.recv, 4096)).startswith(b"READY=1\nSTATUS=seen 0 ")

        for path in ("/echo", "/echo", "/echo?health"):
            await client.post(path, content=b"not-in-the-log", headers={"authorization": "Bearer not-said"})
        while (now := await scrape())["requests_recorded_total"] < 2:  # noqa: ASYNC110 (another process counts)
            await asyncio.sleep(0.05)
        assert now["requests_seen_total"] == 3
        assert now["requests_not_chosen_total{reason=filter}"] == 1
        assert (now["requests_in_flight"], now["requests_waiting"], now["recording"]) == (0, 0, 1)
        assert (now["segments"], now["recorder_restarts_total"]) == (1, 0)
        assert now["segment_bytes"] == next(folder.glob("segment-*")).stat().st_size
        assert (await operator.get(f"{at}/readyz")).status_code == 200

        os.kill(proxy.process.pid, signal.SIGUSR2)
        folder.rename(tmp_path / "gone")
        (recorder,) = [pid for pid in children_of(proxy.process.pid) if b"recorder_process" in _command(pid)]
        os.kill(recorder, signal.SIGKILL)
        while not (answer := await operator.get(f"{at}/readyz")).is_server_error:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.05)
        assert answer.status_code == 503
        assert answer.json()["status"] == "unhealthy"
        assert (await operator.get(f"{at}/healthz")).json() == {"status": "ok", "reasons": []}
        assert (await client.post("/echo", content=b"served")).content == b"served"
        now = await scrape()
        assert now["recording"] == 0
        assert now["requests_not_chosen_total{reason=paused}"] == 1
        assert now["recorder_restarts_total"] >= 1
        (tmp_path / "gone").rename(folder)
        await proxy.stop(signal.SIGTERM)
    with listening:
        while not (last := listening.recv(4096)).startswith(b"STOPPING=1\n"):
            assert last.startswith(b"STATUS=seen "), last
    said = [json.loads(line) for line in proxy.said]
    assert all({"time", "level", "event", "message", "pid"} <= set(line) for line in said)
    assert {"capturing", "listening", "ended"} <= {line["event"] for line in said}
    assert any("is started again" in line["message"] and line["level"] == "warning" for line in said)
    assert "not-" not in "".join(proxy.said)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("flag", "value", "wanted"),
    [
        ("--filter", "~u /v1/ & (", "for example --filter"),
        ("--filter", "~nonsense x", "for example --filter"),
        ("--sample", "0", "such as 1%"),
        ("--max-body", "1XB", "a size such as 1MB"),
        ("--to", "2001-01-01T00:00", "is past"),
        ("--from", "breakfast", "09:00 wanted"),
        ("--metrics", "nowhere", "HOST:PORT wanted"),
        ("--metrics", "taken", "choose another port"),
    ],
)
def test_a_flag_that_makes_no_sense_is_one_line(flag: str, value: str, wanted: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = f"127.0.0.1:{taken.getsockname()[1]}" if value == "taken" else value
        options = ("--upstream", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "-o", "t")
        told = peaktape_here("capture", *options, flag, given, cwd=tmp_path)
    (line,) = told.stderr.splitlines()
    assert told.returncode == 2
    assert line.startswith(f"peaktape: {flag}")
    assert wanted in line
    assert os.listdir(tmp_path) == []
