"""Opening what is to be imported: plain or compressed, with the share read so far, and one-line failures.

What the bytes mean is each importer's business.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from capture.failures import BadInput

GZIP_MAGIC: Final = b"\x1f\x8b"
ZLIB_MAGICS: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d+))?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII
)


class SourceFile:
    """A file opened for reading its bytes, gunzipped if need be, that knows how far it was read."""

    def __init__(self, path: Path, *, deflated: bool = False) -> None:
        """With `deflated` also zlib streams. Raises `BadInput` when `path` can't be read or is empty."""
        self.path = path
        with reading(path):
            self._raw = path.open("rb")
            self._size_bytes = os.fstat(self._raw.fileno()).st_size
            magic = self._raw.peek(2)[:2]
        if not self._size_bytes:
            self._raw.close()
            raise BadInput(f"{path}: empty file; a recording wanted")
        self.binary: io.BufferedReader = self._raw
        if magic == GZIP_MAGIC:
            self.binary = io.BufferedReader(gzip.GzipFile(fileobj=self._raw))
        elif deflated and magic in ZLIB_MAGICS:
            self.binary = io.BufferedReader(_Inflated(self._raw))

    def text(self, errors: str = "strict") -> io.TextIOWrapper:
        """The content as UTF-8 text without its byte order mark, line ends untouched."""
        return io.TextIOWrapper(self.binary, encoding="utf-8-sig", newline="", errors=errors)

    def starts_like_json(self) -> bool:
        """Whether the file begins with an opening brace, after a byte order mark or none."""
        return self.binary.peek(4)[:4].removeprefix(b"\xef\xbb\xbf").startswith(b"{")

    def fraction_read(self) -> float:
        """Share of the file's bytes taken in so far, 0 … 1."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size_bytes)

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong with a source's bytes into `BadInput` that names `path`."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path}: damaged compression ({error}); copy or download the file again") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start}: not UTF-8 text ({error.reason})") from error
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV ({error})") from error
    except OSError as error:
        raise BadInput(
            f"{path}: can't be read ({error.strerror or error}); an existing file wanted"
        ) from error


class _Inflated(io.RawIOBase):
    """A zlib stream, inflated as it is read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._inflate = zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            held = self._inflate.unconsumed_tail or self._raw.read(1 << 16)
            if not held:
                raise EOFError("it ends too early")
            made = self._inflate.decompress(held, len(buffer))
            if made:
                buffer[: len(made)] = made
                return len(made)
        return 0


def epoch_ns(text: str) -> int:
    """An ISO 8601 instant with any number of decimals → ns since 1970-01-01 UTC; UTC where no zone stands.

    Raises ValueError when `text` is no such instant, or lies outside 1950 … 2199 (offsets must fit int64).
    """
    parts = _INSTANT.fullmatch(text.strip())
    if parts is None:
        raise ValueError(text)
    day, clock, decimals, zone = parts.groups()
    instant = datetime.fromisoformat(f"{day}T{clock}{zone or '+00:00'}")
    if not 1950 <= instant.year < 2200:
        raise ValueError(text)
    seconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return seconds * 10**9 + int((decimals or "0").ljust(9, "0")[:9])
