"""When something is wrong with the disk, the port, the output or our own code: clients don't notice."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import websockets
from capture_rig import (
    CHECKOUT,
    PEAKTAPE,
    Proxy,
    Upstream,
    eventually,
    metadata_of,
    processes_of,
    rows_of,
    running_capture,
    segments_in,
)

from capture.trace_reader import open_trace
from tests.command_line import peaktape_here

pytestmark = pytest.mark.slow


async def refusal(tmp_path: Path, *options: str) -> tuple[int | None, str]:
    """Exit code and stderr of a `peaktape capture` that is expected not to start."""
    process = await asyncio.create_subprocess_exec(
        *PEAKTAPE,
        "capture",
        *options,
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, said.decode()


async def test_a_port_in_use_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await refusal(
            tmp_path, "--upstream", "http://127.0.0.1:9", "--listen", address, "-o", "t.parquet"
        )
    assert code == 2
    assert said.startswith(f"peaktape: --listen {address}: Address already in use")
    assert len(said.splitlines()) == 1
    assert not segments_in(tmp_path / "t.parquet.segments")
    assert "t.parquet" not in os.listdir(tmp_path)


async def test_a_capture_that_cannot_start_leaves_the_earlier_one_even_with_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    (folder / "segment-000001.parquet").write_bytes(b"precious")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ("--upstream", "http://127.0.0.1:9", "--listen", address, "-o", str(folder))
        assert (await refusal(tmp_path, *options, "--overwrite"))[0] == 2
    assert (folder / "segment-000001.parquet").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--upstream", "localhost:8000"], "--upstream localhost:8000"),
        (["--upstream", "http://h/v1"], "no path"),
        (["--upstream", "http://h:99999999"], "--upstream"),
        ([], "--upstream: missing"),
        (["--mode", "regular", "--upstream", "http://h"], "--mode regular"),
        (["--upstream", "http://h", "--listen", "nowhere"], "--listen nowhere"),
    ],
)
def test_options_that_make_no_sense_are_one_line(tmp_path: Path, options: list[str], told: str) -> None:
    ended = peaktape_here("capture", "-o", "t.parquet", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def test_a_service_goes_on_in_the_folder_of_its_last_start(upstream: Upstream, tmp_path: Path) -> None:
    for turn in range(2):
        options = ("--upstream", upstream.url, "--append")
        async with (
            running_capture(tmp_path / "segments", *options) as proxy,
            httpx.AsyncClient(base_url=proxy.url) as client,
        ):
            await client.post("/echo", content=f"turn {turn}".encode())
            assert await proxy.stop() == 0
    batches = open_trace(tmp_path / "segments").iter_batches(("request_body",))
    bodies = [body for batch in batches for body in batch.column("request_body").to_pylist()]
    assert bodies == [b"turn 0", b"turn 1"]


@pytest.mark.parametrize("option", [("-o", "file.parquet"), ("--overwrite",)])
def test_what_can_not_be_gone_on_with_is_one_line(tmp_path: Path, option: tuple[str, ...]) -> None:
    given = ("-o", "folder", "--upstream", "http://127.0.0.1:9", "--append", *option)
    ended = peaktape_here("capture", *given, cwd=tmp_path)
    assert ended.returncode == 2
    assert "--append: " in ended.stderr.splitlines()[-1]
    assert "a folder to add segments to wanted" in ended.stderr


def test_an_existing_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("precious")
    for name in ("t.parquet", "folder"):
        ended = peaktape_here("capture", "--upstream", "http://127.0.0.1:9", "-o", name, cwd=tmp_path)
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1
    given = ("--upstream", "http://127.0.0.1:9", "-o", "folder", "--overwrite")
    code = peaktape_here("capture", *given, cwd=tmp_path).returncode
    assert code == 2, "a folder with strangers' files is not emptied even with --overwrite"
    assert (tmp_path / "t.parquet").read_bytes() == b"precious"
    assert (tmp_path / "folder" / "notes.txt").read_text() == "precious"


def limit_files(proxy: Proxy, limits: tuple[int, int]) -> None:
    """Let the recorder and its children write no file beyond the limit: as if the disk were full."""
    for pid in processes_of(proxy)[1:]:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@pytest.mark.alone
async def test_clients_are_served_while_the_disk_is_full_and_the_loss_is_counted_and_shown(
    upstream: Upstream, tmp_path: Path
) -> None:
    folder = tmp_path / "segments"
    options = ("--upstream", upstream.url, "--segment-s", "0.2", "--segment-mb", "1")
    body = bytes(range(256)) * 4096
    async with (
        running_capture(folder, *options) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        limits = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
        limit_files(proxy, (1, limits[1]))
        for _ in range(12):
            assert (await client.post("/echo", content=body)).content == body
            await asyncio.sleep(0.15)
        assert not segments_in(folder)
        limit_files(proxy, limits)
        await eventually(lambda: segments_in(folder))
        await client.post("/echo", content=b"after")
        assert await proxy.stop() == 0
    counts = metadata_of(folder)["counts"]
    rows = rows_of(folder)
    assert rows[-1]["request_body"] == b"after", "recording goes on once the disk takes it"
    assert counts["dropped"]["disk_full"] > 0
    assert counts["seen"] == 13 == counts["recorded"] + sum(counts["dropped"].values())
    assert counts["recorded"] == len(rows)
    assert "disk_full" in proxy.said[-2]


@pytest.mark.alone
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="no user namespaces here: a small file system can't be mounted",
)
async def test_a_file_system_without_space_loses_rows_and_no_client(
    upstream: Upstream, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    capture = (
        f"mount -t tmpfs -o size=2m none {disk} && exec {' '.join(PEAKTAPE)} capture -o {disk}/segments "
        f"--upstream {upstream.url} --listen 127.0.0.1:0 --segment-s 0.2 --segment-mb 1"
    )
    async with (
        running_capture(disk, command=["unshare", "-rm", "sh", "-c", capture]) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        seen_from_inside = Path(f"/proc/{proxy.process.pid}/root{disk}/segments")
        for _ in range(10):
            body = os.urandom(400_000)
            assert (await client.post("/echo", content=body)).content == body
            await asyncio.sleep(0.1)
        kept = rows_of(seen_from_inside)
        for _ in range(100):  # a busy machine compacts late
            before = len(kept)
            await asyncio.sleep(0.5)
            kept = rows_of(seen_from_inside)
            if 0 < before == len(kept):
                break
        assert 0 < len(kept) < 10, "each segment that is there is whole"
        assert await proxy.stop() == 0
    assert f"seen 10 · recorded {len(kept)} " in proxy.said[-2]
    assert f"dropped {10 - len(kept)} " in proxy.said[-2]
    causes = dict(re.findall(r"(\w+) (\d+)", proxy.said[-2].partition("(")[2].partition(")")[0]))
    # A queue may be full before the recorder has said why.
    assert set(causes) <= {"disk_full", "queue_full"}
    assert "disk_full" in causes


OBEYING = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""As root, who may write where nobody may: a process that may not."""


