"""Keys of encryption at rest: what `--key` names, and the data keys that are wrapped by it.

The master key encrypts no data. It wraps data keys (AES-256-GCM, NIST SP 800-38D, 96-bit random nonces), each
of which stands, wrapped, in the file that it encrypts; a key service does the same out of this process. What
data keys are used for is in `encrypted_parquet` and `sealing`. Neither a key nor anything it could be read
from is ever in a message of a failure.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import functools
import importlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from capture.failures import KeyRefused

if TYPE_CHECKING:
    import pyarrow.parquet.encryption as parquet_encryption

KEY_BYTES: Final = 32
MASTER: Final = "peaktape"
"""The master key's name in files, and the one that a key service is asked for unless told otherwise."""
_FORMS: Final = "env:NAME, file:PATH or kms:MODULE:CLASS[:MASTER] wanted"
_NEXT: Final = re.compile(r",(?=(?:env|file|kms):)")
_NONCE_BYTES: Final = 12
_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]+={0,2}")

logger = logging.getLogger(__name__)


class KeyClient(Protocol):
    """What wraps data keys: pyarrow's `KmsClient`, or anything with its two methods."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str: ...

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class DataKey:
    """32 bytes that encrypt data, and what stands for them in a file: `key` wrapped by the key `master`."""

    key: bytes = dataclasses.field(repr=False)
    wrapped: str
    master: str


@dataclasses.dataclass(frozen=True)
class Keys:
    """One master key and all that it opens; `source` is how the user named it.

    `secret` is the key itself, None with a key service, whose class `service` names. `path` is the file that
    holds it, if one does. `others` open what this one doesn't, and encrypt nothing: a trace may have segments
    from before its key was changed. Can be pickled; caches unwrapped keys, of these master keys only.
    """

    source: str
    secret: bytes | None = dataclasses.field(default=None, repr=False)
    service: str = ""
    master: str = MASTER
    path: Path | None = None
    others: tuple[Keys, ...] = ()

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] = os.environ) -> Keys:
        """The keys that `--key` names, one or several with commas between: the first is the one to encrypt.

        Raises `KeyRefused` for what is none of the three forms, is not there, is no key of 256 bits, or can
        be replaced by everybody; a key that everybody can read is warned of.
        """
        first, *others = (cls._one(part, environment) for part in _NEXT.split(text))
        return dataclasses.replace(first, others=tuple(others)) if others else first

    @classmethod
    def _one(cls, text: str, environment: Mapping[str, str]) -> Keys:
        kind, _, rest = text.partition(":")
        if kind == "env" and rest:
            if not environment.get(rest):
                raise KeyRefused(
                    f"--key env:{rest}: this environment variable is not set; export {_said_how(rest)}"
                )
            return cls(text, _key_in(environment[rest].encode(), text))
        if kind == "file" and rest:
            path = Path(rest).absolute()
            return cls(text, _key_in(_read(path, text), text), path=path)
        if kind == "kms" and rest:
            return _with_service(text, rest)
        # What was found is not said: it may be the key itself.
        raise KeyRefused(f"--key: {_FORMS}; the key itself never stands on a command line")

    def wrap(self, key: bytes) -> DataKey:
        """`key` as a data key under the master key; raises `KeyRefused`."""
        with self._asking():
            return DataKey(key, _text(self.client.wrap_key(key, self.master)), self.master)

    def unwrap(self, wrapped: str, master: str) -> bytes:
        """The data key that was wrapped by the key of that name; raises `KeyRefused` if none opens it."""
        refusals = []
        for one in (self, *self.others):
            try:
                return one._unwrapped_by_this(wrapped, master)
            except KeyRefused as error:
                refusals.append(error)
        if len(refusals) == 1:
            raise refusals[0]
        raise KeyRefused(f"none of the keys opens it: {'; '.join(map(str, refusals))}") from refusals[0]

    def _unwrapped_by_this(self, wrapped: str, master: str) -> bytes:
        known = self._unwrapped.get((wrapped, master))
        if known is None:
            with self._asking():
                known = bytes(self.client.unwrap_key(wrapped, master))
            self._unwrapped[wrapped, master] = known
        return known

    @functools.cached_property
    def data_key(self) -> DataKey:
        """This process's own data key for frames (see `sealing`), made when it is first asked for."""
        made = self.wrap(os.urandom(KEY_BYTES))
        self._unwrapped[made.wrapped, made.master] = made.key
        return made

    @functools.cached_property
    def client(self) -> KeyClient:
        """What wraps and unwraps; raises `KeyRefused` when the key service's class can't be had."""
        return _MasterKey(self.secret) if self.secret is not None else _client_of(self.service, self.source)

    @functools.cached_property
    def crypto(self) -> parquet_encryption.CryptoFactory:
        """pyarrow's door to Parquet's encryption with these keys.

        Of these alone: a factory caches what it has unwrapped, so a wrong key would seem to read.
        """
        import pyarrow.parquet.encryption as parquet_encryption

        outer = self

        class Bridge(parquet_encryption.KmsClient):  # type: ignore[misc]
            def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
                with outer._asking():
                    return _text(outer.client.wrap_key(key_bytes, master_key_identifier))

            def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
                return outer.unwrap(wrapped_key, master_key_identifier)

        return parquet_encryption.CryptoFactory(lambda _: Bridge())

    def handed_over(self) -> str:
        """One line for a child of ours, which needs neither environment nor file then: see `taken_over`.

        It holds the key: for a pipe, never for a command line or a disk.
        """
        made = self.data_key
        told = {**self._told(), "data_key": made.key.hex(), "wrapped": made.wrapped}
        return json.dumps({**told, "others": [one._told() for one in self.others]})

    def _told(self) -> dict[str, str | None]:
        facts = {"source": self.source, "service": self.service, "master": self.master}
        return {**facts, "secret": self.secret.hex() if self.secret else None}

    @classmethod
    def taken_over(cls, line: str) -> Keys | None:
        """What a parent handed over; None for an empty line."""
        if not line.strip():
            return None
        told = json.loads(line)
        keys, *others = (
            cls(
                one["source"],
                bytes.fromhex(one["secret"]) if one["secret"] else None,
                one["service"],
                one["master"],
            )
            for one in (told, *told["others"])
        )
        keys = dataclasses.replace(keys, others=tuple(others))
        made = DataKey(bytes.fromhex(told["data_key"]), told["wrapped"], told["master"])
        keys.__dict__["data_key"] = made
        keys._unwrapped[made.wrapped, made.master] = made.key
        return keys

    @functools.cached_property
    def _unwrapped(self) -> dict[tuple[str, str], bytes]:
        return {}

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Whatever a key service raises is one line that names it."""
        try:
            yield
        except KeyRefused:
            raise
        except _WrongKeyError as error:
            raise KeyRefused(
                f"encrypted with another key than {self.source} gives; name the one it was written with"
            ) from error
        except Exception as error:
            raise KeyRefused(f"{self.source} refuses ({_first_line(error)}); ask whoever runs it") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Keys, (self.source, self.secret, self.service, self.master, self.path, self.others)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that hold any of the keys."""
        return tuple(one.path for one in (self, *self.others) if one.path is not None)

    def alone(self) -> Keys:
        """The first of these keys, that which encrypts, without the others and what any has unwrapped."""
        return dataclasses.replace(self, others=())

    @property
    def masters_asked(self) -> frozenset[str]:
        """The names of the master keys by which data keys have been unwrapped: a service may have several."""
        return frozenset(master for _, master in self._unwrapped)


