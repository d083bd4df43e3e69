"""The one door to Parquet files that may be encrypted: Parquet modular encryption, footer and all columns.

A file's footer and columns are encrypted with one data key of 256 bits by AES-GCM (Parquet format,
Encryption.md: AES_GCM_V1, encrypted footer), so that not even names of columns or counts are in the clear,
and any change is found out. Under a key service the data key is wrapped twice, by way of a key of 128 bits
(Arrow's choice), so that the service is asked now and then and not for every file. Where keys come from is
in `encryption_keys`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from capture.encryption_keys import KEY_BYTES, Keys
from capture.failures import KeyRefused

ENCRYPTED_MAGIC: Final = b"PARE"
"""Begins and ends a Parquet file with an encrypted footer, where others have PAR1."""


class Readable(Protocol):
    """A file that is no local one: what opens it for reading, and its name as text."""

    def open(self, mode: str = ...) -> Any: ...


def is_encrypted(path: Path | Readable) -> bool:
    """Whether that is an encrypted Parquet file; False for any other file. Raises OSError."""
    with path.open("rb") as file:
        return bool(file.read(len(ENCRYPTED_MAGIC)) == ENCRYPTED_MAGIC)


def open_parquet(
    path: Path | Readable, keys: Keys | None = None, *, pre_buffer: bool = False
) -> pq.ParquetFile:
    """A Parquet file opened for reading, decrypted with `keys` if it is encrypted.

    In flat memory, unless the columns of a row group are to be asked for together (`pre_buffer`). Keys that a
    plain file has no need of are no failure. Raises `KeyRefused` for a key that is missing or wrong, and what
    `pq.ParquetFile` raises (OSError, ArrowException) when the file is damaged.
    """
    encrypted = is_encrypted(path)
    options = {"pre_buffer": pre_buffer, "memory_map": False}
    source = path if isinstance(path, Path) else path.open("rb")
    if not encrypted:
        return pq.ParquetFile(source, **options)
    if keys is None:
        raise KeyRefused(f"{path}: encrypted, and no key is given; add --key, or set PEAKTAPE_KEY")
    try:
        properties = keys.crypto.file_decryption_properties(_connection())
        return pq.ParquetFile(source, **options, decryption_properties=properties)
    except KeyRefused as error:
        raise KeyRefused(f"{path}: {error}") from error


def parquet_writer(
    path: Path, schema: pa.Schema, keys: Keys | None = None, **options: Any
) -> pq.ParquetWriter:
    """`pq.ParquetWriter`, which encrypts all that it writes if there are `keys`.

    The file is its owner's, and the group's to read as far as the umask allows: traces and runs hold prompts.
    Raises `KeyRefused` when a key service gives none, FileExistsError when something lies at `path` (also a
    link, which is not followed), else what the writer raises.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640))
    return pq.ParquetWriter(path, schema, encryption_properties=_encryption(keys), **options)


def _encryption(keys: Keys | None) -> Any:
    if keys is None:
        return None
    import pyarrow.parquet.encryption as parquet_encryption

    configuration = parquet_encryption.EncryptionConfiguration(
        footer_key=keys.master,
        uniform_encryption=True,
        double_wrapping=keys.secret is None,
        data_key_length_bits=8 * KEY_BYTES,
    )
    return keys.crypto.file_encryption_properties(_connection(), configuration)


def _connection() -> Any:
    import pyarrow.parquet.encryption as parquet_encryption

    return parquet_encryption.KmsConnectionConfig()
