"""The option `--key`, the same on every verb that reads or writes traces or runs; and what it is not for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from capture.encryption_keys import Keys
    from capture.object_store import StoredFile

VARIABLE = "PEAKTAPE_KEY"

Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="SOURCE",
        envvar=VARIABLE,
        help="Encrypt what is written, decrypt what is read: env:NAME, file:PATH or "
        "kms:MODULE:CLASS[:MASTER] says where the key is. Several with commas: "
        "the first encrypts, each decrypts.",
    ),
]


def keys_of(source: str | None) -> Keys | None:
    """The keys that the option names, None without it; raises `KeyRefused`."""
    if source is None:
        return None
    from capture.encryption_keys import Keys

    return Keys.of(source)


def key_files_of(keys: Keys | None) -> tuple[Path, ...]:
    """The files that hold keys, which nothing may be written over."""
    return () if keys is None else keys.paths


def tell_in_the_clear(
    inputs: Iterable[Path | StoredFile], outputs: Iterable[Path | None], holds: str, keys: Keys | None
) -> None:
    """Say on stderr, in one line, what of encrypted inputs the outputs hold in the clear.

    Nothing where no input is encrypted, or no output was asked for (None).
    """
    from capture.encrypted_parquet import is_encrypted

    written = [str(path) for path in outputs if path is not None]
    if written and keys is not None and any(map(is_encrypted, inputs)):
        are = "is" if len(written) == 1 else "are"
        typer.echo(f"note: {', '.join(written)} {are} not encrypted; in the clear: {holds}", err=True)
