"""The verb `rekey`: traces and runs under a new key."""

from __future__ import annotations

from typing import Annotated

import typer

from replay.cli.key_option import Key, keys_of


def rekey(
    place: Annotated[
        str, typer.Argument(help="A trace or a run: a file, a folder of such files, or a place in a store.")
    ],
    new_key: Annotated[
        str,
        typer.Option(
            "--new-key",
            metavar="SOURCE",
            help="The key to encrypt with from now on, named as --key names one.",
        ),
    ],
    key: Key = None,
) -> None:
    """Encrypt a trace or a run under a new key, in place; one that is plain is encrypted.

    Each file is replaced when its successor is whole; nothing is on a disk in
    the clear meanwhile. Interrupted, the same command goes on. Folders that
    were encrypted under several keys take several as --key. In a store, ages
    of segments begin anew for --max-age; stop the captures that send there
    first, or start them anew with the new key: they go on under their own.

    \b
    Examples:
      peaktape rekey prod/ --key file:old.key --new-key file:new.key
      peaktape rekey prod/ --key file:old.key,file:older.key --new-key kms:ours.vault:Client
      peaktape rekey plain.parquet --new-key file:new.key
      peaktape rekey s3://traces/prod/ --key file:old.key --new-key file:new.key
    """
    from rich.console import Console

    from capture.counts import counted
    from capture.encryption_keys import Keys
    from capture.rekeying import rekey as rekey_files
    from replay.cli.progress_bar import progress_bar

    new = Keys.of(new_key)
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("encrypting", total=None, rows="")
        done = rekey_files(
            place,
            keys_of(key),
            new,
            lambda done_bytes, all_bytes: progress.update(task, completed=done_bytes, total=all_bytes),
        )
    had = f"; {done.had_it:,} had it before" if done.had_it else ""
    typer.echo(f"{place}: {counted(done.files, 'file')} under {new.source} now{had}")
