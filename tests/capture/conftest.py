"""What capture tests begin with: a spool folder of their own, whose leftovers can be seen, and a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from capture_rig import Upstream, running_upstream

from capture.spool_folder import SPOOL_VARIABLE


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
