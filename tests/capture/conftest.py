"""What capture tests begin with: a spool folder of their own, whose leftovers can be seen, and a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capture_rig import Upstream, running_upstream

from capture.spool_folder import SPOOL_VARIABLE

if TYPE_CHECKING:
    from store_rig import Bucket, Server


@pytest.fixture(autouse=True)
def spools(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which captures of this test have their spools."""
    folder = tmp_path_factory.mktemp("spools")
    monkeypatch.setenv(SPOOL_VARIABLE, str(folder))
    return folder


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A server that a proxy can stand before."""
    async with running_upstream() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """An S3 server for all tests; moto takes a while to load, so only where it is wanted."""
    from store_rig import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, and an environment in which we and our children find it."""
    from store_rig import ENVIRONMENT, Bucket

    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server.endpoint}.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server)
