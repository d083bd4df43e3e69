"""Frames that only a key opens: each sealed by itself, so that a file may still end or be damaged anywhere.

A sealed file begins with two equal KEY frames: the data key as its master key wrapped it, and a salt. Each
other frame's kind has `SEALED` added, and its payload is

    number (8 bytes, big endian) · AES-256-GCM of the payload, the kind as associated data

under a key that is the file's own, HKDF-SHA256 (RFC 5869) of data key and salt; the number counts up from 0
and is the nonce, so that none comes twice. Kinds and lengths stay readable, contents don't. Pure but for the
salt; where keys come from is in `encryption_keys`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from capture.encryption_keys import KEY_BYTES, Keys
from capture.failures import KeyRefused
from capture.journal import MAGIC, Buffer, Frame, Kind, frame_parts, frames_of, read_frames

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED: Final = 0x80
_NUMBER: Final = struct.Struct(">Q")
_NONCE_PAD: Final = bytes(4)
_SALT_BYTES: Final = 32
_PURPOSE: Final = b"peaktape frames"


class Seal:
    """Seals the frames of one file; `head` is what it begins with. Not thread-safe."""

    def __init__(self, keys: Keys) -> None:
        """Raises `KeyRefused` when a key service gives no key."""
        made, salt = keys.data_key, os.urandom(_SALT_BYTES)
        told = {"wrapped": made.wrapped, "master": made.master, "salt": salt.hex()}
        self.head = 2 * frame_parts(Kind.KEY, [json.dumps(told).encode()])
        self._cipher = _cipher(made.key, salt)
        self._count = 0

    def sealed(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """Frames as `frame_parts` made them, one after the other, as sealed frames."""
        found: list[Buffer] = []
        for kind, payload in frames_of(parts):
            number = _NUMBER.pack(self._count)
            self._count += 1
            whole = payload[0] if len(payload) == 1 else b"".join(payload)
            closed = self._cipher.encrypt(_NONCE_PAD + number, whole, bytes([kind]))
            found += frame_parts(kind | SEALED, (number, closed))
        return found


class Opener:
    """Opens the frames of one file, whether it is sealed or not; `place` is its name in failures."""

    def __init__(self, keys: Keys | None, place: str) -> None:
        self._keys = keys
        self._place = place
        self._cipher: AESGCM | None = None

    def opened(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames as they were before they were sealed; what was changed since is passed over.

        Raises `KeyRefused` when the file is sealed and the key is missing or wrong.
        """
        for frame in frames:
            if frame.kind == Kind.KEY:
                self._cipher = self._cipher or self._found(frame.payload)
            elif not frame.kind & SEALED:
                if self._cipher is None:  # else it is none of the file's own
                    yield frame
            elif self._cipher is None:
                raise KeyRefused(f"{self._place}: sealed, and its key frames are damaged; nothing opens it")
            else:
                payload = _open(self._cipher, frame)
                if payload is not None:
                    yield Frame(frame.kind ^ SEALED, memoryview(payload), frame.start, frame.end)

    def _found(self, payload: memoryview) -> AESGCM:
        if self._keys is None:
            raise KeyRefused(f"{self._place}: encrypted, and no key is given; add --key, or set PEAKTAPE_KEY")
        try:
            told = json.loads(bytes(payload))
            key = self._keys.unwrap(told["wrapped"], told["master"])
            return _cipher(key, bytes.fromhex(told["salt"]))
        except KeyRefused as error:
            raise KeyRefused(f"{self._place}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise KeyRefused(
                f"{self._place}: its key frame can't be read ({error}); upgrade peaktape"
            ) from error


def opened_frames(data: Buffer, keys: Keys | None, place: str) -> Iterator[Frame]:
    """The whole frames of a file, opened with `keys` if it is sealed; raises `KeyRefused` as `Opener`."""
    return Opener(keys, place).opened(read_frames(data))


def is_sealed(start: bytes) -> bool:
    """Whether a file that starts with `start` (`HEADER_BYTES` of it) is a sealed one."""
    return start.startswith(MAGIC + bytes([Kind.KEY]))


def sealed_text(text: str, keys: Keys | None) -> bytes:
    """A small file's content: `text` itself, or sealed if there are keys; for `opened_text`."""
    if keys is None:
        return text.encode()
    seal = Seal(keys)
    return b"".join([*seal.head, *seal.sealed(frame_parts(Kind.TEXT, [text.encode()]))])


def opened_text(data: bytes, keys: Keys | None, place: str) -> str:
    """What `sealed_text` made, "" when it is damaged; raises `KeyRefused` when the key doesn't open it."""
    if data.startswith(b"{"):
        return data.decode(errors="replace")
    texts = [frame.payload for frame in opened_frames(data, keys, place) if frame.kind == Kind.TEXT]
    return bytes(texts[0]).decode(errors="replace") if texts else ""


def _open(cipher: AESGCM, frame: Frame) -> bytes | None:
    from cryptography.exceptions import InvalidTag

    number, closed = frame.payload[: _NUMBER.size], frame.payload[_NUMBER.size :]
    try:
        return cipher.decrypt(_NONCE_PAD + number, closed, bytes([frame.kind ^ SEALED]))
    except (InvalidTag, ValueError):
        return None


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=_PURPOSE).derive(key)
    return AESGCM(derived)
