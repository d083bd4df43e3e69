"""An S3 bucket as a place for a trace's files: its URL, what lies there, and what its errors mean.

Everything goes through pyarrow's own S3 client. Credentials come from where AWS's clients look for them
(environment, profile, role), never from a URL. What is sent when is in `uploads`; how a trace is read from
here in `trace_reader`.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import os
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from capture.failures import BadInput

_CONNECT_S: Final = 5.0
_PIECE_BYTES: Final = 8 << 20
_TAIL_BYTES: Final = 8 << 10
_SUCCESSOR: Final = ".successor"
_OPTIONS: Final = ("endpoint_override", "region", "scheme", "anonymous")
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*:/")
_AWS_ERROR: Final = re.compile(r"AWS Error (\w+(?: \(HTTP status \d+\))?) during")
_NO_ACCESS: Final = (
    *("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_SIGNATURE"),
    *("MISSING_AUTHENTICATION_TOKEN", "INVALID_CLIENT_TOKEN_ID", "UNRECOGNIZED_CLIENT", "EXPIRED_TOKEN"),
    *("INCOMPLETE_SIGNATURE", "OPT_IN_REQUIRED", "UNKNOWN (HTTP status 400)", "UNKNOWN (HTTP status 401)"),
)


class StoreFailure(Exception):  # noqa: N818 - the text is the name
    """Something that the store did not do. `is_refusal`: it won't do it either when it is asked again."""

    def __init__(self, reason: str, way_out: str, *, is_refusal: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.way_out = way_out
        self.is_refusal = is_refusal

    def as_bad_input(self, place: object) -> BadInput:
        """The failure as one line."""
        return BadInput(f"{place}: {self.reason}; {self.way_out}")


def is_url(name: object) -> bool:
    """Whether a name is a URL and no path; also one whose slashes a `Path` has folded."""
    return _URL.match(str(name)) is not None


def refuse_url(name: object) -> None:
    """Raise `BadInput` for an output that is a URL and is written as a file."""
    if is_url(name):
        shown = re.sub(":/+", "://", str(name), count=1)
        raise BadInput(f"{shown}: only `peaktape capture -o` writes to a store; write a file, then copy it")


@dataclasses.dataclass(frozen=True)
class StoreUrl:
    """An `s3://BUCKET/PATH?OPTIONS`, taken apart; `path` has no slash at its ends, and may be empty."""

    bucket: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Raises `BadInput` for what is no such URL, or holds credentials."""
        parts = urlsplit(text)
        if parts.scheme != "s3" or not parts.netloc:
            raise BadInput(f"{_without_credentials(text)}: no such place; s3://BUCKET/PREFIX/ wanted")
        options = parse_qsl(parts.query, keep_blank_values=True)
        strange = [name for name, _ in options if name not in _OPTIONS]
        if "@" in parts.netloc or any("key" in name or "token" in name for name in strange):
            raise BadInput(
                f"{_without_credentials(text)}: holds credentials, which a URL shows to everybody; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if strange or parts.fragment:
            found = strange[0] if strange else f"#{parts.fragment}"
            raise BadInput(f"{text}: {found!r} found, only {', '.join(_OPTIONS)} are known")
        return cls(parts.netloc, "/".join(filter(None, parts.path.split("/"))), tuple(options))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.path}" if self.path else f"s3://{self.bucket}"

    @property
    def parent(self) -> StoreUrl:
        """The prefix that an object's URL lies below."""
        return dataclasses.replace(self, path=self.path.rpartition("/")[0])

    @property
    def key(self) -> str:
        """Bucket and path as pyarrow wants them."""
        return f"{self.bucket}/{self.path}" if self.path else self.bucket


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """One object: readable like a local file, and named by its URL."""

    url: StoreUrl
    size_bytes: int = 0
    modified_s: float = 0.0

    def __str__(self) -> str:
        return str(self.url)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.url.path.rpartition("/")[2]

    def open(self, mode: str = "rb") -> pa.NativeFile:
        """The object, to be read at any place; raises `BadInput` when it can't be had."""
        try:
            return _filesystem(self.url).open_input_file(self.url.key)
        except OSError as error:
            raise failure_of(error).as_bad_input(self) from error
        except StoreFailure as failure:
            raise failure.as_bad_input(self) from failure


class ObjectStore:
    """The objects right below one prefix. Every method raises `StoreFailure`."""

    def __init__(self, url: StoreUrl, attempts: int = 1) -> None:
        self.url = url
        self._attempts = attempts

    @property
    def _files(self) -> Any:
        return _filesystem(self.url, self._attempts)

    def check(self) -> None:
        """See that the bucket is there and may be looked into, in one or two requests."""
        from pyarrow.fs import FileType

        try:
            found = self._files.get_file_info(self.url.bucket)
        except OSError as error:
            failure = failure_of(error)
            if "ACCESS_DENIED" not in failure.reason:
                raise failure from error
            self._look(f"{self.url.key}/segment-")  # who may use a prefix need not see its bucket
            return
        if found.type == FileType.NotFound:
            raise no_such_bucket()

    def _look(self, key: str) -> None:
        try:
            self._files.get_file_info(key)
        except OSError as error:
            raise failure_of(error) from error

    def held(self) -> list[StoredFile]:
        """What lies there, by name; nothing when there is no such prefix."""
        from pyarrow.fs import FileSelector, FileType

        try:
            found = self._files.get_file_info(FileSelector(self.url.key, allow_not_found=True))
        except OSError as error:
            raise failure_of(error) from error
        files = [info for info in found if info.type == FileType.File]
        return sorted(
            (StoredFile(self.at(info.base_name), info.size, (info.mtime_ns or 0) / 1e9) for info in files),
            key=lambda file: file.name,
        )

    def at(self, name: str) -> StoreUrl:
        """Where the object of that name lies."""
        return dataclasses.replace(self.url, path=f"{self.url.path}/{name}" if self.url.path else name)

    def put(self, path: Path, name: str) -> None:
        """Store a local file, and see that it is there: its size and its last bytes are read back.

        An object appears whole, or is away again. What the local disk refuses is raised as OSError.
        """
        key = self.at(name).key
        with path.open("rb") as file:
            try:
                with self._files.open_output_stream(key) as stream:
                    while piece := file.read(_PIECE_BYTES):
                        stream.write(piece)
                size_bytes = file.tell()
                file.seek(max(0, size_bytes - _TAIL_BYTES))
                with self._files.open_input_file(key) as stored:
                    stored_bytes = stored.size()
                    stored.seek(max(0, stored_bytes - _TAIL_BYTES))
                    same = stored_bytes == size_bytes and stored.read() == file.read()
            except OSError as error:
                if error.errno and not isinstance(error, FileNotFoundError):  # pyarrow's have no number
                    self.delete(name)  # what the disk refused half-way is there half
                    raise
                raise failure_of(error) from error
        if not same:
            reason = f"{name} came back with {stored_bytes:,} bytes and another end, {size_bytes:,} were sent"
            raise StoreFailure(reason, "look at the store", is_refusal=False)

    def replace(self, path: Path, name: str) -> None:
        """Put a local file in an object's place: it is the new one whole, or as it was, whatever is cut off.

        A copy under another name (`_SUCCESSOR`) may be left then; the next `replace` of that object takes it
        away. What the local disk refuses is raised as OSError.
        """
        beside = name + _SUCCESSOR
        self.put(path, beside)
        try:
            self._files.copy_file(self.at(beside).key, self.at(name).key)
        except OSError as error:
            raise failure_of(error) from error
        finally:
            self.delete(beside)

    def delete(self, name: str) -> None:
        """Remove the object of that name; it is no failure when it is gone already."""
        try:
            self._files.delete_file(self.at(name).key)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failure_of(error) from error


def stored_files(text: str) -> list[StoredFile]:
    """The Parquet objects that a URL names, by name: one, those right below a prefix, or those of a glob.

    Raises `BadInput` when there are none, or when they can't be had.
    """
    from pyarrow.fs import FileType

    url = StoreUrl.parse(text)
    last = url.path.rpartition("/")[2]
    is_glob = any(sign in last for sign in "*[")
    below = url.parent if is_glob else url
    store = ObjectStore(below, attempts=3)
    try:
        if not is_glob and url.path:
            info = _filesystem(url).get_file_info(url.key)
            if info.type == FileType.File:
                return [StoredFile(url, info.size, (info.mtime_ns or 0) / 1e9)]
        found = [file for file in store.held() if file.name.endswith(".parquet")]
        found = [file for file in found if not is_glob or fnmatch.fnmatchcase(file.name, last)]
        if not found:
            store.check()
    except OSError as error:
        raise failure_of(error).as_bad_input(url) from error
    except StoreFailure as failure:
        raise failure.as_bad_input(url) from failure
    if not found:
        raise BadInput(f"{url}: no .parquet object there; name what `peaktape capture -o` was given")
    return found


def no_such_bucket() -> StoreFailure:
    """What is said where there is no bucket."""
    return StoreFailure("no such bucket", "make it, or name another one", is_refusal=True)


def failure_of(error: OSError) -> StoreFailure:
    """What an error of pyarrow's S3 client means, by the name that it gives it."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    match = _AWS_ERROR.search(text)
    name = match[1] if match else ""
    if name == "NO_SUCH_BUCKET":
        return no_such_bucket()
    if name in _NO_ACCESS:
        way_out = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of one who may"
        return StoreFailure(f"access denied ({name})", way_out, is_refusal=True)
    if "HTTP status 301" in name or "PermanentRedirect" in text:
        return StoreFailure("the bucket lies in another region", "add ?region=NAME", is_refusal=True)
    if isinstance(error, FileNotFoundError):
        return StoreFailure("no such object", "see what lies there", is_refusal=True)
    if name == "NETWORK_CONNECTION" or "curlCode" in text:
        said = text.partition("Details: ")[2] or text.rpartition("curlCode: ")[2]
        reason = f"can't be reached: {said.partition(' after ')[0]}"
        return StoreFailure(reason, "check AWS_ENDPOINT_URL and the network", is_refusal=False)
    said = text.partition("operation: ")[2].partition(" (Request ID")[0]
    reason = " ".join(filter(None, (name, said))) or text
    return StoreFailure(reason, "try again, or look at the store", is_refusal=False)


def _without_credentials(text: str) -> str:
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _filesystem(url: StoreUrl, attempts: int = 3) -> Any:
    options = dict(url.options)
    endpoint = (
        options.get("endpoint_override")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or ""
    )
    scheme, _, place = endpoint.rpartition("://")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _connected(
        url.bucket,
        place.rstrip("/"),
        scheme or options.get("scheme", "https"),
        region or "",
        options.get("anonymous", "").lower() == "true",
        attempts,
    )


@functools.cache  # but for what is raised
def _connected(bucket: str, endpoint: str, scheme: str, region: str, anonymous: bool, attempts: int) -> Any:
    from pyarrow import fs

    if not region and not endpoint:
        region = _region_of(bucket)
    return fs.S3FileSystem(
        anonymous=anonymous,
        region=region or ("us-east-1" if endpoint else None),
        endpoint_override=endpoint or None,
        scheme=scheme,
        connect_timeout=_CONNECT_S,
        allow_delayed_open=True,  # small segments in one request
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


def _region_of(bucket: str) -> str:
    """The region of a bucket of AWS, as AWS tells anybody; raises `StoreFailure`."""
    from pyarrow import fs

    try:
        return str(fs.resolve_s3_region(bucket))
    except OSError as error:
        raise no_such_bucket() if "not found" in str(error) else failure_of(error) from error