class _WrongKeyError(Exception):
    """What was to be unwrapped was wrapped by another key."""


class _MasterKey:
    """Wraps with a key that is here."""

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(secret)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, key_bytes, master_key_identifier.encode())
        return base64.b64encode(nonce + sealed).decode()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            raw = base64.b64decode(wrapped_key, validate=True)
            name = master_key_identifier.encode()
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], name)
        except (InvalidTag, ValueError) as error:
            raise _WrongKeyError from error


def _with_service(text: str, rest: str) -> Keys:
    module, _, other = rest.partition(":")
    name, _, master = other.partition(":")
    if not module or not name:
        raise KeyRefused(f"--key {text}: kms:MODULE:CLASS[:MASTER] wanted; for example kms:ours.vault:Client")
    keys = Keys(text, service=f"{module}:{name}", master=master or MASTER)
    keys.client  # noqa: B018 - a service that can't be had is told before anything is begun
    return keys


def _client_of(service: str, source: str) -> KeyClient:
    """An object of the class MODULE:CLASS, made as pyarrow makes it: with a `KmsConnectionConfig`."""
    module, _, name = service.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise KeyRefused(
            f"--key {source}: can't be imported ({_first_line(error)}); install it, or name its folder in "
            "PYTHONPATH"
        ) from error
    import pyarrow.parquet.encryption as parquet_encryption

    try:
        client: KeyClient = found(parquet_encryption.KmsConnectionConfig())
    except Exception as error:
        raise KeyRefused(f"--key {source}: {name} can't be begun ({_first_line(error)})") from error
    lacks = [one for one in ("wrap_key", "unwrap_key") if not callable(getattr(client, one, None))]
    if lacks:
        raise KeyRefused(f"--key {source}: {name} has no {lacks[0]}; samples/key_service.py shows one")
    return client


def _read(path: Path, text: str) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(4097)
    except OSError as error:
        raise KeyRefused(f"--key {text}: can't be read ({error.strerror}); a key's file wanted") from error
    if mode & stat.S_IWOTH:
        raise KeyRefused(f"--key {text}: everybody may write it; make it yours alone: chmod 600 {path}")
    if mode & stat.S_IROTH:
        logger.warning("peaktape: the key in %s can be read by everybody here; chmod 600 it", path)
    return data


def _key_in(data: bytes, text: str) -> bytes:
    """The 32 bytes that `data` is or spells, as hex or base64; raises `KeyRefused`."""
    spelt = data.strip()
    if _HEX.fullmatch(spelt):
        key = binascii.unhexlify(spelt)
    elif _BASE64.fullmatch(spelt) and len(spelt.rstrip(b"=")) % 4 != 1:
        key = base64.b64decode(spelt.rstrip(b"=") + b"==", altchars=b"-_" if {*b"-_"} & {*spelt} else None)
    else:
        key = data
    if len(key) != KEY_BYTES:
        found = "nothing" if not data else f"{len(key)} bytes" if len(data) <= 4096 else "a long file"
        raise KeyRefused(
            f"--key {text}: {found} found, {KEY_BYTES} bytes wanted, raw, in hex or base64; "
            "make one: openssl rand -hex 32"
        )
    return key


def _said_how(name: str) -> str:
    return f"it first, for example {name}=$(openssl rand -hex 32)"


def _text(wrapped: str | bytes) -> str:
    return wrapped.decode() if isinstance(wrapped, bytes) else wrapped


def _first_line(error: BaseException) -> str:
    said = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
