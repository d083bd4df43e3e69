"""A capture with a key: what it leaves on a disk, running, ended or killed, nobody reads without the key."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from capture_rig import CHECKOUT, PEAKTAPE, Upstream, eventually, processes_of, running_capture, segments_in
from recording_rig import Desk, exchange, give

from capture.encryption_keys import Keys
from capture.failures import BadInput, KeyRefused
from capture.journal_folder import ended_in, journals_in, left_behind
from capture.recording import Output
from capture.recovery import recover_folder
from capture.segments import MARKER_NAME
from capture.spool_folder import SPOOL_VARIABLE, lies_in_memory, new_spool
from capture.trace_reader import open_trace

KEY = "5a" * 32
OTHER = "a5" * 32
CANARY = "canary-in-the-clear"
MEMORY = "/dev/shm"  # noqa: S108 - a folder in memory is what is wanted


def keys(key: str = KEY) -> Keys:
    return Keys.of("env:K", {"K": key})


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory for the spools of this test."""
    if not lies_in_memory(MEMORY):
        pytest.skip(f"no file system in memory at {MEMORY}")
    with tempfile.TemporaryDirectory(prefix="peaktape-test-", dir=MEMORY) as folder:
        monkeypatch.setenv(SPOOL_VARIABLE, folder)
        yield Path(folder)


def holding(folder: Path) -> list[str]:
    """The files under `folder` that hold the canary."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


def test_a_sealed_journal_is_gone_on_from_and_becomes_an_encrypted_segment(
    tmp_path: Path, in_memory: Path
) -> None:
    folder = tmp_path / "segments"
    desk = Desk(folder, keys=keys())
    give(desk.recorder, *(exchange(number, body=f"{CANARY} {number}".encode()) for number in range(3)))
    assert desk.taken()
    desk.intake = desk.new_intake()  # as after a kill
    give(desk.recorder, exchange(3, body=CANARY.encode()))
    assert desk.taken()
    assert holding(folder) == []
    assert holding(in_memory) != []  # where they wait as they came
    journals = journals_in(folder)
    assert sum(ended_in(journal, keys()) for journal in journals) == 4
    for wrong in (None, keys(OTHER)):
        with pytest.raises(KeyRefused, match=r"journal-000001\.frames: encrypted"):
            left_behind(journals[0], wrong, to_last_state=True)
        with pytest.raises(KeyRefused, match=r"journal-000001\.frames: encrypted"):
            list(desk.compacted(wrong))
    assert journals_in(folder) == journals
    assert list(desk.compacted(keys())) == [{}, {}]
    assert holding(folder) == []
    found = open_trace(folder, keys()).column("request_body").to_pylist()
    assert found == [*(f"{CANARY} {number}".encode() for number in range(3)), CANARY.encode()]


def test_a_spool_on_a_disk_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SPOOL_VARIABLE, str(tmp_path))
    monkeypatch.setattr("capture.spool_folder.lies_in_memory", lambda _: False)
    with pytest.raises(BadInput, match=f"--key: {tmp_path} is on a disk, .* name a folder in memory"):
        new_spool(in_memory_only=True)
    assert list(tmp_path.iterdir()) == []
    assert new_spool().parent == tmp_path


@pytest.mark.parametrize(
    ("folder", "is_in_memory"),
    [
        ("/elsewhere", False),
        ("/run/peaktape", True),
        ("/runner", False),
        ("/run/disk/x", False),
        ("/mnt/two words/x", True),
        ("/twice", False),
    ],
)
def test_a_folder_lies_where_the_deepest_and_last_mount_says(folder: str, is_in_memory: bool) -> None:
    mounts = (
        "22 1 254:0 / / rw shared:1 - ext4 /dev/root rw\n"
        "23 22 0:21 / /run rw,nosuid shared:2 master:1 - tmpfs tmpfs rw\n"
        "24 23 254:1 / /run/disk rw - xfs /dev/vdb rw\n"
        "25 22 0:30 / /mnt/two\\040words rw - ramfs none rw\n"
        "26 22 0:31 / /twice rw - tmpfs tmpfs rw\n"
        "27 22 254:2 / /twice rw - ext4 /dev/vdc rw\n"
    )
    assert lies_in_memory(folder, mounts) is is_in_memory


def test_a_capture_is_not_written_over_its_key(tmp_path: Path) -> None:
    path = tmp_path / "key.parquet"
    path.write_text(KEY)
    path.chmod(0o600)
    with pytest.raises(BadInput, match=r"key\.parquet: is the input"):
        Output.named(path).prepare(Keys.of(f"file:{path}"), overwrite=True)
    assert path.read_text() == KEY


def test_plain_segments_that_stay_beside_encrypted_ones_are_told(
    tmp_path: Path, in_memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path / "prod")
    give(desk.recorder, exchange(1))
    assert desk.taken()
    assert list(desk.compacted()) == [{}]
    (tmp_path / "prod" / MARKER_NAME).touch()  # cut off
    assert Output.named(tmp_path / "prod").prepare(keys(), overwrite=False) is not None
    assert "segment-000001.parquet" in caplog.text
    assert open_trace(tmp_path / "prod", keys()).rows == 1


async def peaktape(*arguments: object) -> tuple[int | None, str]:
    """Exit code and stderr of a command."""
    command = [*PEAKTAPE, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.slow
async def test_kill_9_of_an_encrypted_capture_leaves_nothing_to_read_and_loses_nothing(
    tmp_path: Path, in_memory: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", KEY)
    output, folder = tmp_path / "prod.parquet", tmp_path / "prod.parquet.segments"
    options = ("--upstream", f"{upstream.url}", "--key", "env:OURS", "--segment-s", "0.3")
    async with running_capture(output, *options) as proxy:
        async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
            answer = await client.post(f"/echo?q={CANARY}", content=f"{CANARY} 0")
            assert answer.text == f"{CANARY} 0"
            await eventually(lambda: segments_in(folder))
            assert holding(tmp_path) == []
            waiting = asyncio.create_task(client.get(f"/silent?q={CANARY}"))
            await client.post("/echo", content=f"{CANARY} 1")
            await eventually(lambda: upstream.silences == 1 and journals_in(folder))
            for pid in (victims := processes_of(proxy)):
                os.kill(pid, signal.SIGSTOP)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            await proxy.process.wait()
            await asyncio.gather(waiting, return_exceptions=True)
        assert CANARY not in "".join(proxy.said)
    assert holding(tmp_path) == []
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for wrong in (None, keys(OTHER)):
        with pytest.raises(KeyRefused, match=r"\.capture\.json: encrypted"):
            recover_folder(folder, wrong)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    code, said = await peaktape("recover", output, "--key", "env:OURS")
    assert (code, said) == (0, "")
    assert holding(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["config", "prod.parquet"]
    rows = open_trace(output, keys())
    bodies = [body for body in rows.column("request_body").to_pylist() if body]
    assert bodies == [f"{CANARY} {number}".encode() for number in range(2)]
    assert rows.rows == 3
    assert "in_flight" in rows.column("outcome").to_pylist()
    assert os.listdir(in_memory) == []
