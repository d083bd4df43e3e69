"""The option `--key`, the same on every verb that reads or writes traces or runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from capture.encryption_keys import Keys

VARIABLE = "PEAKTAPE_KEY"

Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="SOURCE",
        envvar=VARIABLE,
        help="Encrypt what is written, decrypt what is read: env:NAME, file:PATH or "
        "kms:MODULE:CLASS[:MASTER] says where the key is.",
    ),
]


def keys_of(source: str | None) -> Keys | None:
    """The keys that the option names, None without it; raises `KeyRefused`."""
    if source is None:
        return None
    from capture.encryption_keys import Keys

    return Keys.of(source)


def key_file_of(keys: Keys | None) -> Path | None:
    """The file that holds the key, which nothing may be written over."""
    return None if keys is None else keys.path