@pytest.mark.skipif(
    os.geteuid() == 0
    and (
        shutil.which("setpriv") is None
        or subprocess.run([*OBEYING, "true"], check=False, capture_output=True).returncode != 0
    ),
    reason="no setpriv here: root may write into every folder",
)
async def test_a_folder_that_becomes_read_only_loses_nothing_that_fits_the_spool(
    upstream: Upstream, tmp_path: Path
) -> None:
    folder = tmp_path / "segments"
    capture = [*PEAKTAPE, "capture", "--upstream", upstream.url, "--listen", "127.0.0.1:0"]
    capture += ["-o", str(folder), "--segment-s", "0.2"]
    async with (
        running_capture(folder, command=[*(OBEYING if os.geteuid() == 0 else []), *capture]) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        await client.post("/echo", content=b"before")
        await eventually(lambda: segments_in(folder))
        folder.chmod(0o555)
        try:
            before = len(segments_in(folder))
            for number in range(8):
                body = f"meanwhile {number}".encode()
                assert (await client.post("/echo", content=body)).content == body
                await asyncio.sleep(0.1)
            assert len(segments_in(folder)) == before
        finally:
            folder.chmod(0o755)
        await client.post("/echo", content=b"after")
        await eventually(lambda: len(segments_in(folder)) > before)
        assert await proxy.stop() == 0
    counts = metadata_of(folder)["counts"]
    assert counts == {"seen": 10, "recorded": 10, "dropped": {}}
    bodies = [row["request_body"] for row in rows_of(folder)]
    assert bodies == [b"before", *(f"meanwhile {number}".encode() for number in range(8)), b"after"]


async def test_a_disk_that_takes_nothing_fails_the_capture_and_no_client(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = tmp_path / "prod.parquet"
    async with (
        running_capture(output, "--upstream", upstream.url) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)[1]
        limit_files(proxy, (1, hard))
        assert (await client.post("/echo", content=b"served")).content == b"served"
        assert await proxy.stop() == 2
    assert "dropped 1 (disk_full 1)" in proxy.said[-2]
    assert proxy.said[-1].startswith(f"peaktape: {output}: nothing could be written (disk_full: ")
    assert not output.exists()


PARENT = """
import subprocess, sys, os
capture = subprocess.Popen([*sys.argv[1:], "--parent-pid", str(os.getpid())])
capture.wait()
"""


async def test_a_capture_ends_in_order_when_its_parent_is_killed(upstream: Upstream, tmp_path: Path) -> None:
    output = tmp_path / "prod.parquet"
    capture = [*PEAKTAPE, "capture", "--upstream", upstream.url, "--listen", "127.0.0.1:0", "-o", str(output)]
    async with (
        running_capture(output, command=[sys.executable, "-c", PARENT, *capture]) as parent,
        httpx.AsyncClient(base_url=parent.url) as client,
    ):
        await client.post("/echo", content=b"kept")
        parent.process.kill()
        await eventually(lambda: any(line.startswith("trace: ") for line in parent.said), timeout_s=10)
    (row,) = rows_of(output)
    assert row["request_body"] == b"kept"
    assert not (tmp_path / "prod.parquet.segments").exists()


BROKEN_ADDON = """
import sys
from pathlib import Path
from capture import addon, proxy, recorder

class Broken(recorder.Recorder):
    def {hook}(self, *args):
        raise RuntimeError("broken on purpose")

chosen = proxy.ProxyOptions("127.0.0.1", 0, sys.argv[1], certificates=Path(sys.argv[2]) / "ca")
broken = Broken(Path(sys.argv[2]), recorder.RecorderOptions(), "test")
proxy.run_proxy(chosen, broken, lambda at: print("listening on", at, file=sys.stderr, flush=True))
"""


@pytest.mark.parametrize("hook", ["opened", "closed"])
async def test_a_recorder_that_raises_changes_no_byte(upstream: Upstream, tmp_path: Path, hook: str) -> None:
    program = [sys.executable, "-c", BROKEN_ADDON.replace("{hook}", hook), upstream.url, str(tmp_path)]
    async with (
        running_capture(tmp_path / "unused", command=program) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        for body in (b"a" * 100_000, b"b"):
            assert (await client.post("/echo", content=body)).content == body
        assert "RuntimeError in " in "".join(proxy.said)


BROKEN_STREAM = """
from capture import exchange
def take(self, *args):
    raise RuntimeError("broken on purpose")
exchange.Exchange.take = take
from replay.cli import main
import sys
sys.argv = ["peaktape", *sys.argv[1:]]
main()
"""


async def test_a_failure_while_a_response_passes_costs_the_row_and_not_the_bytes(
    upstream: Upstream, tmp_path: Path
) -> None:
    output = tmp_path / "prod.parquet"
    capture = ["capture", "--upstream", upstream.url, "--listen", "127.0.0.1:0", "-o", str(output)]
    async with (
        running_capture(output, command=[sys.executable, "-c", BROKEN_STREAM, *capture]) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        body = b"c" * 200_000
        assert (await client.post("/echo", content=body)).content == body
        assert (await client.get("/echo")).content == b""
        assert await proxy.stop() == 0
    assert metadata_of(output)["counts"] == {"seen": 2, "recorded": 1, "dropped": {"addon_error": 1}}


async def test_segments_that_cannot_be_merged_stay_and_are_named(upstream: Upstream, tmp_path: Path) -> None:
    output = tmp_path / "prod.parquet"
    async with (
        running_capture(output, "--upstream", upstream.url, "--segment-s", "0.1") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as client,
    ):
        await client.post("/echo", content=b"kept")
        folder = tmp_path / "prod.parquet.segments"
        await eventually(lambda: segments_in(folder))
        (folder / "segment-999999.parquet").write_bytes(b"PAR1 broken PAR1")
        assert await proxy.stop() == 2, "the file that was asked for is not there"
    assert not output.exists()
    assert proxy.said[-1].startswith("peaktape: ")
    assert "could not be made one file" in proxy.said[-1]
    assert str(folder) in proxy.said[-1]
    assert rows_of_readable(folder) == [b"kept"]


def rows_of_readable(folder: Path) -> list[bytes]:
    (folder / "segment-999999.parquet").unlink()
    return [row["request_body"] for row in rows_of(folder)]


@pytest.mark.parametrize(("name", "number"), [("segments", signal.SIGTERM), ("prod.parquet", signal.SIGINT)])
async def test_mitmdump_runs_the_addon_by_its_path(
    upstream: Upstream, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    output = tmp_path / name
    mitmdump = str(Path(sys.executable).with_name("mitmdump"))
    program = [
        mitmdump, "-s", str(CHECKOUT / "capture" / "addon.py"), "--mode", f"reverse:{upstream.url}",
        "--listen-host", "127.0.0.1", "--listen-port", "0", "--set", f"confdir={tmp_path / 'ca'}",
        "--set", f"peaktape_out={output}", "--set", "connection_strategy=lazy",
    ]  # fmt: skip
    async with (
        running_mitmdump(program, tmp_path, number) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        assert (await client.post("/echo", content=b"through mitmdump")).content == b"through mitmdump"
    assert output.is_file() == name.endswith(".parquet"), "a name means the same as for `peaktape capture`"
    assert not output.with_name(f"{name}.segments").exists()
    (row,) = rows_of(output)
    assert (row["request_body"], row["outcome"]) == (b"through mitmdump", "complete")
    assert metadata_of(output)["source"] == "mitmproxy addon"


async def test_mitmdump_tells_the_addon_of_websocket_messages(tmp_path: Path) -> None:
    async def answer(socket: websockets.ServerConnection) -> None:
        async for message in socket:
            await socket.send(message[::-1])

    mitmdump = str(Path(sys.executable).with_name("mitmdump"))
    async with websockets.serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        program = [
            mitmdump, "-s", str(CHECKOUT / "capture" / "addon.py"), "--mode", f"reverse:http://127.0.0.1:{port}",
            "--listen-host", "127.0.0.1", "--listen-port", "0", "--set", f"confdir={tmp_path / 'ca'}",
            "--set", f"peaktape_out={tmp_path / 'prod.parquet'}", "--set", "connection_strategy=lazy",
        ]  # fmt: skip
        async with (
            running_mitmdump(program, tmp_path, signal.SIGTERM) as url,
            websockets.connect(f"ws{url[4:]}/") as socket,
        ):
            await socket.send("hello")
            assert await socket.recv() == "olleh"
            await socket.close()
    (row,) = rows_of(tmp_path / "prod.parquet")
    assert (row["request_body"], row["response_body"], row["outcome"]) == (b"hello", b"olleh", "complete")
    assert (row["message_from_client"], row["message_text"]) == ([True, False], [True, True])
    assert (row["message_bytes"], row["error"]) == ([5, 5], None)


class running_mitmdump:  # noqa: N801
    """mitmdump as a process; it says on stdout where it listens."""

    def __init__(self, program: list[str], folder: Path, number: signal.Signals) -> None:
        self._program, self._folder, self._number = program, folder, number

    async def __aenter__(self) -> str:
        self._process = await asyncio.create_subprocess_exec(
            *self._program, cwd=self._folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            async for line in self._process.stdout:
                if b"listening at" in line:
                    return "http://" + line.split()[-1].decode().rstrip(".")
        raise AssertionError("mitmdump did not start")

    async def __aexit__(self, *_: object) -> None:
        self._process.send_signal(self._number)
        await asyncio.wait_for(self._process.communicate(), 30)
