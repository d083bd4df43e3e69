"""What `--key` may name, and what is said when it is no key; wrapping, and a key service of one's own."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from key_rig import KEY, OTHER, key_file, keys

from capture.encrypted_parquet import open_parquet
from capture.encryption_keys import Keys
from capture.failures import KeyRefused
from capture.trace_format import TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import write_trace

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
RAW = bytes.fromhex(KEY)


@pytest.mark.parametrize(
    "spelt",
    [
        KEY.encode(),
        KEY.upper().encode() + b"\n",
        base64.b64encode(RAW),
        base64.urlsafe_b64encode(bytes(range(224, 256))).rstrip(b"="),
        bytes(range(32)),
    ],
    ids=["hex", "HEX and a line's end", "base64", "URL's base64", "raw"],
)
def test_a_key_is_32_bytes_however_they_are_spelt(tmp_path: Path, spelt: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(spelt)
    path.chmod(0o600)
    found = Keys.of(f"file:{path}")
    assert found.path == path
    assert found.secret in (RAW, bytes(range(224, 256)), bytes(range(32)))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (KEY, "env:NAME, file:PATH or kms:MODULE:CLASS[:MASTER] wanted"),
        ("env:", "env:NAME, file:PATH or kms:MODULE:CLASS[:MASTER] wanted"),
        ("env:UNSET", "--key env:UNSET: this environment variable is not set"),
        ("env:SHORT", "--key env:SHORT: 16 bytes found, 32 bytes wanted"),
        ("env:TEXT", "bytes found, 32 bytes wanted"),
        ("file:nowhere", "--key file:nowhere: can't be read (No such file or directory)"),
        ("file:/", "can't be read (Is a directory)"),
        ("env:LONG", "--key env:LONG: 33 bytes found, 32 bytes wanted"),
        ("kms:json", "kms:MODULE:CLASS[:MASTER] wanted"),
        ("kms:no.such.module:Client", "can't be imported (ModuleNotFoundError: No module named 'no')"),
        ("kms:json:NoSuch", "can't be imported (AttributeError"),
        ("kms:json:JSONDecoder", "JSONDecoder can't be begun (TypeError"),
        ("kms:builtins:repr", "repr has no wrap_key; samples/key_service.py shows one"),
    ],
)
def test_what_is_no_key_is_one_line_and_never_shows_what_may_be_one(source: str, words: str) -> None:
    environment = {"SHORT": "ab" * 16, "TEXT": "hunter2 is no key", "LONG": "cd" * 33}
    with pytest.raises(KeyRefused) as failure:
        Keys.of(source, environment)
    said = str(failure.value)
    assert words in said
    assert "\n" not in said
    assert not any(secret in said for secret in (KEY, *environment.values()))


def test_a_key_that_everybody_reads_is_warned_of_and_one_that_everybody_writes_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = key_file(tmp_path)
    Keys.of(f"file:{path}")
    assert caplog.records == []
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        Keys.of(f"file:{path}")
    assert "can be read by everybody" in caplog.text
    path.chmod(0o666)
    with pytest.raises(KeyRefused, match="everybody may write it"):
        Keys.of(f"file:{path}")


def test_no_representation_of_keys_shows_them() -> None:
    one = keys()
    shown = f"{one!r} {one} {one.data_key!r}"
    assert not any(key in shown for key in (KEY, RAW.hex(), repr(RAW), one.data_key.key.hex()))


def test_what_one_master_key_wraps_another_does_not_unwrap() -> None:
    made = keys().wrap(b"d" * 32)
    assert keys().unwrap(made.wrapped, made.master) == b"d" * 32
    assert b"d" * 32 not in base64.b64decode(made.wrapped)
    for other, wrapped, master in (
        (keys(OTHER), made.wrapped, made.master),
        (keys(), made.wrapped, "another name"),
        (keys(), "not base64!", made.master),
    ):
        with pytest.raises(KeyRefused, match="another key than env:K gives"):
            other.unwrap(wrapped, master)


def test_a_child_is_handed_all_it_needs_and_a_pickle_as_much() -> None:
    one = keys()
    child = Keys.taken_over(one.handed_over())
    assert child is not None
    assert child.data_key == one.data_key
    for other in (child, pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert other.unwrap(one.data_key.wrapped, one.data_key.master) == one.data_key.key
    assert Keys.taken_over("") is None


class _Transit(BaseHTTPRequestHandler):
    """As much of Vault's transit engine as the sample asks; the key named "down" is refused."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, _, engine, what, name = self.path.split("/")
        if engine != "transit" or name == "down" or self.headers["x-vault-token"] != "t":
            self.send_error(403, "permission denied")
            return
        prefix = f"vault:v1:{name}:"
        if what == "encrypt":
            answer = {"ciphertext": prefix + asked["plaintext"][::-1]}
        else:
            answer = {"plaintext": asked["ciphertext"].removeprefix(prefix)[::-1]}
        body = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
        self.server.asked.append(what)  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def transit(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a Vault on loopback was asked; the sample finds it."""
    server = HTTPServer(("127.0.0.1", 0), _Transit)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("VAULT_TOKEN", "t")
    monkeypatch.setattr(sys, "path", [str(SAMPLES), *sys.path])
    yield server.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_samples_key_service_wraps_and_unwraps_for_files_and_is_asked_seldom(
    tmp_path: Path, transit: list[str]
) -> None:
    one = Keys.of("kms:key_service:Vault:ours")
    for number in range(3):
        write_trace(tmp_path / f"{number}.parquet", (), TraceMetadata(0, "test"), keys=one)
    assert transit == ["encrypt"]
    other = Keys.of("kms:key_service:Vault")  # which key it was is in the files
    for number in range(3):
        assert open_parquet(tmp_path / f"{number}.parquet", other).metadata.num_rows == 0
    assert transit == ["encrypt", "decrypt"]
    assert other.unwrap(one.data_key.wrapped, one.data_key.master) == one.data_key.key


def test_a_key_service_that_refuses_is_one_line(
    tmp_path: Path, transit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    write_trace(path, (), TraceMetadata(0, "test"), keys=Keys.of("kms:key_service:Vault:ours"))
    words = r"kms:key_service:Vault\S* refuses \(HTTPError: HTTP Error 403: permission denied\)"
    down = Keys.of("kms:key_service:Vault:down")
    with pytest.raises(KeyRefused, match=words):
        write_trace(tmp_path / "no.parquet", (), TraceMetadata(0, "test"), keys=down)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
    monkeypatch.setenv("VAULT_TOKEN", "another")
    with pytest.raises(KeyRefused, match=rf"t\.parquet: {words}"):
        open_trace(path, Keys.of("kms:key_service:Vault:ours"))
    monkeypatch.delenv("VAULT_TOKEN")
    with pytest.raises(KeyRefused, match="Vault can't be begun"):
        Keys.of("kms:key_service:Vault:ours")
