"""Every capture test has a spool folder of its own: what is left there afterwards can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.recorder import SPOOL_VARIABLE


@pytest.fixture(autouse=True)
def spools(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which captures of this test have their spools."""
    folder = tmp_path_factory.mktemp("spools")
    monkeypatch.setenv(SPOOL_VARIABLE, str(folder))
    return folder
