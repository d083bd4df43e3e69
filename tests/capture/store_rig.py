"""An S3 server in this process, moto's, that can be away for a while, and a bucket of one test in it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from recording_rig import exchange

from capture.compaction import write_segment
from capture.encryption_keys import Keys
from capture.object_store import ObjectStore, StoreUrl
from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "not-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class Server:
    """moto's server on one port; what it holds outlives its being away."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self._server.start()
        self.port: int = self._server.get_host_and_port()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.stop()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """While this lasts nobody listens on the port."""
        self._server.stop()
        try:
            yield
        finally:
            self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port)
            self._server.start()


@dataclasses.dataclass
class Bucket:
    """A bucket, seen by boto3: another client than ours."""

    server: Server
    name: str = dataclasses.field(default_factory=lambda: f"test-{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="not-secret",
        )
        self.client.create_bucket(Bucket=self.name)

    def url(self, path: str = "prod/") -> str:
        return f"s3://{self.name}/{path}"

    def store(self, path: str = "prod") -> ObjectStore:
        return ObjectStore(StoreUrl.parse(self.url(path)))

    def keys(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [entry["Key"] for entry in found if not entry["Key"].endswith("/")]

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data


def write_rows(path: Path, numbers: range, keys: Keys | None = None) -> Path:
    """A segment with these requests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = TraceMetadata(wall_zero_ns=1, source="test")
    write_segment(path, [batch_of([exchange(number).row() for number in numbers])], about, keys)
    return path


def outbox_segment(outbox: Path, number: int, capture: str = "20261128T000000Z-0123abcd") -> Path:
    """A segment of ten requests that waits in an outbox."""
    return write_rows(
        outbox / capture / f"segment-{number:06d}.parquet", range(10 * number, 10 * number + 10)
    )
