"""Keys for tests, and every byte that a folder holds."""

from __future__ import annotations

from pathlib import Path

from capture.encryption_keys import Keys

KEY = "5a" * 32
OTHER = "a5" * 32
CANARY = "canary-in-the-clear"
"""Stands in headers, bodies and paths of what is to be encrypted."""


def keys(key: str = KEY) -> Keys:
    """Keys under this master key, new each time: nothing is cached between them."""
    return Keys.of("env:K", {"K": key})


def key_file(folder: Path, name: str = "trace.key", key: str = KEY) -> Path:
    """A file with a key, its owner's alone."""
    path = folder / name
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


def holding(folder: Path, text: str) -> list[str]:
    """The names of the files under `folder` that hold `text`, in their bytes or their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes() or text in str(path.name)]
